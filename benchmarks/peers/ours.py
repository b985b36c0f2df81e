"""servermgr itself."""

from __future__ import annotations

from benchmarks.peers import Order, Talk
from servermgr import CommandManager

#: Seconds for a daemon's pidfile.
START = 30.0


def hold(order: Order, talk: Talk) -> None:
    """Hold a server by a manager."""
    manager = CommandManager(
        order.argv,
        cwd=order.folder,
        pidfile=order.pidfile or None,
        grace_period=order.grace,
        crash_grace=order.grace,
    )
    manager.start(timeout=START)
    talk(manager.stop)
