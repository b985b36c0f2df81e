"""Killing many processes at once."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.peers import PEERS
from benchmarks.processes import PATIENCE, answer, forest, module, program
from servermgr import CommandManager

WHY = (
    "A guardian is another process: it must be woken, and its own end awaited, since who hears that all is gone must "
    "find it gone, too. The column of the floor has just that, and the kernel's figure in it; where each process has "
    "a session, also the way from the top down that who does not know the pids has to go. What is beyond the floor, is "
    "in the table of phases: it does not grow with the tree, but for the names, which are taken down before the "
    "reaping, of 64 processes at most."
)
GOALS = (Goal("times", 1.5, why=WHY),)


def measure(plan: Plan) -> Iterator[Row]:
    """Each size, with one session for all and with one for each."""
    for sessions in (False, True):
        for size in plan.kill_sizes:
            yield _compare(size, sessions, plan)


def _compare(size: int, sessions: bool, plan: Plan) -> Row:
    reference = ("kill() each, wait", "each") if sessions else ("killpg(), wait", "group")
    contenders = [
        Contender("servermgr: kill()", lambda _: _kill(size, sessions), "ours"),
        Contender(reference[0] + " (the kernel's figure)", lambda _: _other(reference[1], size, sessions), "reference"),
        Contender("cgroup.kill", lambda _: _other("cgroup", size, sessions), missing=PEERS["cgroup"].missing),
        Contender("psutil's recipe", lambda _: _other("psutil", size, sessions)),
        Contender("mirakuru: kill()", lambda _: _other("mirakuru", size, sessions), missing=PEERS["mirakuru"].missing),
    ]
    floor = program("floor", "kill", size, *(["--sessions"] if sessions else []))
    contenders.append(Contender("the floor: a bare fork, asked to", lambda _: float(answer(floor))))
    case = f"{size} processes, {'each its own session' if sessions else 'one session'}"
    rounds = plan.rounds if size < 1000 else plan.fewer(4 if size == 1000 else 6)
    return compare(case, contenders, rounds=rounds, goals=GOALS, warmup=int(size < 1000))


def _kill(size: int, sessions: bool) -> float:
    command = forest(size, sessions=sessions, ignore_term=True)
    manager = CommandManager(command, ready="log:^ready", grace_period=0)
    manager.start(timeout=PATIENCE)
    try:
        return seconds(manager.kill)  # survivors raise
    finally:
        manager.stop()


def _other(method: str, size: int, sessions: bool) -> float:
    return float(answer(module("killer", method, size, *(["--sessions"] if sessions else []))))


MEASUREMENT = Measurement(
    "kill",
    "Killing a tree that ignores SIGTERM",
    "From the call until nobody is left and everyone is reaped. One process has forked all others. The "
    "references know the group, or every pid, beforehand; psutil's recipe with SIGKILL; "
    "mirakuru and `cgroup.kill` until everyone is reaped. The others run in a process to which the orphans come, so "
    "that they need not wait for process 1 to reap.",
    measure,
)
