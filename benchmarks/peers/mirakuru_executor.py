"""mirakuru."""

from __future__ import annotations

import subprocess
from typing import Any

from mirakuru import SimpleExecutor, TCPExecutor

from benchmarks.peers import Order, Talk

#: By default its output is a pipe that nobody reads.
_QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def hold(order: Order, talk: Talk) -> None:
    """Hold a server by the plain executor: the others differ in how they wait for a start."""
    executor = SimpleExecutor(order.argv, cwd=order.folder, timeout=order.grace, **_QUIET)
    executor.start()
    talk(executor.stop)


def plain(command: list[str], timeout: float, **options: Any) -> SimpleExecutor:
    """An executor that does not wait for a start."""
    return SimpleExecutor(command, timeout=timeout, **{**_QUIET, **options})


def listener(command: list[str], port: int, timeout: float) -> TCPExecutor:
    """An executor whose start returns when somebody accepts connections."""
    return TCPExecutor(command, "127.0.0.1", port, timeout=timeout, **_QUIET)
