"""From `start()` until a real server can be used, beside the same server started bare and asked without a pause."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Contender, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import PATIENCE, free_port
from servermgr import _postgres_wire, _redis_wire, postgres, redis
from servermgr.base import Manager, WorkerError
from servermgr.errors import LaunchError


def measure(plan: Plan) -> Iterator[Row]:
    """A case for each server that this machine has."""
    for case in (_postgres, _redis):
        with contextlib.suppress(LaunchError):  # it is not installed
            yield case(plan)


def _postgres(plan: Plan) -> Row:
    def ask(manager: postgres.Manager) -> None:
        path = os.path.join(manager.socket_dir, f".s.PGSQL.{manager.port}")
        with _postgres_wire.Session(path, "postgres", "postgres", PATIENCE) as session:
            session.query("SELECT 1")

    with _folder() as folder:
        manager = postgres.Manager("127.0.0.1", free_port(), folder / "db", initialize=True, fast=True)
        return _compare("PostgreSQL, SELECT 1", manager, lambda: ask(manager), signal.SIGINT, plan)


def _redis(plan: Plan) -> Row:
    def ask(manager: redis.Manager) -> None:
        with _redis_wire.Session(("127.0.0.1", manager.port), None, PATIENCE) as session:
            session.ask("PING")

    with _folder() as folder:
        manager = redis.Manager("127.0.0.1", free_port(), folder / "data", persist=False)
        return _compare("Redis, PING", manager, lambda: ask(manager), signal.SIGTERM, plan)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A directory that a server may enter which root starts as an ordinary user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103
        yield Path(name)


def _compare(case: str, manager: Manager, ask: Callable[[], None], number: int, plan: Plan) -> Row:
    with manager:  # makes its directory; the bare server is given the same command, directory and user
        argv = list(manager.process.args)
        owner = os.stat(f"/proc/{manager.process.pid}")
    program = next(index for index, word in enumerate(argv) if word.endswith(("/postgres", "-server")))
    user = {} if owner.st_uid == os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}

    def bare(_: int) -> float:
        began = time.perf_counter()
        with subprocess.Popen(argv[program:], stdin=subprocess.DEVNULL, **_quiet(), **user) as process:  # type: ignore[call-overload]
            try:
                _until_answered(ask)
                return time.perf_counter() - began
            finally:
                process.send_signal(number)

    def managed(_: int) -> float:
        try:
            return seconds(lambda: _start_and_ask(manager, ask))
        finally:
            manager.stop()

    contenders = [
        Contender("servermgr: start()", managed, "ours"),
        Contender("Popen, asked each 1 ms", bare, "reference"),
    ]
    return compare(case, contenders, rounds=plan.fewer(2))


def _quiet() -> dict[str, int]:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _start_and_ask(manager: Manager, ask: Callable[[], None]) -> None:
    manager.start(timeout=PATIENCE)
    ask()


def _until_answered(ask: Callable[[], None]) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (OSError, WorkerError):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.001)


MEASUREMENT = Measurement(
    "servers",
    "Starting real servers",
    "From the call until a real question is answered, over and over on the same directory. Root starts them as an "
    "ordinary user in both ways. Before its start `start()` looks whether the address and the directory are free, and "
    "after it whether the listener belongs to its own tree.",
    measure,
)
