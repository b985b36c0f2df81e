"""A tree of sleeping processes: `forest.py COUNT ARITY [--sessions] [--ignore-term]`.

Process number n is the parent of those from n * ARITY + 1 on, ARITY of them. Says `pids` and the pids of the first
process's children, then `ready` once all have started.
"""

import os
import signal
import sys

LIFETIME = 300


def main() -> None:
    count, arity = int(sys.argv[1]), int(sys.argv[2])
    own_sessions = "--sessions" in sys.argv
    if "--ignore-term" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report, told = os.pipe()
    pids = grow(0, count, arity, own_sessions, told)
    missing = count - 1
    while missing:
        missing -= len(os.read(report, 65536))
    os.write(1, f"pids {' '.join(map(str, pids))}\nready\n".encode())
    sleep()


def grow(number: int, count: int, arity: int, own_sessions: bool, told: int) -> list[int]:
    """Fork the children of process `number`; returns in that process alone."""
    first = number * arity + 1
    pids = []
    for child in range(first, min(first + arity, count)):
        pid = os.fork()
        if pid == 0:
            if own_sessions:
                os.setsid()
            grow(child, count, arity, own_sessions, told)
            os.write(told, b".")
            sleep()
        pids.append(pid)
    return pids


def sleep() -> None:
    signal.alarm(LIFETIME)  # not inherited by forks, so each sets its own: nobody is left for ever
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
