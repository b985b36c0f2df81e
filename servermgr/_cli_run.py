"""`servermgr run`: one step of a job, and nothing of it left when it is over."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

from servermgr import platform
from servermgr._cli_look import BAD, STRONG, WARNING, Look
from servermgr._cli_step_story import StepStory
from servermgr.errors import LaunchError, WorkerError, describe_status
from servermgr.trace import Trace

if TYPE_CHECKING:
    import argparse

    from servermgr._cli_look import Piece

#: As timeout(1) has them.
TIMED_OUT, FAILED, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127
GRACE = 5.0

EPILOG = """\
The command has the standard streams, the session, the process group and the terminal of `servermgr run`. A signal
sent to it is passed on, unless the command has got it already (Ctrl-C). When the command has ended, whatever it has
left behind, daemons included, is named on standard error and ended, politely first. The same happens when `servermgr
run` itself is killed. It may be the first process of a container: PID 1. (On Windows nobody of them can be asked, and
what is left behind is killed at once.)

examples:
  servermgr run -- pytest -x                      nothing of the tests outlives them
  servermgr run --timeout 600 -- make check       nor do they take longer than ten minutes
  servermgr run --report step.json -- ./build     how it ended, for a machine
  docker run … ENTRYPOINT ["servermgr", "run", "--"]

exit status:
  that of the command; 128+n if signal n ended it (n=2, Ctrl-C: by the signal itself, as the command, so that the
  script around it stops, too)
  124  it took longer than --timeout
  125  servermgr itself failed, was used wrongly, or could not end everything after a command that succeeded
  126  the command cannot be run
  127  there is no such command
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    parser.add_argument("--timeout", type=seconds, metavar="S", help="end all of it after S seconds (default: never)")
    add_grace(parser)
    parser.add_argument("--report", metavar="FILE", help="write how it ended as JSON; `-` is standard error")
    parser.add_argument("--json", action="store_true", help="the same as --report -")
    parser.add_argument("--trace", metavar="FILE", help="write what happened as a trace for ui.perfetto.dev")
    parser.add_argument("words", nargs="...", metavar="-- CMD …", help="the command and its arguments")


def add_grace(parser: argparse.ArgumentParser) -> None:
    """Add `--grace`."""
    text = "seconds from the polite signal to the forced one; 0 kills at once (default: %(default)g)"
    parser.add_argument("--grace", type=seconds, metavar="S", default=GRACE, help=text)


def tracing(path: str | None) -> contextlib.AbstractContextManager[Trace | None]:
    """The trace of a command, which is closed with the block; None without a path."""
    return contextlib.nullcontext() if path is None else Trace(path)


def seconds(text: str) -> float:
    """A number of seconds, for argparse."""
    value = float(text)
    if not 0 <= value < 1e9:  # also refuses NaN
        raise ValueError(text)
    return value


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    argv = [*options.words, *options.command]
    if not argv:
        raise ValueError("which command? servermgr run [--timeout S] -- CMD …")
    report = "-" if options.json and options.report is None else options.report
    if report not in (None, "-"):
        _try_report(report)
    teller = Teller(Look(as_json=options.json), argv, options.timeout)
    with tracing(options.trace) as trace:
        outcome = step(argv, teller, timeout=options.timeout or None, grace=options.grace, trace=trace)
    status = teller.conclude(outcome)
    if report is not None:
        _write_report(report, report_of(argv, outcome, status))
    end_as(outcome)
    return status


def step(
    argv: list[str],
    teller: Teller,
    *,
    timeout: float | None,
    grace: float,
    trace: Trace | None = None,
) -> Any:
    """Run the command as a step; see `_cli_step.run_step`, and `_cli_step_job.run_step` for Windows."""
    name = f"run:{os.path.basename(argv[0])}"
    story = None if trace is None else StepStory(trace, name, shlex.join(argv))

    def tell(message: dict[str, Any]) -> None:
        teller.hear(message)
        if story is not None:
            story.take(message)

    run_step = importlib.import_module(platform.STEP).run_step
    return run_step(argv, tell=tell, timeout=timeout, grace=grace, name=name, trace=trace is not None)


class Teller:
    """Says on standard error what a step leaves behind.

    Args:
        look: What it says it with.
        argv: The command.
        timeout: As given, for the text.
    """

    def __init__(self, look: Look, argv: list[str], timeout: float | None) -> None:
        self._look = look
        self._argv = argv
        self._timeout = timeout

    def hear(self, message: dict[str, Any]) -> None:
        """Hear what the guard says, when it says it: a step that is killed later has at least been told of."""
        if message["is"] == "left":
            self._list((f"left behind by {self._shown()}, ended now:", WARNING), message["processes"])
        elif message["is"] == "timeout":
            text = f"time-out: after {self._timeout:g} s there still run, ended now:"
            self._list((text, BAD), message["processes"])
        elif message["is"] == "lost":
            self._look.say(("the guard of the step was killed, so the step is ended", BAD))
        elif message["is"] == "crashed":
            self._look.say((f"the guard of the step has failed: {message['text']}", BAD))

    def _list(self, head: Piece, processes: list[tuple[int, str, str]]) -> None:
        self._look.say(head)
        for pid, name, command in processes:
            self._look.say(f"  {pid} ", (name, STRONG), f"  {command}" if command else "")

    def _shown(self) -> str:
        text = shlex.join(self._argv)
        return text if len(text) <= 80 else f"{text[:79]}…"

    def conclude(self, outcome: Any) -> int:
        """Say how those ended who had to be; returns the exit status of the step."""
        if outcome.errno:
            return self._not_run(outcome.errno)
        survivors = [entry for entry in outcome.ended if entry[3].startswith("alive")]
        killed = [entry for entry in outcome.ended if entry[3] == "killed"]
        if killed:
            names = ", ".join(f"{pid} ({name})" for pid, name, *_ in killed)
            self._look.say(f"had to be killed: {names}")
        for pid, name, _, what in survivors:
            self._look.say((f"could not be ended: {pid} ({name}): {what.removeprefix('alive: ')}", BAD))
        return exit_status(outcome, bool(survivors))

    def _not_run(self, number: int) -> int:
        cause = OSError(number, os.strerror(number))
        found = not isinstance(cause, FileNotFoundError)
        remedy = "" if found else ": is it installed, and in PATH?"
        self._look.error(LaunchError(None, f"cannot run {self._argv[0]!r}: {cause.strerror}{remedy}"))
        return NOT_EXECUTABLE if found else NOT_FOUND


def exit_status(outcome: Any, survived: bool = False) -> int:
    """The status with which to exit after a step."""
    if outcome.timed_out:
        return TIMED_OUT
    if outcome.returncode is None or outcome.lost:
        return FAILED
    if outcome.returncode < 0:
        return 128 - int(outcome.returncode)
    return FAILED if survived and outcome.returncode == 0 else int(outcome.returncode)


def end_as(outcome: Any) -> None:
    """End by Ctrl-C as the command did: a shell that sees it go on its script would run the next line."""
    if outcome.interrupted and outcome.returncode == -signal.SIGINT and not outcome.timed_out:
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # nothing happens to PID 1, which then exits with the status


def report_of(argv: list[str], outcome: Any, status: int) -> dict[str, Any]:
    """What is written to `--report`."""
    entries = [dict(zip(("pid", "name", "command", "how"), entry, strict=True)) for entry in outcome.ended]
    number = -(outcome.returncode or 0)
    return {
        "command": argv,
        "pid": outcome.pid,
        "exit_status": status,
        "returncode": outcome.returncode,
        "signal": describe_status(-number).split()[-1] if number > 0 else None,
        "timed_out": outcome.timed_out,
        "seconds": round(outcome.seconds, 3),
        "ended": entries,
    }


def _try_report(path: str) -> None:
    """Say now, and not after an hour of tests, that it cannot be written."""
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        raise WorkerError(error, f"cannot write the report to {path}") from error


def _write_report(path: str, data: dict[str, Any]) -> None:
    text = json.dumps(data)
    if path == "-":
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
