"""The dead that nobody waits for, in a process that is a subreaper and starts children of its own, too."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from servermgr import platform

assert sys.platform != "win32"

if TYPE_CHECKING:
    from servermgr._pytest_census import Known
    from servermgr.platform.stat import ProcessStat


def reap_adopted(known: Known, stat: ProcessStat) -> bool:
    """Collect a dead orphan that has come to this process as its subreaper. Returns whether it is gone now.

    Only what somebody else has certainly started is collected: whoever started a child here (`subprocess`, `asyncio`,
    `multiprocessing`, a bare fork) still wants its exit status. A doubtful one remains as a zombie until this process
    ends, which costs an entry in the system's table and nothing else.
    """
    mine = platform.read_stat(os.getpid())
    if mine is None:
        return False
    # A child of this process is in its session, or has made one of its own, which has the child's own number.
    if known.parent == mine.pid and stat.session in (mine.session, stat.pid):
        return False
    # It is our zombie, so nobody else can have its number before this.
    try:
        os.waitpid(stat.pid, os.WNOHANG)
    except ChildProcessError:
        pass  # another thread was faster
    return True
