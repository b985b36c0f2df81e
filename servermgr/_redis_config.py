"""A server's configuration as text: every value means itself, and no other file adds to it."""

from __future__ import annotations

import os
import re

from servermgr._server_options import LONGEST_SOCKET, checked_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Value = str | int | float | bool | Sequence[str | int]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: What the manager itself has to know, and how to say it to the manager.
_RESERVED = {
    "bind": "host",
    "port": "port",
    "unixsocket": "unix_socket",
    "dir": "data_dir",
    "daemonize": "foreground",
    "requirepass": "password",
    "pidfile": "data_dir",
    "logfile": "output",
    "include": "options",
}


def quote(value: object) -> str:
    """One token that means `value`, always on one line.

    Raises:
        ValueError: It holds a NUL, where the server would stop reading.
    """
    raw = os.fsencode(value) if isinstance(value, (str, os.PathLike)) else str(value).encode()
    if b"\0" in raw:
        raise ValueError(f"{value!r} holds a NUL character")
    return '"' + "".join(map(_escaped, raw)) + '"'


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"  # what can be printed


def checked_options(options: Mapping[str, Value]) -> dict[str, Value]:
    """A caller's own settings.

    Raises:
        ValueError: A name that no setting can have, or of a setting that the manager makes itself; a bad value.
    """
    checked_names(options, _NAME, _RESERVED)
    for name, value in options.items():
        _line(name, value)
    return dict(options)


def checked_socket(path: str) -> str:
    """A path for a Unix socket.

    Raises:
        ValueError: It is longer than the system allows.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise ValueError(f"the path {path} is longer than that of a socket may be: pass a shorter one as unix_socket=")
    return path


def render(settings: Mapping[str, Value]) -> bytes:
    """The text of the configuration file."""
    return "".join(f"{_line(name, value)}\n" for name, value in settings.items()).encode("ascii")


def _line(name: str, value: Value) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    words = [value] if isinstance(value, (str, int, float)) else list(value)
    return " ".join([name, *map(quote, words)])
