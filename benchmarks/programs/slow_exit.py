"""A server that takes its time to exit on SIGTERM: `slow_exit.py SECONDS`."""

import os
import signal
import sys
import time

LIFETIME = 300


def main() -> None:
    signal.alarm(LIFETIME)
    signal.signal(signal.SIGTERM, leave)
    while True:
        signal.pause()


def leave(*_: object) -> None:
    time.sleep(float(sys.argv[1]))
    os._exit(0)


if __name__ == "__main__":
    main()
