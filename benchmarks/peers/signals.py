"""What the standard library offers: one process, or one group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.peers import Order, Talk


def direct(order: Order, talk: Talk) -> None:
    """End the process that was started."""
    process = order.popen()

    def stop() -> None:
        process.terminate()
        end(process, order.grace)

    talk(stop)


def end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Wait for a process that was asked to go, then kill it."""
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def careless(order: Order, talk: Talk) -> None:
    """A control: the same, and it signals its own siblings as well, by one that does not end them."""
    process = order.popen()

    def stop() -> None:
        process.terminate()
        above = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
        for pid in Path(above).read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGCONT)
        end(process, order.grace)

    talk(stop)


def group(order: Order, talk: Talk) -> None:
    """End the process group of what was started."""
    process = order.popen(start_new_session=True)
    talk(lambda: end_group(process, order))


def end_group(process: subprocess.Popen[bytes], order: Order) -> None:
    """Ask everyone in the group; kill the group as long as there is one."""
    pid = order.daemon(process.pid)
    leader = process.pid
    if pid != process.pid:
        with contextlib.suppress(ProcessLookupError):
            leader = os.getpgid(pid)
    if leader == os.getpgrp():
        raise RuntimeError("the daemon is in the group of its owner")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)
        give_up = time.monotonic() + order.grace
        while time.monotonic() < give_up:
            process.poll()  # an unreaped leader keeps the group
            os.killpg(leader, 0)
            time.sleep(0.005)
        os.killpg(leader, signal.SIGKILL)
    process.poll()
    if process.pid == leader:
        process.wait()
