"""Small init programs, not as process 1 but between owner and server."""

from __future__ import annotations

from benchmarks.peers import Order, Talk, program
from benchmarks.peers.signals import end


def tini(order: Order, talk: Talk) -> None:
    """A subreaper that passes the signal on to the server's group; it is told of its parent's death."""
    _hold(order, talk, "tini", "-s", "-g", "-p", "SIGTERM", "--")


def dumb_init(order: Order, talk: Talk) -> None:
    """Makes a session, passes signals on to its group, and sends one to the session when its child has ended."""
    _hold(order, talk, "dumb-init", "--")


def _hold(order: Order, talk: Talk, name: str, *arguments: str) -> None:
    process = order.popen([program(name) or name, *arguments, *order.argv], start_new_session=True)

    def stop() -> None:
        process.terminate()
        end(process, order.grace)

    talk(stop)
