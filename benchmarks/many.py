"""Many servers of one owner."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import SLEEP, answer, program, settle
from servermgr import CommandManager

#: Seconds that a slow server takes.
SLOW = 0.3
WHY_START = (
    "Each server has a guardian of its own, a fork of a process that stands ready: who held many trees could not tell "
    "to which of them an orphan belongs. The column of the floor has what a fork for each costs that starts the "
    "command, and nothing else, with all of them asked for at once; that alone misses the goal. What is beyond it, is "
    "in the table of phases."
)
WHY_STOP = (
    "A hundred processes and a hundred guardians end one after the other on the few cores that there are, where one "
    "server has all of them for itself. The last two columns differ from their own figures for one server in the same "
    "way: bare processes, and bare forks that end one each when asked to."
)


def measure(plan: Plan) -> Iterator[Row]:
    """Start all, then stop all."""
    rounds = plan.fewer(4)
    start = [
        Contender("servermgr: start(wait=False) each", lambda _: _started(plan.servers)[0], "ours"),
        Contender("Popen() each", lambda _: _bare(plan.servers)[0], "reference"),
        Contender("the floor: a bare fork each, which starts it", lambda _: _floor("start", plan.servers, SLEEP)),
    ]
    yield compare(f"start {plan.servers} servers", start, rounds=rounds, goals=[Goal("times", 2.0, why=WHY_START)])
    yield _compare_stop(f"stop {plan.servers} servers that exit at once", plan.servers, SLEEP, rounds)
    slow = program("slow_exit", SLOW)
    yield _compare_stop(f"stop {plan.servers} servers that take {SLOW:g} s to exit", plan.servers, slow, rounds)


def _compare_stop(case: str, count: int, command: list[str], rounds: int) -> Row:
    contenders = [
        Contender("servermgr: stop(wait=False) each, then stop()", lambda _: _started(count, command)[1], "ours"),
        Contender("servermgr: stop() of one server", lambda _: _started(1, command)[1], "reference"),
        Contender("Popen: terminate() each, then wait()", lambda _: _bare(count, command)[1]),
        Contender("the floor: a bare fork each, asked to", lambda _: _floor("stop", count, command)),
    ]
    return compare(case, contenders, rounds=rounds, goals=[Goal("times", 1.5, why=WHY_STOP)])


def _floor(mode: str, count: int, command: list[str]) -> float:
    return float(answer(program("floor", mode, count, shutil.which(command[0]) or command[0], *command[1:])))


def _started(count: int, command: list[str] = SLEEP) -> tuple[float, float]:
    """Seconds for the start of all and for the stop of all."""
    managers = [CommandManager(command) for _ in range(count)]
    with contextlib.ExitStack() as stack:
        for manager in managers:
            stack.callback(manager.stop)
        start = seconds(lambda: _start(managers))
        for manager in managers:
            settle(manager.process.pid)
        return start, seconds(lambda: _stop(managers))


def _start(managers: list[CommandManager]) -> None:
    for manager in managers:
        manager.start(wait=False)


def _stop(managers: list[CommandManager]) -> None:
    for manager in managers:
        manager.stop(wait=False)
    for manager in managers:
        manager.stop()


def _bare(count: int, command: list[str] = SLEEP) -> tuple[float, float]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        start = seconds(lambda: _start_bare(count, command, processes))
        for process in processes:
            settle(process.pid)
        return start, seconds(lambda: _stop_bare(processes))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _start_bare(count: int, command: list[str], processes: list[subprocess.Popen[bytes]]) -> None:
    for _ in range(count):
        processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


def _stop_bare(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


MEASUREMENT = Measurement(
    "many",
    "Many servers of one owner",
    "One after another, from one thread. All are asked to stop before the first one is waited for.",
    measure,
)
