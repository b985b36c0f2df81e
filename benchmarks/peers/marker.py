"""A variable in the environment: whoever has it belongs to the server."""

from __future__ import annotations

import os
import secrets
import signal
import time

from benchmarks.peers import Order, Talk
from benchmarks.peers.signals import end

VARIABLE = "TRACKING_ID"


def hold(order: Order, talk: Talk) -> None:
    """Start the server with the variable, and end whoever has it."""
    value = secrets.token_hex(16)
    process = order.popen(env={**os.environ, VARIABLE: value}, start_new_session=True)

    def stop() -> None:
        process.terminate()  # it is known without a look, also if it has overwritten its environment
        _stop(f"{VARIABLE}={value}".encode(), order.grace)
        end(process, order.grace)

    talk(stop)


def _stop(text: bytes, grace: float) -> None:
    _send(_carriers(text), signal.SIGTERM)
    give_up = time.monotonic() + grace
    while _carriers(text) and time.monotonic() < give_up:
        time.sleep(0.01)
    quiet, give_up = 0, time.monotonic() + grace
    while quiet < 2 and time.monotonic() < give_up:
        left = _carriers(text)
        quiet = 0 if left else quiet + 1
        _send(left, signal.SIGKILL)
        time.sleep(0.01)
    if quiet < 2:
        raise RuntimeError("some have the variable still")


def _carriers(text: bytes) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _has(name, text)]


def _has(name: str, text: bytes) -> bool:
    try:
        with open(f"/proc/{name}/environ", "rb") as file:
            return text in file.read().split(b"\0")
    except OSError:  # gone, or not ours to read
        return False


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
