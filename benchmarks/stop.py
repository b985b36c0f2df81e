"""Ending one server that goes at once."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import SLEEP, accepts, bare, free_port, program, settle, until
from servermgr import CommandManager

GOALS = (Goal("more", 2.0),)


def measure(plan: Plan) -> Iterator[Row]:
    """Both kinds of server."""
    yield _compare("sleep(1)", plan, SLEEP, None)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = program("listener", port, 0, Path(folder, "stamp"))
        yield _compare("a listener written in Python", plan, command, port)


def _compare(case: str, plan: Plan, command: list[str], port: int | None) -> Row:
    contenders = [
        Contender("servermgr: stop()", lambda _: _stop_managed(command, port), "ours"),
        Contender("Popen: terminate(), wait()", lambda _: _stop_bare(command, port), "reference"),
    ]
    return compare(case, contenders, rounds=plan.rounds, goals=GOALS)


def _stop_managed(command: list[str], port: int | None) -> float:
    manager = CommandManager(command, ready=None if port is None else f"tcp://127.0.0.1:{port}")
    with manager:
        settle(manager.process.pid)
        return seconds(manager.stop)


def _stop_bare(command: list[str], port: int | None) -> float:
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(bare(command))
        if port is not None:
            until(lambda: accepts(port), "the listener")
        settle(process.pid)
        return seconds(lambda: _terminate(process))


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


MEASUREMENT = Measurement(
    "stop",
    "Stopping a server that exits at once on SIGTERM",
    "From the call until its return, when nothing of the server is left. The server has started and is asleep.",
    measure,
)
