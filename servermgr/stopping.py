"""Terminate → grace period → kill → reap → verify, as steps that a loop takes.

The policy of ending a tree, apart from whose tree it is: the guardian takes these steps for the tree below
it, an owner for a tree it has adopted. A step says when the next is due. It never waits, but for those who are dying
of being killed, and for that no longer than some hundredths of a second.
"""

from __future__ import annotations

import signal
import time

from servermgr.platform import SIGCONT, SIGKILL, Unheard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class Members(Protocol):
        """Whose processes are to be ended."""

        def worker(self) -> int | None:
            """The worker's pid, or None once it has ended or while it is unknown."""

        def listing(self) -> Iterable[int]:
            """Everyone who lives, as far as one reading can tell."""

        def name_of(self, pid: int) -> str | None:
            """The process's name, or None once it has ended (also as a zombie that nobody has reaped yet)."""

        def signal(self, pid: int, number: int) -> None:
            """Signal a member by proven identity; one that is gone is no error.

            Raises PermissionError, and Unheard for a polite signal where the system has no way to send one.
            """

        def kill_groups(self) -> Callable[[], bool] | None:
            """Kill what can be killed in one stroke.

            Returns what follows that up without a listing, while one death follows upon another, and returns whether
            that goes on; None where nothing does.
            """

        def slain(self) -> dict[int, str]:
            """Who has died of SIGKILL since `kill_groups`, as far as `reap` has met them, by pid."""

        def reap(self) -> int:
            """Collect the dead; returns how many."""

        def empty(self) -> bool:
            """Proof that nobody is left."""

        def why_alive(self, pid: int) -> str:
            """Why a process may have survived being killed, for the report."""


#: Share of the grace period that the worker has to itself before everyone else is asked, too.
WORKER_SHARE = 0.75
#: Seconds from the first kill until whoever is left is reported as a survivor.
KILL_PATIENCE = 5.0
#: Most processes whose names are looked up for the report, so that a report never outweighs the work.
MOST_NAMED = 64
_SHORTEST, _LONGEST = 0.0005, 0.05
#: Seconds from the first kill to the first round of listing and killing one by one, and as long as one death follows
#: upon another.
_FIRST_ROUND, _LATEST_ROUND = 0.001, 0.5
#: The next round comes no earlier than this many times what the last one took, however many die meanwhile.
_ROUND_SHARE = 2.0


class Stopping:
    """One stop of one tree.

    Args:
        members: The tree.
        number: The polite signal for the worker; everyone else gets SIGTERM.
        grace: Seconds from the polite signal to the forced one; 0 kills at once.
    """

    def __init__(self, members: Members, number: int, grace: float) -> None:
        self._members = members
        self._signal = number
        self._began = time.monotonic()
        self._kill_at = self._began + grace
        self._ask_all_at = self._began + grace * WORKER_SHARE
        self._asked: dict[int, str] = {}
        self._killed: dict[int, str] = {}
        self._refused: set[int] = set()
        self._killing_since: float | None = None
        self._pursue: Callable[[], bool] | None = None
        self._round_at = 0.0
        self._pause = _SHORTEST
        self.survivors: list[tuple[int, str, str]] = []
        self.finished = False
        if grace > 0:
            self._ask_worker()

    @property
    def seconds(self) -> float:
        """Seconds since the stop began."""
        return time.monotonic() - self._began

    @property
    def polite(self) -> list[tuple[int, str]]:
        """Who was asked and went without being killed."""
        others = {pid for pid, _, _ in self.survivors} | {pid for pid, _ in self.killed}
        return [item for item in self._asked.items() if item[0] not in others]

    @property
    def killed(self) -> list[tuple[int, str]]:
        """Who was killed and is gone."""
        stayed = {pid for pid, _, _ in self.survivors}
        return [item for item in (self._members.slain() | self._killed).items() if item[0] not in stayed]

    def report(self) -> dict[str, object]:
        """The outcome, as the guardian tells it."""
        return {
            "is": "done",
            "polite": self.polite,
            "killed": self.killed,
            "survivors": self.survivors,
            "seconds": self.seconds,
        }

    def hurry(self, grace: float) -> None:
        """Shorten what is left of the grace period to `grace` seconds; it is never made longer."""
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        self._ask_all_at = min(self._ask_all_at, self._kill_at)

    def step(self) -> float | None:
        """Do what is due now. Returns the seconds until the next step, or None once the stop is finished."""
        self._members.reap()
        if self._is_over():
            return None
        now = time.monotonic()
        if now >= self._kill_at:
            return self._kill(now)
        if self._members.worker() is None or now >= self._ask_all_at:
            self._ask_everyone()
            return min(self._next_pause(), self._kill_at - now)
        self._ask_worker()  # again, for it may be another one by now: a server that was replacing its program
        return self._ask_all_at - now

    def _is_over(self) -> bool:
        self.finished = self._members.empty()
        return self.finished

    def _ask_worker(self) -> None:
        worker = self._members.worker()
        if worker is not None and worker not in self._asked:
            self._ask(worker, self._signal)

    def _ask_everyone(self) -> None:
        # Again and again until nobody is left or the time is up: a TERM handler may start new processes.
        for pid in self._members.listing():
            if pid not in self._asked:
                self._ask(pid, signal.SIGTERM)
                self._pause = _SHORTEST

    def _ask(self, pid: int, number: int) -> None:
        name = self._named(pid, len(self._asked))
        if name is None:
            return
        self._asked[pid] = name
        try:
            self._members.signal(pid, number)
            # A stopped process does not hear the polite signal before it goes on.
            self._members.signal(pid, SIGCONT)
        except PermissionError:
            self._refused.add(pid)
        except Unheard:
            del self._asked[pid]
            self.hurry(0.0)  # nobody knows that he should go, so nothing comes of waiting

    def _kill(self, now: float) -> float | None:
        if self._killing_since is None:
            self._killing_since = now
            self._pause = _SHORTEST
            self._pursue = self._members.kill_groups()
            if self._pursue is not None:
                self._round_at = now + _FIRST_ROUND
        if self._pursue is not None:
            goes_on = self._pursue()
            if self._is_over():
                return None
            now = time.monotonic()
            if goes_on and now - self._killing_since < _LATEST_ROUND:
                return 0.0
        if now < self._round_at:  # woken by one of the dying: they are met by `reap`, another round would be early
            return self._round_at - now
        progress = self._kill_round() + self._members.reap()
        if self._is_over():
            return None
        if now - self._killing_since >= KILL_PATIENCE:
            self._give_up()
            return None
        if progress:
            self._pause = _SHORTEST
        pause = self._next_pause()
        after = time.monotonic()
        self._round_at = after + min(pause, (after - now) * _ROUND_SHARE)
        return pause

    def _kill_round(self) -> int:
        """Kill whoever one reading shows; returns how many were new."""
        listed = list(self._members.listing())
        new = self._note_killed(listed)
        for pid in listed:
            try:
                self._members.signal(pid, SIGKILL)
                self._refused.discard(pid)
            except PermissionError:  # a set-uid child of an ordinary user: it may end by itself, so go on
                self._refused.add(pid)
        return new

    def _note_killed(self, pids: Iterable[int]) -> int:
        before = len(self._killed)
        for pid in pids:
            if pid not in self._killed:
                name = self._named(pid, len(self._killed))
                if name is not None:
                    self._killed[pid] = name
        return len(self._killed) - before

    def _named(self, pid: int, already: int) -> str | None:
        return self._members.name_of(pid) if already < MOST_NAMED else ""

    def _give_up(self) -> None:
        for pid in self._members.listing():
            why = "this user may not signal it" if pid in self._refused else self._members.why_alive(pid)
            name = self._members.name_of(pid)
            if name is not None:
                self.survivors.append((pid, name, why))
        self.finished = True

    def _next_pause(self) -> float:
        self._pause = min(_LONGEST, self._pause * 1.5)
        return self._pause
