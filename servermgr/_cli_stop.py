"""`servermgr stop` and what `servermgr sweep` says: the end of recorded trees."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from servermgr import _cli_trees, sweeping
from servermgr._cli_look import BAD, FAINT, GOOD, STRONG, Look
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    import argparse

    from servermgr.sweeping import SweptTree

EPILOG = """\
The name is the one that `servermgr ps` shows; `all` means every one of this user on this machine.

examples:
  servermgr stop db cache          these two
  servermgr stop all               all there are, live and left over

exit status: 0 they are gone; 1 there is no such server, or something of it could not be ended
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stop`."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="the server's name as `ps` shows it, or `all`")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """End them."""
    look = Look(as_json=options.json)
    names = _all_names() if options.names == ["all"] else options.names
    for name in names if options.names != ["all"] else ():
        _cli_trees.named(name)  # refused before anything is ended
    trees = []
    with look.waiting(*(f"stopping {name}" for name in names)) as progress:
        for name in names:
            trees += _stop(name)
            progress.done(f"stopping {name}")
    return tell(trees, look, "no server is running or left over")


def _all_names() -> list[str]:
    return list(dict.fromkeys(record.name for record in sweeping.recorded()))


def _stop(name: str) -> list[SweptTree]:
    try:
        return sweeping.stop(name)
    except WorkerError:  # it was there a moment ago: gone with another one, in which it ran
        return []


def tell(trees: list[SweptTree], look: Look, nothing: str) -> int:
    """Say what became of them; returns the exit status."""
    failed = any(tree.verdict == "survivors" for tree in trees)
    if look.as_json:
        look.data([tree._asdict() | {"processes": [found._asdict() for found in tree.processes]} for tree in trees])
        return int(failed)
    for tree in trees:
        verdict = (tree.verdict, BAD if tree.verdict == "survivors" else GOOD)
        look.answer((tree.name, STRONG), ": ", verdict, f" ({tree.seconds:.2f} s): {shlex.join(tree.argv)}")
        for found in tree.processes:
            look.answer(f"    {found.pid} {found.name}: {found.done}", (f" (claimed by {found.evidence})", FAINT))
    if not trees:
        look.answer(nothing)
    return int(failed)
