"""Deadlines on the monotonic clock, the pace of polling, and the one place that sleeps.

Nothing in this package compares wall-clock times: a clock step (NTP, suspend, a person) must neither
cut a grace period short nor stretch it.
"""

from __future__ import annotations

import time

#: Shortest and longest pause between two readiness polls, in seconds.
SHORTEST_PAUSE = 0.001
LONGEST_PAUSE = 0.025
#: Seconds from which on a time limit is none: three years.
_FOREVER = 1e8
#: Milliseconds of one poll at most.
_LONGEST_POLL = 86_400_000.0
#: Share of the time already waited that may be lost by noticing late.
LATENESS = 0.005
#: Share of a processor that may be spent on noticing earlier than that; and the share of time lost in a long wait.
_COST, _LATER = 0.04, 0.0005


class Deadline:
    """A monotonic instant, or never.

    Args:
        seconds: Seconds from now. `None` means never; `0` or less means that it has passed already,
            so that a loop written as "try, then check" runs exactly once.
    """

    __slots__ = ("_started", "seconds")

    def __init__(self, seconds: float | None) -> None:
        # The system's calls take no more than some years, and an endless grace period is a thing that people write.
        self.seconds = None if seconds is not None and seconds > _FOREVER else seconds
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._started

    def remaining(self) -> float | None:
        """Seconds left, never negative. `None` means that there is no limit."""
        return None if self.seconds is None else max(0.0, self.seconds - self.elapsed)

    @property
    def expired(self) -> bool:
        """Whether the instant has passed. Never true where there is no limit."""
        return self.remaining() == 0.0

    def within(self, seconds: float) -> float:
        """`seconds`, cut to what is left."""
        left = self.remaining()
        return seconds if left is None else min(seconds, left)


def pace(elapsed: float, cost: float | None = None) -> float:
    """How long to pause before the next readiness poll, in seconds.

    A small share of the time already waited: the notice comes late by a percent at most, while a
    server that takes a minute is not asked sixty thousand times. What is cheap to ask may be asked more often.

    Args:
        elapsed: Seconds waited so far.
        cost: Seconds that the last poll took; None for unknown.
    """
    pause = elapsed * LATENESS
    if cost is not None:
        pause = min(pause, max(cost / _COST, elapsed * _LATER))
    return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, pause))


def milliseconds(seconds: float | None) -> float | None:
    """What poll(2) is to be told for a wait of so many seconds, at most; None for no limit.

    It counts in whole milliseconds and rounds down, so half a one would be a spin; and it takes no more than some
    weeks, while a grace period may be endless: then one wait is a day, and the caller looks at the clock again.
    """
    if seconds is None:
        return None
    return min(max(1.0, seconds * 1000.0), _LONGEST_POLL) if seconds > 0 else 0.0


def sleep(seconds: float) -> None:
    """Sleep. Used only where no event exists to wait for; everything else waits on descriptors."""
    time.sleep(max(0.0, seconds))
