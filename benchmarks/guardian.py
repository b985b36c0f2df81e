"""What a guardian costs while nothing happens."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Column, Goal, Measurement, Plan, Row
from benchmarks.processes import SLEEP, bare, settle
from servermgr import CommandManager
from servermgr import platform as system

BARE = [sys.executable, "-I", "-S", "-c", "import signal; signal.alarm(300); signal.pause()"]
TREES = 3


@dataclass(frozen=True)
class Group:
    """Processes of one kind, that are looked at together."""

    column: Column
    pids: Sequence[int]

    def filled(self, read: Callable[[int], float]) -> Column:
        """The column with a sample of each process."""
        return Column(self.column.name, self.column.role, [read(pid) for pid in self.pids])


def measure(plan: Plan) -> Iterator[Row]:
    """Memory, then processor time and wake-ups over some seconds."""
    with contextlib.ExitStack() as stack:
        managers = [stack.enter_context(CommandManager(SLEEP, grace_period=0)) for _ in range(TREES)]
        bystanders = [stack.enter_context(bare(BARE)) for _ in range(TREES)]
        guardians = [_parent(manager.process.pid) for manager in managers]
        groups = [
            Group(Column("a guardian (one for each server)", "ours"), guardians),
            Group(Column("the nursery (one for each owner)", "peer"), [_parent(guardians[0])]),
            Group(Column("a bare Python asleep", "reference"), [process.pid for process in bystanders]),
        ]
        for group in groups:
            for pid in group.pids:
                settle(pid)
        time.sleep(0.5)  # what a start leaves to be done
        yield from _memory(groups)
        yield from _idle(groups, plan.idle)


def _parent(pid: int) -> int:
    stat = system.read_stat(pid)
    if stat is None:
        raise RuntimeError(f"process {pid} has ended")
    return stat.ppid


def _memory(groups: Sequence[Group]) -> Iterator[Row]:
    row = Row("memory of its own (USS)", [group.filled(_unshared) for group in groups], "MB")
    yield row.check([Goal("most", 8.0)])
    yield Row("its share of all memory (PSS)", [group.filled(_share) for group in groups], "MB")


def _unshared(pid: int) -> float:
    table = _rollup(pid)
    return table["Private_Clean"] + table["Private_Dirty"]


def _share(pid: int) -> float:
    return _rollup(pid)["Pss"]


def _rollup(pid: int) -> dict[str, float]:
    """Megabytes by name, of a whole process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines)}


def _idle(groups: Sequence[Group], span: float) -> Iterator[Row]:
    pids = [pid for group in groups for pid in group.pids]
    before = {pid: (_processor(pid), _wakeups(pid)) for pid in pids}
    time.sleep(span)
    after = {pid: (_processor(pid), _wakeups(pid)) for pid in pids}
    during = f"in {span:g} s"
    processor = [group.filled(lambda pid: (after[pid][0] - before[pid][0]) * 1000) for group in groups]
    yield Row(f"processor time {during}", processor)
    wakeups = [group.filled(lambda pid: after[pid][1] - before[pid][1]) for group in groups]
    yield Row(f"wake-ups {during}", wakeups, "times").check([Goal("most", 0.0)])


def _processor(pid: int) -> float:
    """Seconds on a processor, finer than the clock ticks of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _wakeups(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


MEASUREMENT = Measurement(
    "guardian",
    "An idle guardian",
    f"Guardians of {TREES} servers that do nothing, beside interpreters that only sleep. Memory is read from "
    "/proc/PID/smaps_rollup; wake-ups are context switches of both kinds.",
    measure,
)
