"""The recipe of psutil's documentation for ending a process tree, with a forced end behind it."""

from __future__ import annotations

import contextlib
import signal

import psutil

from benchmarks.peers import Order, Talk


def hold(order: Order, talk: Talk) -> None:
    """Hold a server by a bare Popen, and end its tree by the recipe."""
    process = order.popen(start_new_session=True)
    talk(lambda: end_tree(order.daemon(process.pid), order.grace))
    process.poll()


def end_tree(pid: int, grace: float) -> None:
    """Send SIGTERM to the children, the parent last; wait; kill whoever is left."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
        send(family, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=grace)
        send(alive, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=grace)


def send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
