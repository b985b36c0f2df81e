"""What the managers of servers ask of the values that they are given, before anything is made of them."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HOST = re.compile(r"[A-Za-z0-9._:%-]*")

#: The longest path of a Unix socket, in bytes, on the system that allows least (macOS: 104 with the NUL behind it).
LONGEST_SOCKET = 103


def checked_host(host: str | None) -> str | None:
    """Refuse what is neither an address nor a name: a server would take a comma or a blank for a list.

    Args:
        host: Empty for everywhere; None, as well, where the server can do without TCP.

    Raises:
        ValueError: As said.
    """
    if host is not None and not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is neither an address nor a host name")
    return host


def checked_port(port: int) -> int:
    """A port from 0 to 65535.

    Raises:
        ValueError: It is none.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise ValueError(f"port must be a whole number from 0 to 65535, not {port!r}")
    return port


def checked_names(names: Iterable[str], form: re.Pattern[str], reserved: Mapping[str, str]) -> None:
    """Refuse settings that the caller of a manager cannot make.

    Args:
        names: Of the settings.
        form: What a name looks like.
        reserved: Names, in small letters, of what the manager makes itself, and the argument that it makes it of.

    Raises:
        ValueError: No setting can have such a name, or it is one of `reserved`.
    """
    for name in names:
        if not form.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a setting")
        if name.lower() in reserved:
            raise ValueError(f"the setting {name} is made of the argument {reserved[name.lower()]}=")
