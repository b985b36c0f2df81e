"""One process as the system's process table shows it."""

from __future__ import annotations


class ProcessStat:
    """One process at one moment.

    Attributes:
        pid, ppid, pgrp, session: Numbers of the process, its parent, its group and its session (0: unknown).
        name: The system's name of it, often cut (Linux: 15 bytes).
        state: One letter: `R`, `S`, `D`, `T`, `Z`, … (proc(5), ps(1)).
        start: Creation time in a unit and from an origin that this system keeps for as long as it runs; to be
            compared, not shown. Linux: clock ticks since boot. One tick is 10 ms, so a pid that is reused
            faster than that looks the same: only a pidfd proves identity.
    """

    __slots__ = ("name", "pgrp", "pid", "ppid", "session", "start", "state")

    def __init__(self, pid: int, name: str, state: str, ppid: int, pgrp: int, session: int, start: int) -> None:
        self.pid = pid
        self.name = name
        self.state = state
        self.ppid = ppid
        self.pgrp = pgrp
        self.session = session
        self.start = start
