"""The soak: `python -m benchmarks.soak`, from the root of the checkout."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _soak_report as report
from benchmarks import environment, publish
from benchmarks._soak_kinds import KINDS, MIXTURE
from benchmarks._soak_look import Sample, judge, look
from benchmarks.command_line import begin, say

DESCRIPTION = """\
Start and stop servers over and over in one process, and watch what must not grow: descriptors, memory, threads,
zombies, records in the ledger, temporary files.

The cycles are of many kinds, in turns: plain commands, daemons, stubborn ones, probes, leased ports, adopted processes,
stacks of three, three threads at once. The exit status is 1 if the last third of the samples has more than the first.
"""
#: Samples in a whole run, besides the one before it.
SAMPLES = 120

Document = dict[str, Any]


class Soak:
    """Cycles in a folder of their own: temporary files and the ledger go there."""

    def __init__(self, kinds: Sequence[str], folder: Path) -> None:
        self._kinds = kinds
        self._work, self._temporary, self._ledger = (folder / name for name in ("work", "tmp", "ledger"))
        for path in (self._work, self._temporary, self._ledger):
            path.mkdir(mode=0o700)
        os.environ.update(TMPDIR=str(self._temporary), SERVERMGR_LEDGER=str(self._ledger))
        tempfile.tempdir = None  # it is looked up anew
        self.cycles = self.servers = 0
        self.samples: list[Sample] = []

    def run(self, cycles: int, seconds: float) -> None:
        """So many cycles after one of each kind, but no more once so many seconds have passed."""
        for kind in self._kinds:  # what the first of each kind loads and makes for good is no growth
            KINDS[kind](self._work)
        began = time.monotonic()
        every = max(1, cycles // SAMPLES)
        self._sample(began)
        turns = itertools.cycle(self._kinds)
        while self.cycles < cycles and time.monotonic() - began < seconds:
            self.servers += KINDS[next(turns)](self._work)
            self.cycles += 1
            if self.cycles % every == 0:
                self._sample(began)
                if len(self.samples) % 10 == 0:
                    say(f"{self.cycles:,} of {cycles:,} cycles, {time.monotonic() - began:.0f} s, {self.samples[-1]}")

    def _sample(self, began: float) -> None:
        sample = look(self._ledger, self._temporary)
        self.samples.append({"cycles": float(self.cycles), "seconds": round(time.monotonic() - began, 2), **sample})


def document(soak: Soak, kinds: Sequence[str], took: float, command: str) -> Document:
    """Everything, as it goes to JSON."""
    return {
        "environment": environment.describe(),
        "command": command,
        "kinds": list(dict.fromkeys(kinds)),
        "cycles": soak.cycles,
        "servers": soak.servers,
        "took": round(took, 1),
        "verdicts": [dataclasses.asdict(verdict) | {"grows": verdict.grows} for verdict in judge(soak.samples)],
        "samples": soak.samples,
    }


# ---- command line ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",") if options.kinds else list(MIXTURE)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    begin(parser)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    began = time.monotonic()
    try:
        soak = Soak(kinds, folder)
        soak.run(options.cycles, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    words = " ".join(["python -m benchmarks.soak", *(sys.argv[1:] if arguments is None else arguments)])
    found = document(soak, kinds, time.monotonic() - began, words)
    print(report.section(found))
    if options.json:
        Path(options.json).write_text(report.to_json(found), encoding="utf-8")
        say(f"written: {options.json}")
    if options.publish:
        publish.keep("soak", report.to_json(found))
    return int(any(verdict["grows"] for verdict in found["verdicts"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cycles", type=_count, default=20_000, metavar="N", help="how many cycles (20000)")
    parser.add_argument("--seconds", type=_count, default=3600, metavar="N", help="no new cycle after it (3600)")
    parser.add_argument("--kinds", metavar="NAMES", help=f"some of {','.join(KINDS)}, in turns; default: the mixture")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--publish", action="store_true", help="into benchmarks/soak.json and benchmarks/RESULTS.md")
    return parser


_count: Callable[[str], int] = int

if __name__ == "__main__":
    sys.exit(main())
