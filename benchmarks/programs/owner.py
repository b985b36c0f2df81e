"""A program that owns a server and is about to be killed: `owner METHOD COUNT`.

Says the pids of the server's processes. With `servermgr` a manager holds them; with `pdeathsig` the kernel is asked
to signal the one child when its parent ends (prctl(2), PR_SET_PDEATHSIG).
"""

import ctypes
import os
import signal
import sys

from benchmarks.processes import PATIENCE, SLEEP, forest
from servermgr import CommandManager

LIFETIME = 300
PR_SET_PDEATHSIG = 1


def main() -> None:
    signal.alarm(LIFETIME)
    libc = ctypes.CDLL(None)  # in both, so that the kernel has as much to clear away
    pids = with_servermgr(int(sys.argv[2])) if sys.argv[1] == "servermgr" else with_pdeathsig(libc)
    print(*pids, flush=True)
    while True:
        signal.pause()


def with_servermgr(count: int) -> list[int]:
    manager = CommandManager(SLEEP) if count == 1 else CommandManager(forest(count), ready="log:^ready")
    manager.start(timeout=PATIENCE)
    return [info.pid for info in manager.processes()]


def with_pdeathsig(libc: ctypes.CDLL) -> list[int]:
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.execvp(SLEEP[0], SLEEP)
    return [pid]


if __name__ == "__main__":
    main()
