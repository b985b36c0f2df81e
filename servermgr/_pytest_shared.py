"""Servers with `scope="run"`: one for all workers of an xdist run.

The first worker that needs one starts it, so that it outlives that worker, and writes down what the others need to
know; `_pytest_run` says who ends it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from servermgr import _pytest_caretaker
from servermgr._pytest_keeping import Keeping, parts, unique_name
from servermgr._pytest_run import Run, run_of, stop_recorded
from servermgr._pytest_summary import Kept
from servermgr._pytest_use import Running, Use
from servermgr._pytest_workers import controller_of
from servermgr.base import Manager
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from servermgr.interface import ManagerInterface


_HELD = pytest.StashKey[bool]()


class SharedServer:
    """A server that this process may use, whoever has started it.

    Besides what is listed, it has every public attribute of its manager that can be written as JSON, as it was when
    the server had become ready: `host`, `port`, `url`, …. Paths are texts.

    Attributes:
        name: The manager's name.
        pid: The worker's pid.
        log_path: The file with its output; None where it goes elsewhere.
        managers: The same for each member of a stack; empty for any other manager.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.name: str = data["name"]
        self.pid: int | None = data["pid"]
        self.log_path: str | None = data["log"]
        self.managers = [SharedServer(member) for member in data["managers"]]
        self._attributes: dict[str, Any] = data["attributes"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_attributes"][name]
        except KeyError:
            known = ", ".join(sorted(self.__dict__.get("_attributes", ())))
            raise AttributeError(f"the shared server has no {name!r}; of its manager it has: {known}") from None

    def output_tail(self, lines: int = 20) -> list[str]:
        """The last lines of its output; empty where it cannot be read."""
        try:
            with open(self.log_path or os.devnull, errors="replace") as file:
                return file.read().splitlines()[-lines:]
        except OSError:
            return []

    def __repr__(self) -> str:
        return f"<SharedServer {self.name!r}: pid {self.pid}>"


def described(manager: ManagerInterface) -> dict[str, Any]:
    """What can be told of a manager that runs."""
    process = getattr(manager, "process", None)
    return {
        "name": str(getattr(manager, "name", type(manager).__name__)),
        "pid": None if process is None else process.pid,
        "log": getattr(manager, "log_path", None),
        "managers": [described(member) for member in getattr(manager, "managers", ())],
        "attributes": dict(_attributes(manager)),
    }


def _attributes(manager: object) -> Iterator[tuple[str, object]]:
    for name in dir(manager):
        if name.startswith("_") or name in ("process", "managers"):
            continue
        try:
            yield name, _plain(getattr(manager, name))
        except Exception:  # noqa: BLE001, S112  # a property may raise anything, and then there is nothing to tell
            continue


def _plain(value: object) -> object:
    """The value as JSON can hold it. Raises TypeError."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if isinstance(name, str)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    raise TypeError


# ---- one run ---------------------------------------------------------------------------------------------------------


def run_for(config: pytest.Config) -> Run | None:
    """The run of several processes that this one takes part in as a worker; None where it is alone.

    A worker on another machine, or in a container of its own, is alone, too: no server there is its neighbour's.
    """
    workerinput: dict[str, Any] = getattr(config, "workerinput", {})
    controller = controller_of(workerinput)
    return None if controller is None else run_of(workerinput["testrunuid"], controller)


def hold(config: pytest.Config) -> Run | None:
    """Take part in the run's servers until this process has torn down its fixtures."""
    run = run_for(config)
    use = Use.of(config)
    if run is None or config.stash.get(_HELD, False):
        return run
    with run.lock():
        if run.hold():
            _start_caretaker(run, use)
    config.stash[_HELD] = True
    use.at_end.append(lambda: use.summary.notes.extend(run.let_go()))
    return run


def _start_caretaker(run: Run, use: Use) -> None:
    caretaker = Manager(run.name)
    command = _pytest_caretaker.command(run.folder, run.controller)
    caretaker.spawn(command, keep=True, cwd=os.sep, output=subprocess.DEVNULL, grace_period=1.0)
    use.others_pids |= Running(caretaker, "", [caretaker]).pids()


# ---- one server ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def shared(
    request: pytest.FixtureRequest, key: str, make: Callable[[], ManagerInterface], timeout: float | None
) -> Iterator[SharedServer]:
    """A server of the run, started by whoever comes first."""
    use = Use.of(request.config)
    run = hold(request.config)
    if run is None:
        with _own(use, str(request.fixturename), make(), timeout) as server:
            yield server
        return
    data = _found_or_started(run, key, make, use, str(request.fixturename), timeout)
    server = SharedServer(data["server"])
    running = use.remember(Running(None, str(request.fixturename), server.managers or [server]))
    yield server
    use.stop(running)
    if use.keep and running.failed_in:
        _keep(run, key, use, running)


@contextlib.contextmanager
def _own(use: Use, fixture: str, manager: ManagerInterface, timeout: float | None) -> Iterator[SharedServer]:
    running = use.start(manager, fixture, timeout)
    yield SharedServer(described(manager))
    use.stop(running)


def _found_or_started(
    run: Run, key: str, make: Callable[[], ManagerInterface], use: Use, fixture: str, timeout: float | None
) -> dict[str, Any]:
    with run.lock_server(key):  # as long as another one starts it, which its time-out bounds
        data = run.server(key)
        if data is None or not (data.get("server") or data.get("error")):
            _end_unfinished(data)
            data = _started(run, key, make(), use, fixture, timeout)
    if data.get("error"):
        raise WorkerError(None, f"another worker could not start it: {data['error']}")
    return data


def _end_unfinished(data: dict[str, Any] | None) -> None:
    for name in () if data is None else data["names"]:  # of a worker that was killed while it started the server
        stop_recorded(name)


def _started(
    run: Run, key: str, manager: ManagerInterface, use: Use, fixture: str, timeout: float | None
) -> dict[str, Any]:
    members = parts(manager)
    keepings = [Keeping(member, unique_name(member)) for member in members]
    data: dict[str, Any] = {"names": [keeping.name for keeping in keepings]}
    run.tell(key, data)  # before it runs: whoever is killed now leaves its name
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            for keeping in keepings:
                stack.enter_context(keeping.during_start())
            manager.start(timeout=timeout)
        _refuse_unkept(manager, keepings)
    except BaseException as error:
        with contextlib.suppress(Exception):
            manager.stop()
        if isinstance(error, Exception):  # not a Ctrl-C: after that the next one may try
            run.tell(key, data | {"error": str(error)})
        raise
    use.started(str(getattr(manager, "name", "")), fixture, time.monotonic() - began)
    use.others_pids |= Running(manager, fixture, members).pids()
    data |= {"server": described(manager)}
    run.tell(key, data)
    return data


def _refuse_unkept(manager: object, keepings: list[Keeping]) -> None:
    if not all(keeping.used for keeping in keepings):
        text = "its manager does not start it by `self.spawn`, so it would end with the worker that has started it"
        raise WorkerError(None, f"{manager!r} cannot be shared with other workers: {text}")


def _keep(run: Run, key: str, use: Use, running: Running) -> None:
    data = run.server(key)
    if data is not None:
        run.tell(key, data | {"keep": True})
        for name, server in zip(data["names"], running.servers, strict=False):
            use.summary.kept.append(Kept(name, server.pid, server.log_path, running.failed_in))


def key_of(make: object, request: pytest.FixtureRequest) -> str:
    """The same for one fixture in all workers, and different for any two of them."""
    code = getattr(make, "__code__", None)
    place = (code.co_filename, code.co_firstlineno) if code is not None else (type(make).__qualname__, 0)
    what = (request.fixturename, getattr(make, "__module__", ""), *place, getattr(request, "param_index", 0))
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]
