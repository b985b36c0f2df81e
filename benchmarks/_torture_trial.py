"""One trial of the fault campaign: an owner with hostile trees, a moment, and the deaths."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._torture_look import census, children, helpers, is_marked, proven
from benchmarks._torture_plan import CRASH_GRACE, Plan, Result
from benchmarks.processes import ROOT, environment, module

#: Seconds beyond the grace period for the last process to go, on a loaded machine; and where nobody will go.
SLACK, PLAIN_SLACK = 5.0, 0.5
#: Seconds for anything else that is waited for.
PATIENCE = 30.0
#: Seconds that an animal lives.
LIFE = "60"


class Trial:
    """One owner and what belongs to him.

    Args:
        plan: What is to happen.
        folder: A folder of its own, to be made.
        env: Names the campaign's temporary folder and ledger.
        innocent: A pid to be planted in pidfiles.
        plain: Whether the servers are bare Popens, as a control.
    """

    def __init__(self, plan: Plan, folder: Path, env: dict[str, str], innocent: int, *, plain: bool) -> None:
        self.plan = plan
        self.result = Result(plan)
        self._folder = folder
        self._rosters = [folder / str(index) for index in range(len(plan.trees))]
        self._pidfile = folder / "pid"
        self._complaints = folder / "complaints"
        self._ledger = Path(env["SERVERMGR_LEDGER"])
        self._env = environment() | env | {"HOME": str(folder)}
        self._innocent = innocent
        self._plain = plain
        self._heard = b""
        self._evidence: set[int] = set()

    # --- the story ----------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Play it, up to the moment before the sweep."""
        for roster in self._rosters:
            roster.mkdir(parents=True)
        with self._owner() as owner:
            try:
                self._play(owner)
            except (AssertionError, TimeoutError, subprocess.TimeoutExpired) as error:
                self.result.faults.append(f"{type(error).__name__}: {error}")
        self.result.processes = sum(len(census.entries(roster)) for roster in self._rosters)
        return self.result

    def _play(self, owner: subprocess.Popen[bytes]) -> None:
        self._await_moment(owner)
        time.sleep(self.plan.delay)
        self._strike(owner)
        began = time.monotonic()
        if not self.plan.dies("owner"):
            self._end_orderly(owner)
        self._await_end()
        self.result.seconds = time.monotonic() - began

    @contextlib.contextmanager
    def _owner(self) -> Iterator[subprocess.Popen[bytes]]:
        command = module("doomed", json.dumps({"plain": self._plain, "servers": self._servers()}))
        pipe = subprocess.PIPE
        with open(self._complaints, "wb") as complaints:
            # In our own group, as some of the bystanders are.
            owner = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=complaints, env=self._env, cwd=ROOT)
        try:
            yield owner
        finally:
            owner.kill()
            owner.wait()
            for end in (owner.stdin, owner.stdout):
                assert end is not None
                with contextlib.suppress(BrokenPipeError):
                    end.close()

    def _servers(self) -> list[tuple[list[str], dict[str, object]]]:
        options: dict[str, object] = {"name": f"trial-{self.plan.number}", "crash_grace": CRASH_GRACE}
        options["grace_period"] = self.plan.grace
        if self.plan.pidfile != "none":
            options["pidfile"] = str(self._pidfile)
        if self.plan.pidfile == "stale":
            self._plant()
        trees = zip(self.plan.trees, self._rosters, strict=True)
        return [(census.command(words[0], roster, *words[1:], "--life", LIFE), options) for words, roster in trees]

    def _plant(self) -> None:
        self._pidfile.write_text(f"{self._innocent}\n")

    def _await_moment(self, owner: subprocess.Popen[bytes]) -> None:
        moment = self.plan.moment
        self._hear(owner, "starting")
        if moment == "during start":
            return
        self._hear(owner, "started")
        if self.plan.pidfile == "fresh":
            self._plant()
        if moment == "before ready":
            return
        for roster in self._rosters:
            with contextlib.suppress(census.Impossible):
                census.wait_ready(roster, PATIENCE)
        if moment != "at ready":
            self._say_stop(owner)

    def _end_orderly(self, owner: subprocess.Popen[bytes]) -> None:
        """An owner that lives stops what he has left, and ends as he should."""
        if "stop" not in self.plan.moment:
            self._hear(owner, "started")
            self._say_stop(owner)
        self._hear(owner, "stopped")
        left = [str(entry) for roster in self._rosters for entry in census.living(roster)]
        if left and self.plan.has_witness:
            self.result.faults.append(f"alive after stop(): {left}")
        assert owner.stdin is not None
        owner.stdin.close()
        status = owner.wait(PATIENCE)
        complaints = self._complaints.read_text().strip()
        if status or "SurvivorsError" in complaints:
            self.result.faults.append(f"the owner ended with status {status}: {complaints}")

    # --- talking to the owner -----------------------------------------------------------------------------------

    def _hear(self, owner: subprocess.Popen[bytes], word: str) -> None:
        assert owner.stdout is not None
        give_up = time.monotonic() + PATIENCE
        while f"{word}\n".encode() not in self._heard:
            left = give_up - time.monotonic()
            if left <= 0 or not select.select([owner.stdout], [], [], left)[0]:
                raise TimeoutError(f"the owner did not say {word!r} within {PATIENCE:g} s, only {self._heard!r}")
            data = os.read(owner.stdout.fileno(), 4096)
            assert data, f"the owner ended without saying {word!r}: {self._complaints.read_text()}"
            self._heard += data

    def _say_stop(self, owner: subprocess.Popen[bytes]) -> None:
        assert owner.stdin is not None
        owner.stdin.write(b"stop\n")
        owner.stdin.flush()
        self._hear(owner, "stopping")

    # --- the deaths ---------------------------------------------------------------------------------------------

    def _strike(self, owner: subprocess.Popen[bytes]) -> None:
        """Kill everyone who is to die, in an order of chance, as fast as it goes."""
        victims = [(pid, signal.SIGKILL) for pid in self._victims()]
        if self.plan.dies("owner"):
            victims.append((owner.pid, self.plan.death))
        random.Random(self.plan.number).shuffle(victims)
        self.result.struck = _kill_all(victims)
        if self.plan.dies("owner"):
            owner.wait(PATIENCE)
        if not self.plan.has_witness:
            self._end_late_helpers()

    def _victims(self) -> list[int]:
        found = helpers(self._folder)
        guardians = [pid for pid, (parent, _) in found.items() if parent in found]
        chosen = list(guardians) if self.plan.dies("guardian") else []
        if self.plan.dies("nursery"):
            chosen += set(found) - set(guardians)
        if self.plan.dies("worker"):
            chosen += [child for guardian in guardians for child in children(guardian)[:1]]
        return chosen

    def _end_late_helpers(self) -> None:
        """A helper that was born between look and stroke belongs to those that are to be gone."""
        if not self.plan.dies("owner"):
            return  # his new helpers are as good as any
        for _ in range(50):
            late = helpers(self._folder)
            if not late:
                return
            for _, entry in late.values():
                census.kill(entry)
            time.sleep(0.002)

    # --- who lives ----------------------------------------------------------------------------------------------

    def _living(self) -> list[census.Entry]:
        trees = [entry for roster in self._rosters for entry in census.living(roster)]
        return trees + [entry for _, entry in helpers(self._folder).values()]

    def _await_end(self) -> None:
        """Wait until all are gone, or the time is up; nobody comes to help."""
        give_up = time.monotonic() + CRASH_GRACE + (PLAIN_SLACK if self._plain else SLACK)
        while (left := self._living()) and self.plan.has_witness and time.monotonic() < give_up:
            time.sleep(0.02)
        self.result.before = [str(entry) for entry in left]

    def note_evidence(self) -> None:
        """Directly before the sweep: who has evidence on him? Who has lost it by himself since cannot be found by it.

        A process that has overwritten its environment is known by its parent alone, and a root may leave its children
        at any time.
        """
        if not self.plan.has_witness:
            living = [entry for roster in self._rosters for entry in census.living(roster)]
            self._evidence = proven(living, self._ledger)

    def judge(self) -> None:
        """After the sweep: who lives still, and should he have been found?"""
        for entry in self._living() if self.result.before or self.result.faults else ():
            has_evidence = self.plan.has_witness or entry.pid in self._evidence or is_marked(entry.pid)
            # A beat is that of a storm: its pid is another one by now, its environment the one it began with.
            certain = has_evidence or entry.role == "helper" or entry.role.startswith("beat")
            (self.result.after if certain else self.result.unprovable).append(str(entry))

    def clean_up(self) -> None:
        """End whoever is left, and remove the folder."""
        if self.result.before or self.result.faults:
            for roster in self._rosters:
                census.cleanup(roster)
            for _, entry in helpers(self._folder).values():
                census.kill(entry)
        shutil.rmtree(self._folder)


def _kill_all(victims: list[tuple[int, signal.Signals]]) -> int:
    """A pidfd for each first, so that the strokes follow one another without a look in between."""
    with contextlib.ExitStack() as stack:
        strokes = []
        for pid, number in victims:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                stack.callback(os.close, pidfd)
                strokes.append((pidfd, number))
        for pidfd, number in strokes:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
    return len(strokes)
