"""The fault campaign: `python -m benchmarks.torture`, from the root of the checkout."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import environment
from benchmarks._torture_crowd import Bystanders, accuse, bystanders
from benchmarks._torture_look import strays
from benchmarks._torture_plan import Plan
from benchmarks._torture_report import Tally, failure, nonzero, report
from benchmarks._torture_trial import Trial
from benchmarks.command_line import begin, say
from benchmarks.processes import ROOT
from benchmarks.processes import environment as program_environment

DESCRIPTION = """\
Kill owners, guardians and servers at random moments, and count who is left.

Each trial is an owner (a process of its own) with one to three servers, each of them a hostile process tree of the
tests' zoo: daemons, new sessions, deaf and stopped processes, storms that fork each millisecond. At a random moment
of start or stop, somebody is killed. Where owner or guardian or their helper lives on, nobody may be left without
further help. After each batch of trials one servermgr.sweep() runs, and then nothing may be left at all: no process,
no record, no temporary file. Bystanders with the same names and command lines, whose pids stand in pidfiles and in
planted records, must not have got a single signal.

One thing cannot be done, and is counted apart: where owner, guardian and nursery are killed together, a daemon that
has left its parents and cleared its environment has no evidence on it that it is ours. It is left alone by the sweep,
for a stranger's would look the same; the campaign ends it itself.
"""
BATCH = 16
#: Looks in a row that must find nobody, 20 ms apart.
QUIET_LOOKS = 10
#: Seconds for one sweep: each tree that is left may take its grace period.
SWEEP_PATIENCE = 120.0
_SWEEP = "import json, servermgr; print(json.dumps([tree._asdict() for tree in servermgr.sweep()]))"


class Campaign:
    """Trials in batches, each followed by a sweep.

    Args:
        seed: Decides every plan.
        folder: For everything that is written; temporary files and records of the owners in folders of their own.
        jobs: How many trials at the same time.
        plain: Whether servers are started without servermgr, as a control.
    """

    def __init__(self, seed: int, folder: Path, *, jobs: int, plain: bool) -> None:
        self.tally = Tally(seed)
        self._folder = folder
        self._jobs = jobs
        self._plain = plain
        self._temporary = folder / "tmp"
        self._ledger = folder / "ledger"
        for path in (self._temporary, self._ledger):
            path.mkdir(mode=0o700)
        # Owners do not sweep: it shall be seen who goes without.
        self._env = {"TMPDIR": str(self._temporary), "SERVERMGR_LEDGER": str(self._ledger), "SERVERMGR_SWEEP": "off"}

    def run(self, trials: int, seconds: float) -> Tally:
        """So many trials, but no new batch once so many seconds have passed."""
        began = time.monotonic()
        for first in range(0, trials, BATCH):
            if time.monotonic() - began > seconds:
                break
            self._batch(range(first, min(first + BATCH, trials)))
            self.tally.seconds = time.monotonic() - began
            say(f"{len(self.tally.results)} of {trials}, {self.tally.seconds:.0f} s, {nonzero(self.tally.counts())}")
        if self._plain:
            self._end_late()
        self.tally.strays = strays(self._folder)
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def _end_late(self) -> None:
        """In the control nobody holds a child that was between fork and exec when its owner was killed: end it here."""
        quiet = 0
        for _ in range(100):
            late = self._stray_pids()
            quiet = 0 if late else quiet + 1
            if quiet > QUIET_LOOKS:
                return
            for pid in late:
                self._end_stray(pid)
            time.sleep(0.02)

    def _stray_pids(self) -> set[int]:
        return {int(text.partition(":")[0]) for text in strays(self._folder)}

    def _end_stray(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if pid in self._stray_pids():  # looked at behind the open handle: it is the same process
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)

    def _batch(self, numbers: range) -> None:
        with bystanders(self._folder / "bystanders") as crowd:
            victim = crowd.everyone[numbers.start % len(crowd.everyone)].pid
            log = accuse(crowd, self._ledger, self._folder)
            trials = [self._trial(number, victim) for number in numbers]
            try:
                with ThreadPoolExecutor(self._jobs) as pool:
                    self.tally.results += pool.map(Trial.run, trials)
                for trial in trials:
                    trial.note_evidence()
                self._sweep()
                self._look(trials, crowd, log)
            finally:
                for trial in trials:
                    trial.clean_up()

    def _trial(self, number: int, innocent: int) -> Trial:
        plan = Plan.draw(self.tally.seed, number)
        return Trial(plan, self._folder / f"trial-{number}", self._env, innocent, plain=self._plain)

    def _sweep(self) -> None:
        self.tally.sweeps += 1
        command = [sys.executable, "-c", _SWEEP]
        env = program_environment() | self._env
        try:
            run = subprocess.run(
                command, env=env, cwd=ROOT, capture_output=True, timeout=SWEEP_PATIENCE, check=True, text=True
            )
        except subprocess.SubprocessError as error:
            self.tally.faults.append(f"sweep: {error} {getattr(error, 'stderr', '')}")
            return
        for tree in json.loads(run.stdout):
            for _, _, evidence, _ in tree["processes"]:
                self.tally.swept[evidence] = self.tally.swept.get(evidence, 0) + 1

    def _look(self, trials: Sequence[Trial], crowd: Bystanders, log: Path) -> None:
        with ThreadPoolExecutor(self._jobs) as pool:
            list(pool.map(Trial.judge, trials))
        tally = self.tally
        tally.harmed += crowd.harmed()
        tally.records += _emptied(self._ledger)
        tally.files += _emptied(self._temporary)
        if not log.exists():
            tally.faults.append("a file was removed on the word of a planted record")
        for result in (trial.result for trial in trials):
            if result.failed:
                say(failure(result))


def _emptied(folder: Path) -> list[str]:
    """What is in the folder, which is then empty, so that the next batch is not accused of it."""
    found = sorted(folder.iterdir())
    texts = [f"{path.name}: {path.read_text(errors='replace')[:2000]}" for path in found]
    for path in found:
        path.unlink()
    return texts


# ---- command line ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 if anything is not as promised."""
    parser = _parser()
    options = parser.parse_args(arguments)
    begin(parser)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        tally = Campaign(seed, folder, jobs=options.jobs, plain=options.plain).run(options.trees, options.seconds)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    print(report(tally))
    if options.json:
        facts = {"environment": environment.describe(), **tally.document()}
        Path(options.json).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return int(tally.failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torture",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    number = _between(1, 1_000_000)
    parser.add_argument("--trees", type=number, default=1000, metavar="N", help="how many trials (1000)")
    parser.add_argument("--seed", type=_between(0, 2**63), metavar="N", help="of a campaign to be repeated (random)")
    parser.add_argument("--jobs", type=_between(1, 8), default=2, metavar="N", help="trials at the same time (2)")
    parser.add_argument("--seconds", type=number, default=7200, metavar="N", help="no new batch after it (7200)")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--plain", action="store_true", help="control: start the servers without servermgr")
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        raise argparse.ArgumentTypeError(f"a number from {least} to {most}, not {text!r}")

    return number


if __name__ == "__main__":
    sys.exit(main())
