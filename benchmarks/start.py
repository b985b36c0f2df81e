"""Starting a server, the first and every later one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.peers import PEERS
from benchmarks.processes import PATIENCE, SLEEP, answer, module
from servermgr import CommandManager


def measure(plan: Plan) -> Iterator[Row]:
    """The first of a process, and the others."""
    first = [
        Contender("servermgr: start()", lambda _: float(answer(module("first_start", "servermgr"))), "ours"),
        Contender("Popen()", lambda _: float(answer(module("first_start", "popen"))), "reference"),
    ]
    yield compare("first of a process", first, rounds=plan.rounds, goals=[Goal("more", 25.0)])
    later = [
        Contender("servermgr: start()", _start_managed, "ours"),
        Contender("Popen()", _start_bare, "reference"),
        Contender("mirakuru: start()", _start_mirakuru, missing=PEERS["mirakuru"].missing),
    ]
    yield compare("every later one", later, rounds=plan.rounds * 2, goals=[Goal("more", 3.0)])


def _start_managed(_: int) -> float:
    manager = CommandManager(SLEEP, grace_period=0)
    try:
        return seconds(manager.start)
    finally:
        manager.stop()


def _start_mirakuru(_: int) -> float:
    executor = PEERS["mirakuru"].load().plain(SLEEP, PATIENCE)
    try:
        return seconds(executor.start)
    finally:
        executor.kill()


def _start_bare(_: int) -> float:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        return seconds(
            lambda: processes.append(subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()


MEASUREMENT = Measurement(
    "start",
    "Starting a command",
    "From the call until its return, when the command's exec has succeeded. The first one in a fresh interpreter each "
    "time, with the module that is measured imported before.",
    measure,
)
