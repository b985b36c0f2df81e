"""Processes that are ended from outside: each held by identity from the moment it is seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.deadline import sleep
from servermgr.identity import Held
from servermgr.stopping import Stopping
from servermgr.tree import Ended, StopOutcome, Survivor

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Longest wait for an event, in seconds: where there is no pidfd there is no event.
LONGEST_WAIT = 0.05
#: Share of the descriptors of this process that may be in use while more are taken for holding processes.
_SHARE = 0.75


class Pinned:
    """A set of processes that grows by what a subclass finds, and shrinks by what ends.

    Keeps the promises of `stopping.Members`. There is no guardian above these processes and this process does
    not reap them, so "nobody is left" means that two readings in a row have found nobody.
    """

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._empty_readings = 0
        self._kills_at_sight = False

    def find(self) -> Iterable[Held]:
        """Processes that belong here, each pinned before it was recognized. Known ones may be among them."""
        raise NotImplementedError

    def worker(self) -> int | None:
        """Nobody is asked before the others."""
        return None

    def listing(self) -> Iterable[int]:
        for held in self.find():
            self._take(held)
        for pid in [pid for pid, held in self._held.items() if not held.is_alive()]:
            self._held.pop(pid).close()
        return list(self._held)

    def known(self) -> list[int]:
        """Who was seen so far and lives."""
        return [pid for pid, held in self._held.items() if held.is_alive()]

    def _take(self, held: Held) -> None:
        already = self._held.get(held.pid)
        if held.pid == os.getpid() or (already is not None and already.identity.exists()):
            if held is not already:
                held.close()
            return
        if already is not None:
            already.close()
        self._held[held.pid] = held
        if self._kills_at_sight:  # of a storm nobody lives until the reading is complete
            self._kill(held)

    def _kill(self, held: Held) -> None:
        try:
            held.signal(platform.SIGKILL)
        except PermissionError:
            pass  # the round that follows says so

    def descendants_of(self, roots: Iterable[int]) -> Iterable[Held]:
        """All that descends from `roots` at this moment, pinned, with the descent read behind the pins."""
        covered: set[int] = set()
        for root in roots:
            if root not in covered:
                for held in self._below(root):
                    covered.add(held.pid)
                    yield held

    def _below(self, root: int) -> list[Held]:
        proven: dict[int, Held] = {}
        for pid in platform.descendants(root):  # parents come before their children
            held = pin(pid)
            stat = platform.read_stat(pid)
            if held is not None and stat is not None and (stat.ppid == root or stat.ppid in proven):
                proven[pid] = held
            elif held is not None:
                held.close()
        # Read last: if the root is itself still, its number meant nobody else while the others were read.
        if self._is_itself(root):
            return list(proven.values())
        for held in proven.values():
            held.close()
        return []

    def _is_itself(self, root: int) -> bool:
        held = self._held.get(root)
        return held is None or held.identity.exists()

    def name_of(self, pid: int) -> str | None:
        stat = platform.read_stat(pid)
        return stat.name if stat is not None and platform.is_alive(pid) else None

    def signal(self, pid: int, number: int) -> None:
        held = self._held.get(pid)
        if held is not None:
            held.signal(number)

    def kill_groups(self) -> None:
        """From now on whoever is found is killed at once, each by identity: a group may hold others by now."""
        self._kills_at_sight = True

    def slain(self) -> dict[int, str]:
        return {}

    def reap(self) -> int:
        return 0

    def empty(self) -> bool:
        # Who cannot even read of himself (no descriptor left, no /proc) does not see the others either.
        blind = platform.read_stat(os.getpid()) is None
        self._empty_readings = 0 if self.listing() or blind else self._empty_readings + 1
        return self._empty_readings > 1

    def why_alive(self, pid: int) -> str:
        stat = platform.read_stat(pid)
        return f"it did not die of SIGKILL (state {stat.state if stat else '?'})"

    def wait_event(self, timeout: float) -> None:
        """Wait until one of them ends, or `timeout` seconds at most."""
        pidfds = [held.pidfd for held in list(self._held.values()) if held.pidfd >= 0]  # another thread may change it
        if pidfds:
            platform.wait_readable(pidfds, timeout)
        else:
            sleep(min(timeout, LONGEST_WAIT))

    def close(self) -> None:
        """Let go of the identities held."""
        while self._held:
            self._held.popitem()[1].close()


def _spare_descriptors(held: Held) -> None:
    # They are numbered from below, so the number of the newest says how many are in use. Without one nothing can
    # be read of any process, and a tree that cannot be seen would pass for one that is gone.
    sysconf = getattr(os, "sysconf", None)
    if held.pidfd >= 0 and sysconf is not None and held.pidfd > sysconf("SC_OPEN_MAX") * _SHARE:
        held.close()


def pin(pid: int) -> Held | None:
    """Hold whoever has this pid; None if nobody has. Where descriptors run short, by the identity alone."""
    try:
        held = Held(pid)
    except (ProcessLookupError, OverflowError):  # a number in a file need not even fit a pid
        return None
    _spare_descriptors(held)
    return held


def end(members: Pinned, number: int, grace: float) -> StopOutcome:
    """End them all, and wait for it: bounded by `grace` and `stopping.KILL_PATIENCE`."""
    stopping = Stopping(members, number, grace)
    while True:
        due = stopping.step()
        if stopping.finished:
            return outcome_of(stopping, None)
        members.wait_event(LONGEST_WAIT if due is None else min(due, LONGEST_WAIT))


def outcome_of(stopping: Stopping, status: int | None) -> StopOutcome:
    """The outcome of a stop that is finished."""
    return StopOutcome(
        tuple(Ended(*item) for item in stopping.polite),
        tuple(Ended(*item) for item in stopping.killed),
        tuple(Survivor(*item) for item in stopping.survivors),
        status,
        stopping.seconds,
    )
