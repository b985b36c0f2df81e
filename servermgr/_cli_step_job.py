"""One step in a job object (Windows): a command in the place of this process, and nothing of it left when it is over.

The command is in the console and the process group of this process, so Ctrl-C is its own affair. What it leaves behind
is not in a group that could be asked: it is killed. When this process is killed, all of the step is.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from servermgr import _job_launch
from servermgr._cli_step_outcome import Outcome
from servermgr.deadline import Deadline, sleep
from servermgr.errors import LaunchError
from servermgr.job import JobTree
from servermgr.output import Output
from servermgr.platform._kernel32 import CREATE_SUSPENDED
from servermgr.tree import LaunchSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from servermgr.platform.job_object import Job
    from servermgr.tree import StopOutcome

#: Seconds for helpers of the command to notice that it has ended, before they count as left behind.
_SETTLE = 0.5
_PAUSE = 0.05


def run_step(
    argv: Sequence[str],
    *,
    tell: Callable[[dict[str, Any]], None],
    timeout: float | None = None,
    grace: float = 5.0,  # noqa: ARG001  # the options are those of every system
    name: str = "",
    env: Mapping[str, str] | None = None,
    trace: bool = False,  # noqa: ARG001
) -> Outcome:
    """Run a command as if it stood in the place of this process, and end all that it leaves.

    Args:
        argv: The command.
        tell: Called with what happens: `timeout` and `left`, with the processes.
        timeout: Seconds until all of it is killed; None for no limit.
        grace: Means nothing here: nobody can be asked.
        name: What the ledger calls it.
        env: Added to the environment of this process.
        trace: Means nothing here.
    """
    began, interrupts = Deadline(None), Interrupts()
    # No grace at all: the polite signal would go to our own group.
    output = Output(subprocess.DEVNULL)
    spec = LaunchSpec(argv, output=output, env={**os.environ, **(env or {})}, grace_period=0.0, crash_grace=0.0)
    with interrupts:
        try:
            tree = JobTree(spec, name=name, start=_start)
        except LaunchError as error:
            output.close()
            number = getattr(error.exception, "errno", None) or errno.EACCES
            return Outcome(None, None, number, False, interrupts.came, (), False, began.elapsed)
        timed_out = _follow(tree, Deadline(timeout), tell)
        commands = {pid: (said, command) for pid, said, command in _named(tree)}
        tree.ask_stop(signal.SIGTERM, 0.0)
        outcome = tree.wait_gone(None)
    assert outcome is not None
    ended = _ended(outcome, commands, tree.pid)
    return Outcome(tree.pid, outcome.status, 0, timed_out, interrupts.came, ended, False, began.elapsed)


def _start(spec: LaunchSpec, job: Job) -> tuple[int, int]:
    """Start the command with our own standard streams, in our own process group."""
    streams = [_stream(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)]
    return _job_launch.start(spec, job, streams=streams, flags=CREATE_SUSPENDED)


def _stream(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or none
        return subprocess.DEVNULL


def _follow(tree: JobTree, limit: Deadline, tell: Callable[[dict[str, Any]], None]) -> bool:
    """Wait for the command, and for whom it leaves to settle. Returns whether it took too long."""
    if not tree.wait_worker(limit.remaining()):
        tell({"is": "timeout", "processes": _named(tree)})
        return True
    settle = Deadline(_SETTLE)
    while tree.wait_gone(0.0) is None:
        if settle.expired:
            tell({"is": "left", "processes": _named(tree)})
            break
        sleep(_PAUSE)
    return False


def _named(tree: JobTree) -> list[tuple[int, str, str]]:
    return [(info.pid, info.name, _command_line(info.pid)) for info in tree.processes()]


def _command_line(pid: int) -> str:
    import psutil  # noqa: PLC0415  # only where something was left behind

    try:
        return " ".join(psutil.Process(pid).cmdline())[:200]
    except (psutil.Error, OSError):  # it has ended meanwhile
        return ""


def _ended(
    outcome: StopOutcome, commands: Mapping[int, tuple[str, str]], worker: int
) -> tuple[tuple[int, str, str, str], ...]:
    found = [(pid, name, "killed") for pid, name in outcome.killed]
    found += [(pid, name, f"alive: {why}") for pid, name, why in outcome.survivors]
    return tuple((pid, name, commands.get(pid, ("", ""))[1], how) for pid, name, how in found if pid != worker)


class Interrupts:
    """Ctrl-C and Ctrl-Break are the command's, which gets them, too: here they are noted.

    Attributes:
        came: Whether one came.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: object) -> None:
        self.came = True

    def __enter__(self) -> Interrupts:
        for number in filter(None, (signal.SIGINT, getattr(signal, "SIGBREAK", None))):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
