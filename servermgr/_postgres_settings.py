"""What a server is told on its command line, where it goes before every configuration file."""

from __future__ import annotations

import os
import re

from servermgr._server_options import LONGEST_SOCKET, checked_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Value = str | int | float | bool

#: Nothing is waited for on disk: for tests. A crash of the server loses nothing, a crash of the machine may lose all.
#: (Not synchronous_commit=off: it would save little more, and a server that is killed would lose what was committed.)
FAST: Mapping[str, Value] = {
    "fsync": False,
    "full_page_writes": False,
    "wal_init_zero": False,
    # In files of the data directory, so that it goes with that directory even if the server is killed.
    "dynamic_shared_memory_type": "mmap",
}
#: What the manager itself has to know, and how to say it to the manager.
_RESERVED = {
    "port": "port",
    "listen_addresses": "host",
    "data_directory": "db_dir",
    "unix_socket_directories": "socket_dir",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]*")


def checked_options(options: Mapping[str, Value]) -> dict[str, Value]:
    """A caller's own settings.

    Raises:
        ValueError: A name that no setting can have, or of a setting that the manager makes itself.
    """
    checked_names(options, _NAME, _RESERVED)
    for name, value in options.items():
        if "\0" in str(value):
            raise ValueError(f"the value of {name} holds a NUL character")
    return dict(options)


def arguments(host: str | None, port: int, socket_dir: str, settings: Mapping[str, Value]) -> list[str]:
    """The settings as arguments of `postgres`; later ones of one name win.

    Args:
        host: Where to listen; empty is everywhere, None nowhere.
        port: The port, also part of the socket's name.
        socket_dir: Where the socket is made.
        settings: The rest.
    """
    quoted = socket_dir.replace('"', '""')
    made: dict[str, Value] = {
        "port": port,
        "listen_addresses": "" if host is None else host or "*",
        "unix_socket_directories": f'"{quoted}"',  # a list: a comma in the path would make two of it
        "unix_socket_permissions": "0700",  # also in a directory that a group may enter
        "external_pid_file": "",  # Debian's is below /var/run
        # The output is the manager's, so that an error can show its last lines, in words that it knows.
        "logging_collector": False,
        "log_destination": "stderr",
        "lc_messages": "C",
    }
    words = []
    for name, value in {**made, **settings}.items():
        words += ["-c", f"{name}={_text(value)}"]
    return words


def _text(value: Value) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def socket_name(port: int) -> str:
    """The file name of a server's socket."""
    return f".s.PGSQL.{port}"


def fits(socket_dir: str, port: int) -> bool:
    """Whether a socket in this directory has a path that the system can take."""
    return len(os.fsencode(os.path.join(socket_dir, socket_name(port)))) <= LONGEST_SOCKET


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment without what PostgreSQL would take from it: no PGDATA, PGPORT or language of another."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name not in ("LC_ALL", "LC_MESSAGES", "LANGUAGE")
    }
    return {**kept, "LC_MESSAGES": "C", **more}
