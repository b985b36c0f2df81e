"""What a guardian leaves that was no subreaper and was killed: whom it wrote down, and who is linked to those."""

from __future__ import annotations

import os

from servermgr import platform
from servermgr.guardian.flock import Flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from servermgr.guardian.slate import Slate


class Strays(Flock):
    """The members of another guardian's tree, seen by the nursery. None of them is its child.

    Args:
        reap: Collects the nursery's dead, guardians among them; returns how many.
        worker: The pid of the worker that the guardian had; 0 where it is not known.
        marker: The words in the tree's environment.
        slate: What the guardian wrote down.
    """

    def __init__(self, reap: Callable[[], int], worker: int, marker: bytes, slate: Slate) -> None:
        super().__init__(self._living_worker, lambda *_: None, marker, slate)
        self._reap_all = reap
        self._number = worker
        self._childless = True
        self._look(marks=True)

    def _living_worker(self) -> int | None:
        # The number was read from a file: only as that of a member does it mean anything.
        return self._number if self._number in self._members and platform.is_alive(self._number) else None

    def _roots(self, children: dict[int, list[int]]) -> list[int]:
        return []  # the nursery's children are guardians

    def _children(self) -> Iterable[int]:
        return []

    def reap(self) -> int:
        return self._reap_all()

    def _is_alien(self, pid: int) -> bool:
        stat = self._table.get(pid)
        return pid == os.getpid() or (stat is not None and stat.ppid == os.getpid())
