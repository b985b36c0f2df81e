"""Give the pid of a dead process to an innocent one within the same clock tick, and do to it what a stale note says.

`pid_reuse.py` must run as root, in a pid namespace of its own, and not as its first process. It prints one JSON
object: for each case what was wrong (empty: nothing), or `{"skip": reason}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from wreckage import plant

import servermgr
from servermgr.identity import Held, Identity

ATTEMPTS = 500
#: Not the one of all other tests: a sweep of theirs that runs at the same time would end who carries it.
MARKER = "fedcba9876543210" * 2


class Reused:
    """A number that a victim had and an innocent has.

    Attributes:
        before: The victim's identity.
        held: The victim, held since it lived.
        pid: The innocent's pid, and the victim's.
    """

    def __init__(self, before: Identity, held: Held, pid: int) -> None:
        self.before = before
        self.held = held
        self.pid = pid

    def harmed(self) -> str:
        """What was done to the innocent: every signal that it got is pending, since it blocks them all."""
        with open(f"/proc/{self.pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        if status["State"][0] not in "SR":
            return f"the innocent is in state {status['State']}"
        pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
        return f"the innocent got the signals {pending:#x}" if pending else ""


def blocked() -> int:
    """A fork that blocks every signal and lives for a minute."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                time.sleep(60.0)
            finally:
                os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def next_pid(pid: int) -> None:
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))


@contextlib.contextmanager
def reused() -> Iterator[Reused]:
    for _ in range(ATTEMPTS):
        victim = blocked()
        before = Identity.of(victim)
        assert before is not None
        held = Held(victim)
        end(victim)
        next_pid(victim)
        innocent = blocked()
        now = Identity.of(innocent)
        try:
            if now is not None and now[:2] == before[:2]:
                yield Reused(before, held, innocent)
                return
        finally:
            held.close()
            end(innocent)
    raise AssertionError(f"no pid was reused within a tick in {ATTEMPTS} attempts")


# ---- cases: each does what a stale note says, and returns what is wrong ---------------------------------------


def identity(it: Reused) -> str:
    assert it.before == it.before._replace()
    if it.before == Identity.of(it.pid) or it.before.exists() or it.before.is_alive():
        return "the innocent is taken for the victim"
    return ""


def held(it: Reused) -> str:
    for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGKILL):
        it.held.signal(number)
    return "the innocent is taken for the victim" if it.held.is_alive() else ""


def held_without_descriptor(it: Reused) -> str:
    it.held.close()
    return held(it)


def swept() -> str:
    found = [(tree.verdict, tree.processes) for tree in servermgr.sweep()]
    return "" if found == [("nothing left", ())] else f"the sweep did {found}"


def record(it: Reused) -> str:
    """Owner, guardian and worker had that number."""
    path = plant(owner=it.before, guardian=it.before, worker=it.before)
    return swept() or ("the record is still there" if os.path.exists(path) else "")


def stop_by_name(it: Reused) -> str:
    plant(owner=it.before, guardian=it.before, worker=it.before, keep=True, name="kept")
    found = [(tree.verdict, tree.processes) for tree in servermgr.stop("kept")]
    return "" if found == [("nothing left", ())] else f"stop did {found}"


def pidfile(it: Reused) -> str:
    """The pidfile of a recorded daemon: who has the number is not the daemon, and the file is not ours to remove."""
    with tempfile.NamedTemporaryFile("w", suffix=".pid") as file:
        print(it.pid, file=file, flush=True)
        plant(pidfile=file.name, worker=it.before)
        return swept() or ("" if os.path.exists(file.name) else "the pidfile was removed")


def pidfile_of_a_start(it: Reused) -> str:
    """A pidfile from before the start; the new daemon does not come up."""
    with tempfile.NamedTemporaryFile("w", suffix=".pid") as file:
        print(it.pid, file=file, flush=True)
        manager = servermgr.CommandManager(["true"], pidfile=file.name)
        with contextlib.suppress(servermgr.WorkerError):
            manager.start(timeout=1.0)
            return "it is said to have started"
    return ""


def owner(it: Reused) -> str:
    """The number of the owner lives, the owner does not: its tree is swept."""
    left = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], "SERVERMGR_TREE": MARKER})
    try:
        plant(owner=it.before, marker=MARKER)
        trees = servermgr.sweep()
        found = [(process.pid, process.evidence) for tree in trees for process in tree.processes]
        return "" if found == [(left.pid, "marker")] else f"the sweep found {found}"
    finally:
        left.kill()
        left.wait()


CASES: tuple[Callable[[Reused], str], ...] = (
    identity, held, held_without_descriptor, record, stop_by_name, pidfile, pidfile_of_a_start, owner,
)  # fmt: skip


def examine(case: Callable[[Reused], str]) -> str:
    try:
        with reused() as it:
            return case(it) or it.harmed()
    except Exception:  # noqa: BLE001  # whatever it is, it is this case's result
        return traceback.format_exc()


def told(outcomes: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(outcomes))


def main() -> None:
    mine = Identity.of(os.getpid())
    if mine is None or not mine.serial:
        told({"skip": "this kernel has no serial numbers of processes (before 6.9)"})
        return
    with tempfile.TemporaryDirectory() as directory:
        os.environ["SERVERMGR_LEDGER"] = os.path.join(directory, "ledger")
        told({case.__name__: examine(case) for case in CASES})


if __name__ == "__main__":
    main()
