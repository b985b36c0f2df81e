"""A server that starts to listen at a moment: `listener.py PORT MOMENT FILE`.

MOMENT is on the monotonic clock, which all processes share, in seconds; 0: at once. The moment at which the listener
was open goes to FILE, in nanoseconds. It ends at once on SIGTERM.
"""

import _socket
import os
import signal
import sys
import time

LIFETIME = 300


def main() -> None:
    port, moment, file = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    signal.alarm(LIFETIME)
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    time.sleep(max(0.0, moment - time.monotonic()))
    listener.listen(128)
    opened = time.monotonic_ns()
    # Whole or not at all: the reader may look at any moment.
    with open(f"{file}.new", "w", encoding="ascii") as stamp:
        stamp.write(str(opened))
    os.rename(f"{file}.new", file)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
