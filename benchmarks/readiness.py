"""From the moment a server listens until its owner knows."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare
from benchmarks.peers import PEERS
from benchmarks.processes import PATIENCE, accepts, bare, free_port, program, until
from servermgr import CommandManager

#: Runs a server for as long as its block lasts, and tells the moment at which it was known to listen.
Run = Callable[[list[str], int], AbstractContextManager[int]]
WHY = (
    "No event tells that a socket listens, so it is tried again and again, at a pace that takes 4 % of a processor at "
    "most: a server that takes seconds to start is not asked a thousand times a second meanwhile."
)
GOALS = (Goal("most", 2.0, why=WHY), *(Goal("faster", 20.0, than=name) for name in ("mirakuru", "pytest-xprocess")))
MIRAKURU, XPROCESS = PEERS["mirakuru"], PEERS["xprocess"]


def measure(plan: Plan) -> Iterator[Row]:
    """A case for each delay."""
    for delay in plan.delays:
        yield _compare(delay, plan.rounds if delay < 1 else plan.fewer(6))


def _compare(delay: float, rounds: int) -> Row:
    # Spread, lest a poll each 100 ms always meets the server in the same moment of its pause; the same for everyone.
    spread = min(0.05, delay / 2)
    chance = random.Random(20)
    delays = [delay + chance.uniform(-spread, spread) for _ in range(rounds)]
    contenders = [
        Contender("servermgr: start()", lambda number: _start(delays[number]), "ours"),
        Contender("connect each 1 ms", lambda number: _poll(delays[number], 0.001), "reference"),
        Contender("connect each 100 ms", lambda number: _poll(delays[number], 0.1)),
        Contender("mirakuru: start()", lambda number: _mirakuru(delays[number]), missing=MIRAKURU.missing),
        Contender("pytest-xprocess: ensure()", lambda number: _xprocess(delays[number]), missing=XPROCESS.missing),
    ]
    return compare(
        f"listens {delay * 1000:.0f} ± {spread * 1000:.0f} ms after the call", contenders, rounds=rounds, goals=GOALS
    )


def _start(delay: float) -> float:
    @contextlib.contextmanager
    def run(command: list[str], port: int) -> Iterator[int]:
        with CommandManager(command, ready=f"tcp://127.0.0.1:{port}", grace_period=0):
            yield time.monotonic_ns()

    return _late(delay, run)


def _mirakuru(delay: float) -> float:
    @contextlib.contextmanager
    def run(command: list[str], port: int) -> Iterator[int]:
        with MIRAKURU.load().listener(command, port, PATIENCE):
            yield time.monotonic_ns()

    return _late(delay, run)


def _xprocess(delay: float) -> float:
    @contextlib.contextmanager
    def run(command: list[str], port: int) -> Iterator[int]:
        with (
            tempfile.TemporaryDirectory() as folder,
            XPROCESS.load().started(command, folder, lambda: accepts(port)),
        ):
            yield time.monotonic_ns()

    return _late(delay, run)


def _poll(delay: float, period: float) -> float:
    @contextlib.contextmanager
    def run(command: list[str], port: int) -> Iterator[int]:
        with bare(command):
            yield _connect(port, period)

    return _late(delay, run)


def _connect(port: int, period: float) -> int:
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(period)
        else:
            return time.monotonic_ns()
    raise TimeoutError(f"nobody listens on port {port}")


def _late(delay: float, run: Run) -> float:
    """Seconds from the server's own stamp to the moment that `run` tells."""
    with tempfile.TemporaryDirectory() as folder:
        stamp, port = Path(folder, "stamp"), free_port()
        with run(program("listener", port, time.monotonic() + delay, stamp), port) as known:
            until(stamp.exists, "the stamp")  # it is written just after listen()
            return (known - int(stamp.read_text())) / 1e9


MEASUREMENT = Measurement(
    "readiness",
    "Noticing that a server is ready",
    "From the moment the server listens (its own stamp, on the clock that all processes share) until `start()` "
    "returns, with a `tcp://` probe; for the others until a connection is accepted. `start()` has by then also made "
    "sure that the listener belongs to its own tree.",
    measure,
)
