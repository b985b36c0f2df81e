"""`servermgr sweep`: the end of what dead programs have left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr import _cli_trees, sweeping
from servermgr._cli_look import Look
from servermgr._cli_stop import tell

if TYPE_CHECKING:
    import argparse

EPILOG = """\
Ended is what the ledger proves to be ours and nobody has any more; the servers of a living program are not touched.

examples:
  servermgr sweep --dry-run        what would be ended, and by which evidence
  servermgr sweep                  end it

exit status: 0 nothing is left; 1 something could not be ended
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sweep`."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be ended, and why")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """End it."""
    look = Look(as_json=options.json)
    with look.waiting("sweeping"):
        trees = sweeping.sweep(dry_run=options.dry_run)
    _cli_trees.tell_unreadable(look)
    return tell(trees, look, "nothing is left over")
