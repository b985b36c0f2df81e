"""What a soak watches, and when it says that something grows."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._torture_look import process_stat
from benchmarks.processes import SLEEP
from servermgr import CommandManager

Sample = dict[str, float]


@dataclass(frozen=True)
class Watched:
    """Something that must not grow.

    Attributes:
        title: What it is, with its unit.
        tolerance: How much more the last third may have than the first, in that unit.
    """

    title: str
    tolerance: float = 0.0


WATCHED: dict[str, Watched] = {
    "descriptors": Watched("descriptors of the owner"),
    "threads": Watched("threads of the owner"),
    "children": Watched("children of the owner"),
    "zombies": Watched("zombies below the owner and the nursery"),
    # An object that each cycle leaves would be thousands; the samples themselves are some hundreds.
    "objects": Watched("blocks that Python has allocated in the owner", 3000.0),
    # Allocators take memory by the megabyte and give back little; what the blocks do not tell has to exceed that.
    "memory": Watched("resident memory of the owner (MB)", 2.0),
    "nursery descriptors": Watched("descriptors of the nursery"),
    "nursery threads": Watched("threads of the nursery"),
    "nursery children": Watched("children of the nursery"),
    "nursery memory": Watched("resident memory of the nursery (MB)", 0.5),
    "ledger": Watched("files and folders in the ledger"),
    "temporary": Watched("temporary files"),
}


def nursery() -> int:
    """Its pid: the parent of the guardian of a server that is started for this question."""
    with CommandManager(SLEEP, grace_period=0) as manager:
        pid = parent_of(parent_of(manager.process.pid))
    if b"servermgr.guardian.nursery" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        raise RuntimeError(f"process {pid} is no nursery")
    return pid


def parent_of(pid: int) -> int:
    stat = process_stat(pid)
    if stat is None:
        raise RuntimeError(f"process {pid} has ended")
    return int(stat[2][1])


def look(ledger: Path, temporary: Path) -> Sample:
    """A sample, taken between two cycles, once nobody comes or goes any more: who has ended needs time to be reaped."""
    own, keeper = os.getpid(), nursery()
    below = _settled(own, keeper)
    gc.collect()  # circles that Python would find later, the more of them the larger the program, are no growth
    return {
        "descriptors": float(len(os.listdir("/proc/self/fd"))),
        "threads": float(max(threads(own), threading.active_count())),
        "children": float(sum(parent == own for parent in below.values())),
        "zombies": float(sum(_state(pid) == "Z" for pid in below)),
        "objects": float(sys.getallocatedblocks()),
        "memory": memory(own),
        "ledger": float(sum(len(names) + len(folders) for _, folders, names in os.walk(ledger))),
        "temporary": float(sum(len(names) + len(folders) for _, folders, names in os.walk(temporary))),
        "nursery descriptors": float(len(os.listdir(f"/proc/{keeper}/fd"))),
        "nursery threads": float(threads(keeper)),
        "nursery children": float(sum(parent == keeper for parent in below.values())),
        "nursery memory": memory(keeper),
    }


def _settled(*roots: int) -> dict[int, int]:
    """Everyone below them, by pid, with the parent, when three looks have seen the same; after 2 s in any case."""
    give_up, alike, before = time.monotonic() + 2.0, 0, {0: 0}
    while alike < 2 and time.monotonic() < give_up:
        found = {pid: parent for root in roots for pid, parent in descendants(root).items()}
        alike = alike + 1 if found == before else 0
        before = found
        time.sleep(0.01)
    return before


def descendants(root: int) -> dict[int, int]:
    """Pid and parent of everyone below a process."""
    parents = {
        int(name): int(stat[2][1]) for name in os.listdir("/proc") if name.isdigit() and (stat := process_stat(name))
    }
    found: dict[int, int] = {}
    new = {root}
    while new:
        found |= {pid: parent for pid, parent in parents.items() if parent in new}
        new = {pid for pid, parent in parents.items() if parent in new}
    return found


def _state(pid: int) -> str:
    stat = process_stat(pid)
    return stat[0] if stat else ""


def memory(pid: int) -> float:
    """Resident memory in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@dataclass(frozen=True)
class Verdict:
    """Of one watched thing: medians of the first and of the last third, and whether that is growth."""

    name: str
    first: float
    last: float
    tolerance: float

    @property
    def grows(self) -> bool:
        return self.last - self.first > self.tolerance


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """Compare the last third of the samples with the first.

    Raises:
        ValueError: There are too few of them to judge.
    """
    third = len(samples) // 3
    if third < 1:
        raise ValueError("a verdict needs three samples")
    found = []
    for name, watched in WATCHED.items():
        first, last = (
            [sample[name] for sample in part if name in sample] for part in (samples[:third], samples[-third:])
        )
        if first and last:
            found.append(Verdict(name, statistics.median(first), statistics.median(last), watched.tolerance))
    return found
