"""The servers that `servermgr up` knows: tables of `pyproject.toml`, checked as a whole before anything is started."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from servermgr._cli_trees import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Types = tuple[type, ...]

FILE = "pyproject.toml"
#: Modules with a class `Manager` of their own.
KINDS = (*("django_app", "haproxy", "memcached", "nginx", "postgres", "pyro_ns", "pyro_service", "redis", "web_app"),)
#: Of any server.
_COMMON: dict[str, Types] = {
    "kind": (str,),
    "command": (str, list),
    "needs": (str, list),
    "timeout": (int, float),
    "url": (str,),
    "env": (dict,),
}
#: Of one that is a command.
_OF_COMMAND: dict[str, Types] = {
    "ready": (str,),
    "port": (int,),
    "pidfile": (str,),
    "cwd": (str,),
    "stop_signal": (str, int),
    "grace_period": (int, float),
    "crash_grace": (int, float),
    "output": (str,),
}


class Table(NamedTuple):
    """One server as it is declared.

    Attributes:
        name: Its name.
        entries: What is said of it.
        folder: What its paths are relative to.
        origin: Where it is declared, for errors.
    """

    name: str
    entries: dict[str, Any]
    folder: str
    origin: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of those that it needs."""
        needs = self.entries.get("needs", ())
        return (needs,) if isinstance(needs, str) else tuple(needs)

    @property
    def prefix(self) -> str:
        """What its variables in the environment begin with."""
        return re.sub(r"\W", "_", self.name).upper()


def find(path: str | None) -> dict[str, Table]:
    """The tables of a file; None looks for the next `pyproject.toml` from here upward.

    Raises:
        ValueError: The file cannot be read, or is none.
    """
    found = path or _upward(os.getcwd())
    if found is None:
        return {}
    servers = _read(found).get("tool", {}).get("servermgr", {})
    if not isinstance(servers, dict) or not isinstance(servers.get("servers", {}), dict):
        raise ValueError(f"{found}: [tool.servermgr.servers] is to be a table of tables")
    _refuse_unknown(servers, ["servers"], f"{found}: [tool.servermgr]")
    folder = os.path.dirname(os.path.abspath(found))
    return {name: _table(name, entries, folder, found) for name, entries in servers.get("servers", {}).items()}


def _table(name: str, entries: object, folder: str, path: str) -> Table:
    origin = f"{path}: [tool.servermgr.servers.{name}]"
    if not isinstance(entries, dict):
        raise ValueError(f"{origin} is to be a table, as: command = '…'")
    return Table(name, entries, folder, origin)


def _upward(folder: str) -> str | None:
    while True:
        path = os.path.join(folder, FILE)
        if os.path.exists(path):
            return path
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _read(path: str) -> dict[str, Any]:
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    toml = importlib.import_module(name)
    try:
        with open(path, "rb") as file:
            content: dict[str, Any] = toml.load(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError
        raise ValueError(f"{path} is no TOML: {error}") from error
    return content


def chosen(tables: Mapping[str, Table], names: Sequence[str]) -> list[Table]:
    """Those of that name, and all that they need; without names all there are.

    Raises:
        ValueError: There is none of that name, or two would have the same variables in the environment.
    """
    wanted: dict[str, Table] = {}
    pending = list(reversed(list(names) or list(tables)))
    while pending:
        name = pending.pop()
        if name not in tables:
            raise ValueError(f"no server is declared as {name!r}{did_you_mean(name, list(tables))}")
        if name not in wanted:
            wanted[name] = tables[name]
            _check_needs(tables[name], tables)
            pending += tables[name].needs
    prefixes: dict[str, str] = {}
    for table in wanted.values():
        other = prefixes.setdefault(table.prefix, table.name)
        if other != table.name:
            raise ValueError(f"{other!r} and {table.name!r} would both be {table.prefix}_URL in the environment")
    return list(wanted.values())


def _check_needs(table: Table, tables: Mapping[str, Table]) -> None:
    for need in table.needs:
        if need not in tables:
            raise ValueError(
                f"{table.origin}: it needs {need!r}, which is not declared{did_you_mean(need, list(tables))}"
            )


def check(table: Table) -> type | None:
    """Refuse what is not known, or no value of its kind. Returns the class of its manager; None for a command.

    Raises:
        ValueError: With the name of the table, and what may have been meant.
    """
    entries = table.entries
    if ("kind" in entries) == ("command" in entries):
        raise ValueError(f"{table.origin}: needs either command = '…' or kind = '…'")
    if "kind" not in entries:
        _check_entries(table, _COMMON | _OF_COMMAND)
        return None
    manager = _kind(table)
    parameters: dict[str, Types] = dict.fromkeys(parameters_of(manager), (object,))
    _check_entries(table, {name: kinds for name, kinds in (parameters | _COMMON).items() if name != "command"})
    if "env" in entries and "env" not in parameters:
        raise ValueError(f"{table.origin}: a server of the kind {entries['kind']!r} takes no env")
    return manager


def _kind(table: Table) -> type:
    kind = str(table.entries["kind"]).replace("-", "_")
    kinds = [known for known in KINDS if importlib.util.find_spec(f"servermgr.{known}") is not None]
    if kind not in kinds:
        raise ValueError(f"{table.origin}: there is no kind {kind!r}{did_you_mean(kind, kinds)}")
    manager: type = importlib.import_module(f"servermgr.{kind}").Manager
    return manager


def parameters_of(manager: type) -> dict[str, inspect.Parameter]:
    """What can be said of a server of that class, by name."""
    found: dict[str, inspect.Parameter] = {}
    for kind in reversed(manager.__mro__):
        constructor = kind.__dict__.get("__init__")
        if constructor is not None and kind.__module__ not in ("builtins", "servermgr.base"):
            found |= inspect.signature(constructor).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: one for name, one in found.items() if one.kind in named and name not in ("self", "name")}


def _check_entries(table: Table, known: Mapping[str, Types]) -> None:
    _refuse_unknown(table.entries, known, table.origin)
    for key, value in table.entries.items():
        wrong_bool = isinstance(value, bool) and known[key] != (object,)
        if wrong_bool or not isinstance(value, known[key]):
            kinds = " or ".join(_WORDS[kind] for kind in known[key])
            raise ValueError(f"{table.origin}: {key} is to be {kinds}, not {value!r}")
    for key, value in (table.entries.get("env") or {}).items():
        if not isinstance(value, str):
            raise ValueError(f"{table.origin}: env.{key} is to be a text, not {value!r}")


_WORDS = {str: "a text", list: "a list of texts", int: "a whole number", float: "a number", dict: "a table"}


def _refuse_unknown(entries: Iterable[str], known: Iterable[str], origin: str) -> None:
    for key in entries:
        if key not in known:
            raise ValueError(f"{origin}: there is no {key!r}{did_you_mean(key, sorted(known))}")
