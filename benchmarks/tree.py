"""Listing a tree on a machine that runs other things, too."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import crowd, forest, held, same_processes
from servermgr import CommandManager
from servermgr import platform as system


def measure(plan: Plan) -> Iterator[Row]:
    """A case for each number of unrelated processes."""
    first: Row | None = None
    with held(forest(plan.tree_size, arity=4)) as manager:
        for count in plan.unrelated:
            with crowd(count):
                row = _compare(manager, count, plan.rounds)
            first = first or row
            yield row.check([Goal("flat", 1.2, first, f"that with {plan.unrelated[0]}")])


def _compare(manager: CommandManager, count: int, rounds: int) -> Row:
    root = manager.process.pid
    if not same_processes(list(system.descendants(root)), root):
        raise RuntimeError("psutil sees another tree")
    contenders = [
        Contender("servermgr: processes()", lambda _: seconds(manager.processes), "ours"),
        Contender("psutil: children(recursive=True)", lambda _: seconds(lambda: _psutil(root)), "reference"),
        Contender("servermgr.platform: descendants()", lambda _: seconds(lambda: system.descendants(root))),
    ]
    return compare(f"{count:,} unrelated processes", contenders, rounds=rounds)


def _psutil(root: int) -> list[psutil.Process]:
    return psutil.Process(root).children(recursive=True)


MEASUREMENT = Measurement(
    "tree",
    "Listing a tree",
    "A tree of sleeping processes, four children to each. `processes()` reads names and states as well, the other two "
    "find out who is in it.",
    measure,
)
