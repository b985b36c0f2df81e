"""A Pyro service as its documentation has it: `pyro_adder.py PORT`, the port of the name server on the loopback.

On SIGTERM it takes its name back, as servermgr's does, so that neither meets what the other has left.
"""

from __future__ import annotations

import signal
import sys

import Pyro5.api

LIFETIME = 300


@Pyro5.api.expose
class Adder:
    def add(self, left: int, right: int) -> int:
        return left + right


def main() -> None:
    signal.alarm(LIFETIME)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Pyro5.api.Daemon("127.0.0.1") as daemon, Pyro5.api.locate_ns("127.0.0.1", int(sys.argv[1])) as names:
        names.register("adder", daemon.register(Adder))
        try:
            daemon.requestLoop()
        finally:
            names.remove("adder")


if __name__ == "__main__":
    main()
