"""`servermgr doctor`: what this machine guarantees, tried out; what is missing, and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr._cli_doctor_trials import MISSING, TRIALS, YES, Finding
from servermgr._cli_look import BAD, FAINT, GOOD, WARNING, Look

if TYPE_CHECKING:
    import argparse

EPILOG = """\
Nothing is taken from a table of systems: each guarantee is tried, with processes that try to get away. Nothing of
them stays, and nothing of anyone else is touched.

examples:
  servermgr doctor                 before the first run on a new machine or in a new container
  servermgr doctor --json          for a bug report

exit status: 0 all guarantees hold (there may be notes); 1 one is missing
"""
_MARKS = {YES: ("yes ", GOOD), MISSING: ("NO  ", BAD)}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """Try each; returns the exit status."""
    look = Look(as_json=options.json)
    findings = []
    for trial in TRIALS:
        with look.waiting("trying"):
            finding = trial()
        findings.append(finding)
        if not options.json:
            _show(finding, look)
    if options.json:
        look.data([finding._asdict() for finding in findings])
    return int(any(finding.holds == MISSING for finding in findings))


def _show(finding: Finding, look: Look) -> None:
    look.answer(_MARKS.get(finding.holds, ("note", WARNING)), "  ", finding.guarantee, (f"  ({finding.why})", FAINT))
    if finding.remedy:
        look.answer(f"      remedy: {finding.remedy}")
