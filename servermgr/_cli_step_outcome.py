"""What comes of a step, on every system."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """How a step ended.

    Attributes:
        pid: The command's pid; None if it never ran.
        returncode: Its status, as `Popen.returncode`; None if it never ran or nobody could read it.
        errno: Why it never ran; 0 if it did.
        timed_out: Whether all of it was ended for the time it took.
        interrupted: Whether SIGINT came meanwhile.
        ended: Who was ended beside the command: pid, name, command line, and `went`, `killed` or `alive: why`.
        lost: Whether the guard was killed, and the step ended for that reason.
        seconds: How long all of it took.
    """

    pid: int | None
    returncode: int | None
    errno: int
    timed_out: bool
    interrupted: bool
    ended: tuple[tuple[int, str, str, str], ...]
    lost: bool
    seconds: float
