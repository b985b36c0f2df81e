"""From `start()` until a real server can be used, beside the same server started bare and asked without a pause."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Contender, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import PATIENCE, PROGRAMS, free_port
from servermgr import (
    _postgres_wire,
    _pyro_client,
    _redis_wire,
    _web_child,
    _web_health,
    django_app,
    nginx,
    postgres,
    pyro_ns,
    pyro_service,
    redis,
    web_app,
)
from servermgr.base import Manager, WorkerError
from servermgr.errors import LaunchError
from servermgr.tree import MARKER_VARIABLE

HERE = "127.0.0.1"


def measure(plan: Plan) -> Iterator[Row]:
    """A case for each server that this machine has; why one is left out is said on standard error."""
    for case in (_postgres, _redis, _nginx, _gunicorn, _uvicorn, _runserver, _pyro_ns, _pyro_service):
        try:
            yield case(plan)
        except LaunchError as error:
            print(f"servers: {case.__name__.strip('_')} is left out: {error.text}", file=sys.stderr, flush=True)


# ---- the cases ------------------------------------------------------------------------------------------------


def _postgres(plan: Plan) -> Row:
    def ask() -> None:
        path = os.path.join(manager.socket_dir, f".s.PGSQL.{manager.port}")
        with _postgres_wire.Session(path, "postgres", "postgres", PATIENCE) as session:
            session.query("SELECT 1")

    with _folder() as folder:
        manager = postgres.Manager(HERE, free_port(), folder / "db", initialize=True, fast=True)
        return _compare("PostgreSQL, SELECT 1", manager, ask, plan)


def _redis(plan: Plan) -> Row:
    def ask() -> None:
        with _redis_wire.Session((HERE, manager.port), None, PATIENCE) as session:
            session.ask("PING")

    with _folder() as folder:
        manager = redis.Manager(HERE, free_port(), folder / "data", persist=False)
        return _compare("Redis, PING", manager, ask, plan)


def _nginx(plan: Plan) -> Row:
    with _folder() as folder:
        manager = nginx.Manager(HERE, free_port(), folder / "nginx", foreground=True)
        return _compare("nginx in the foreground, GET /", manager, _get(manager.port, None), plan)


def _gunicorn(plan: Plan) -> Row:
    manager = web_app.Manager(HERE, free_port(), "web:wsgi", server="gunicorn", cwd=PROGRAMS)

    def bare() -> list[str]:
        # Not before the manager has found it installed; the option keeps it from making a socket in the user's home.
        return _module("gunicorn", *_web_child.quiet(), "--bind", f"{HERE}:{manager.port}", "web:wsgi")

    return _compare("gunicorn, GET /", manager, _get(manager.port), plan, bare)


def _uvicorn(plan: Plan) -> Row:
    manager = web_app.Manager(HERE, free_port(), "web:asgi", server="uvicorn", cwd=PROGRAMS)
    command = _module("uvicorn", "--host", HERE, "--port", str(manager.port), "web:asgi")
    return _compare("uvicorn, GET /", manager, _get(manager.port), plan, lambda: command)


def _runserver(plan: Plan) -> Row:
    manager = django_app.Manager(HERE, free_port(), "django_site", server="runserver", reload=False, cwd=PROGRAMS)
    command = _module("django", "runserver", "--noreload", f"{HERE}:{manager.port}")
    return _compare("Django's runserver, GET /", manager, _get(manager.port), plan, lambda: command)


def _pyro_ns(plan: Plan) -> Row:
    with _folder() as folder:
        manager = pyro_ns.Manager(HERE, free_port(), folder)
        storage = f"sql:{folder / pyro_ns.STORAGE}"
        command = _module("Pyro5.nameserver", "-n", HERE, "-p", str(manager.port), "-x", "-s", storage)
        return _compare("Pyro's name server, ping", manager, lambda: _ping(manager.port), plan, lambda: command)


def _pyro_service(plan: Plan) -> Row:
    def ask() -> None:
        with _pyro_client.locate(HERE, names.port, PATIENCE) as found:
            uri = _pyro_client.look_up(found, "adder")
        with _pyro_client.proxy(uri, PATIENCE) as adder:
            adder.add(1, 2)

    with _folder() as folder, pyro_ns.Manager(HERE, 0, folder) as names:
        manager = pyro_service.Manager("adder", "pyro_adder:Adder", HERE, names.port, cwd=PROGRAMS)
        command = [sys.executable, str(PROGRAMS / "pyro_adder.py"), str(names.port)]
        return _compare("a Pyro service, a call", manager, ask, plan, lambda: command)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A directory that a server may enter which root starts as an ordinary user."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103
        yield Path(name)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _get(port: int, path: str | None = "/") -> Callable[[], None]:
    """Asks for a page, whose status must be 200 to 399; a path of None takes any answer for `/`."""
    return lambda: _web_health.ask((HERE, port), f"http://{HERE}:{port}", path, f"{HERE}:{port}", PATIENCE)


def _ping(port: int) -> None:
    with _pyro_client.locate(HERE, port, PATIENCE):
        pass


# ---- both ways ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bare:
    """A server without servermgr.

    Attributes:
        argv: Its command.
        options: What else `Popen` has to be told.
        stop_signal: What ends it.
    """

    argv: Sequence[str]
    options: dict[str, Any]
    stop_signal: int

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        with subprocess.Popen(self.argv, **quiet, **self.options) as process:
            try:
                yield
            finally:
                process.send_signal(self.stop_signal)
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()


def _compare(
    case: str, manager: Manager, ask: Callable[[], None], plan: Plan, bare: Callable[[], list[str]] | None = None
) -> Row:
    """Both ways in turns, on the same address and directory.

    Args:
        case: What is started, and asked.
        manager: Starts it.
        ask: Raises unless the server answers.
        plan: How often.
        bare: The bare server's command, asked for when the managed one has run; None for what the manager runs.
    """
    with manager:  # makes its directory
        ask()
        stranger = _stranger(manager, bare)

    def alone(_: int) -> float:
        began = time.perf_counter()
        with stranger.running():
            _until_answered(ask)
            return time.perf_counter() - began

    def managed(_: int) -> float:
        try:
            return seconds(lambda: _start_and_ask(manager, ask))
        finally:
            manager.stop()

    contenders = [
        Contender("servermgr: start()", managed, "ours"),
        Contender("Popen, asked each 1 ms", alone, "reference"),
    ]
    return compare(case, contenders, rounds=plan.fewer(2))


def _stranger(manager: Manager, bare: Callable[[], list[str]] | None) -> _Bare:
    """The server that runs, as it is started without servermgr: by the same user, in the same surroundings."""
    spec = manager._holding.spec
    assert spec is not None
    env = {name: value for name, value in spec.env.items() if name != MARKER_VARIABLE}
    options: dict[str, Any] = {"env": env, "cwd": spec.cwd}
    owner = os.stat(f"/proc/{manager.process.pid}")
    if owner.st_uid != os.geteuid():
        options |= {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    return _Bare(_program(spec.argv) if bare is None else bare(), options, spec.stop_signal)


def _program(argv: list[str]) -> list[str]:
    """A command without what goes before it to become another user."""
    first = next(index for index, word in enumerate(argv) if word.endswith(("/postgres", "-server", "/nginx")))
    return argv[first:]


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
    "From the call until a real question is answered, over and over on the same address and directory. Root starts "
    "PostgreSQL and Redis as an ordinary user in both ways. Before its start `start()` looks whether the address and "
    "the directory are free, and has nginx check its configuration; after it, whether the listener belongs to its "
    "own tree. gunicorn and uvicorn are handed a socket that listens already; bare, they bind one themselves. Django's "
    "runserver does not watch its sources.",
    measure,
)
