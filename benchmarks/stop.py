"""Ending one server that goes at once."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.peers import PEERS
from benchmarks.processes import PATIENCE, SLEEP, accepts, bare, free_port, program, settle, until
from servermgr import CommandManager

GOALS = (Goal("more", 2.0), Goal("faster", 20.0, than="mirakuru"))
MIRAKURU, XPROCESS, PSUTIL = (PEERS[key] for key in ("mirakuru", "xprocess", "psutil"))


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
        Contender("Popen: terminate(), wait()", lambda _: _stop_bare(command, port, _terminate), "reference"),
        Contender("mirakuru: stop()", lambda _: _stop_mirakuru(command, port), missing=MIRAKURU.missing),
        Contender("pytest-xprocess: terminate()", lambda _: _stop_xprocess(command, port), missing=XPROCESS.missing),
        Contender("psutil's recipe", lambda _: _stop_bare(command, port, _recipe)),
    ]
    return compare(case, contenders, rounds=plan.rounds, goals=GOALS)


def _stop_managed(command: list[str], port: int | None) -> float:
    manager = CommandManager(command, ready=None if port is None else f"tcp://127.0.0.1:{port}")
    with manager:
        settle(manager.process.pid)
        return seconds(manager.stop)


def _stop_bare(command: list[str], port: int | None, stop: Callable[[subprocess.Popen[bytes]], None]) -> float:
    with bare(command) as process:
        _settled(process.pid, port)
        return seconds(lambda: stop(process))


def _settled(pid: int, port: int | None) -> None:
    if port is not None:
        until(lambda: accepts(port), "the listener")
    settle(pid)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _recipe(process: subprocess.Popen[bytes]) -> None:
    PSUTIL.load().end_tree(process.pid, PATIENCE)


def _stop_mirakuru(command: list[str], port: int | None) -> float:
    executor = MIRAKURU.load().plain(command, PATIENCE)
    with executor:
        _settled(executor.process.pid, port)
        return seconds(executor.stop)


def _stop_xprocess(command: list[str], port: int | None) -> float:
    with tempfile.TemporaryDirectory() as folder, XPROCESS.load().started(command, folder, lambda: True) as info:
        _settled(info.pid, port)
        return seconds(info.terminate)


MEASUREMENT = Measurement(
    "stop",
    "Stopping a server that exits at once on SIGTERM",
    "From the call until its return, when nothing of the server is left. The server has started and is asleep.",
    measure,
)
