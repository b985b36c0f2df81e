"""Many servers of one owner."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import process_time_ns

import psutil

from benchmarks.harness import Column, Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import SLEEP, answer, program, settle
from servermgr import CommandManager, recorded

#: Seconds that a slow server takes.
SLOW = 0.3
WHY_START = (
    "Each server has a guardian of its own, a fork of a process that stands ready: who held many trees could not tell "
    "to which of them an orphan belongs. The column of the floor has what a fork for each costs that starts the "
    "command, and nothing else, with all of them asked for at once: that alone takes about all that the goal allows. "
    "The table of processor time says who takes the rest: so much work on so many cores takes that long."
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
    if Path("/proc/self/schedstat").exists():  # a kernel may be built without
        yield processor_time(plan.servers, rounds)
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


def processor_time(count: int, rounds: int) -> Row:
    """What a start costs whom: the milliseconds that each has run for."""
    names = ("the owner", "the nursery, which forks", "the guardian", "the command itself")
    columns = [Column("each start, in all", "ours"), Column("Popen(), in all", "reference")]
    parts = [Column(name, "peer") for name in names]
    for _ in range(rounds):
        times = _times_of_starts(count)
        columns[0].samples.append(sum(times))
        columns[1].samples.append(_time_of_popen(count))
        for part, time in zip(parts, times, strict=True):
            part.samples.append(time)
    return Row(f"processor time, of {count} starts in a row", [*columns, *parts])


def _times_of_starts(count: int) -> list[float]:
    managers = [CommandManager(SLEEP, name=f"many-{number}") for number in range(count)]
    with contextlib.ExitStack() as stack:
        managers[0].start()  # so that there is a nursery
        stack.callback(managers[0].stop)
        nursery = psutil.Process(_guardians()[managers[0].name]).ppid()
        before = process_time_ns(), _ran(nursery)
        for manager in managers[1:]:
            stack.callback(manager.stop)
            manager.start(wait=False)
        owner = process_time_ns() - before[0]
        for manager in managers:
            settle(manager.process.pid)
        pids = _guardians()
        guardians = sum(_ran(pids[manager.name]) for manager in managers[1:])
        commands = sum(_ran(manager.process.pid) for manager in managers[1:])
        times = owner, _ran(nursery) - before[1], guardians, commands
    return [time / (count - 1) / 1e6 for time in times]


def _guardians() -> dict[str, int]:
    return {record.name: record.guardian.pid for record in recorded()}


def _time_of_popen(count: int) -> float:
    with _bare_processes() as processes:
        before = process_time_ns()
        _start_bare(count, SLEEP, processes)
        owner = process_time_ns() - before
        for process in processes:
            settle(process.pid)
        return (owner + sum(_ran(process.pid) for process in processes)) / count / 1e6


def _ran(pid: int) -> int:
    """Nanoseconds for which a process has run (proc(5), /proc/PID/schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


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
    with _bare_processes() as processes:
        start = seconds(lambda: _start_bare(count, command, processes))
        for process in processes:
            settle(process.pid)
        return start, seconds(lambda: _stop_bare(processes))


@contextlib.contextmanager
def _bare_processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Whoever is put into the list is killed at the end of the block if he runs still."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield processes
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
    "One after another, from one thread. All are asked to stop before the first one is waited for. Processor time is "
    "what the kernel has counted for each process until all servers had started.",
    measure,
)
