"""mirakuru."""

from __future__ import annotations

import subprocess

from mirakuru import SimpleExecutor

from benchmarks.peers import Order, Talk


def hold(order: Order, talk: Talk) -> None:
    """Hold a server by the plain executor: the others differ in how they wait for a start."""
    executor = SimpleExecutor(
        order.argv,
        cwd=order.folder,
        timeout=order.grace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    executor.start()
    talk(executor.stop)
