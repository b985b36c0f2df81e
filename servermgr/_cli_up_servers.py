"""A declared server as a manager that tells its addresses to whoever is started after it."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import urllib.parse
from typing import TYPE_CHECKING, Any

from servermgr._cli_up_tables import Table, check, parameters_of
from servermgr.addresses import reached_at
from servermgr.command import CommandManager
from servermgr.deadline import Deadline
from servermgr.errors import WorkerError
from servermgr.interface import ManagerInterface

if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr.base import Manager
    from servermgr.tree import StopOutcome

#: Seconds for a server to become ready, unless it says otherwise.
TIMEOUT = 30.0
#: What a kind must be told and people rather leave away.
_DIRECTORIES = ("base_dir", "data_dir", "db_dir")
_TAIL = re.compile(r"([^\s@/]+):(\d+)/?$")


class Declared(ManagerInterface):
    """The manager of a declared server.

    Args:
        table: The declaration.
        scratch: A directory of this run, for its log and for what it is not told where to keep.
        on_ready: Called when it is ready, with itself and the seconds it took.

    Attributes:
        name: As declared.
        manager: The manager proper.
        addresses: Its variables in the environment, once it is ready.

    Raises:
        ValueError: The declaration makes no sense.
    """

    def __init__(self, table: Table, scratch: str, on_ready: Callable[[Declared, float], None]) -> None:
        self.name = table.name
        self.addresses: dict[str, str] = {}
        self._table = table
        self._on_ready = on_ready
        self._timeout = float(table.entries.get("timeout", TIMEOUT))
        self._env: dict[str, str] | None = table.entries.get("env")
        kind = check(table)
        try:
            self.manager: Manager = _command(table, scratch) if kind is None else _of_kind(kind, table, scratch)
        except (TypeError, ValueError, WorkerError) as error:
            raise ValueError(f"{table.origin}: {error}") from error

    @property
    def process(self) -> Any:
        """The worker's process object, or None."""
        return self.manager.process

    def start(self, wait: bool = True, timeout: float | None = None) -> None:
        """Start it with the addresses of those it needs in its environment, and tell its own."""
        elapsed = Deadline(None)
        if self._env is not None:
            self.manager.env = os.environ | self._env  # type: ignore[attr-defined]  # checked: this kind has one
        self.manager.start(True, self._timeout)
        self.addresses = self._found()
        os.environ.update(self.addresses)
        self._on_ready(self, elapsed.elapsed)

    def health(self) -> object:
        """As the manager."""
        return self.manager.health()

    def ready_wait(self, timeout: float | None = 10.0) -> None:
        """As the manager."""
        self.manager.ready_wait(timeout)

    def stop(self, wait: bool = True) -> StopOutcome:
        """As the manager."""
        return self.manager.stop(wait=wait)

    def wait(self) -> StopOutcome:
        """As the manager."""
        return self.manager.wait()

    def kill(self) -> StopOutcome:
        """As the manager."""
        return self.manager.kill()

    def ended_by_itself(self) -> WorkerError | None:
        """The error that says so, if its worker has ended."""
        process = self.process
        if process is None or process.poll() is None:
            return None
        tail, log = self.manager.output_tail(), self.manager.log_path
        return WorkerError(None, "ended by itself", name=self.name, status=process.returncode, output=tail, log=log)

    def _found(self) -> dict[str, str]:
        host, port, url = _where(self.manager)
        if "url" in self._table.entries:
            url = _filled(self._table.entries["url"], {"host": host, "port": port})
        prefix = self._table.prefix
        found = {f"{prefix}_URL": url, f"{prefix}_HOST": host, f"{prefix}_PORT": port}
        return {name: value for name, value in found.items() if value}


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(host|port)\}", lambda found: values[found[1]], text)


def _where(manager: Manager) -> tuple[str, str, str]:
    """Host, port and URL of a server that runs, each empty where there is none."""
    if isinstance(manager, CommandManager):
        return _where_command(manager)
    url = str(getattr(manager, "url", "") or getattr(manager, "uri", ""))
    host, port = _of_url(url)
    return host or reached_at(str(getattr(manager, "host", "") or "")), port or str(getattr(manager, "port", "")), url


def _of_url(url: str) -> tuple[str, str]:
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.hostname and parts.port:
            return parts.hostname, str(parts.port)
    except ValueError:
        pass
    tail = _TAIL.search(url)
    return (tail[1], tail[2]) if tail else ("", "")


def _where_command(manager: CommandManager) -> tuple[str, str, str]:
    from servermgr.probes import HttpProbe, UnixProbe  # noqa: PLC0415

    probe = manager.probe
    if isinstance(probe, UnixProbe):
        return "", "", f"unix://{probe.path}"
    address = getattr(probe, "address", None)
    if address is None and not manager.port:
        return "", "", ""
    host, port = address or ("127.0.0.1", manager.port)
    host = reached_at(host)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return host, str(port), f"http://{shown}" if isinstance(probe, HttpProbe) else f"tcp://{shown}"


def _command(table: Table, scratch: str) -> CommandManager:
    entries = dict(table.entries)
    command = entries.pop("command")
    argv = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    options = {key: value for key, value in entries.items() if key not in ("needs", "timeout", "url")}
    options["cwd"] = os.path.join(table.folder, options.get("cwd", ""))
    options["output"] = os.path.join(
        options["cwd"], options.get("output") or os.path.join(scratch, f"{_plain(table)}.log")
    )
    return CommandManager(argv, name=table.name, **options)


def _of_kind(kind: type, table: Table, scratch: str) -> Manager:
    options = {key: value for key, value in table.entries.items() if key not in ("kind", "needs", "timeout", "url")}
    parameters = parameters_of(kind)
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in options:
            options[name] = _given(name, table, scratch)
    if "db_dir" in parameters and "db_dir" not in table.entries:
        options.setdefault("initialize", True)
    if "output" in parameters:
        options.setdefault("output", os.path.join(scratch, f"{_plain(table)}.log"))
    manager: Manager = kind(**options, name=table.name)
    return manager


def _given(name: str, table: Table, scratch: str) -> object:
    """What a kind has to be told, where that is of no interest to a test."""
    if name == "host":
        return "127.0.0.1"
    if name == "port":
        return 0
    if name in _DIRECTORIES:
        return os.path.join(scratch, _plain(table))
    raise ValueError(f"a server of the kind {table.entries['kind']!r} has to be told {name!r}")


def _plain(table: Table) -> str:
    """Its name as that of a file."""
    return re.sub(r"[^\w.-]", "-", table.name)
