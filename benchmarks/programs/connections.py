"""Holds TCP connections of the loopback interface, both ends of each: `connections.py COUNT`. Then says `ready`."""

import os
import signal
import socket
import struct
import sys

LIFETIME = 300


def main() -> None:
    signal.alarm(LIFETIME)
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    ends = []
    for _ in range(int(sys.argv[1])):
        near = socket.create_connection(listener.getsockname())
        ends += [near, listener.accept()[0]]
    for end in ends:
        # A reset at the end: what is left in TIME_WAIT would be there in the measurements that follow.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.write(1, b"ready\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
