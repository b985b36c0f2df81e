"""One value of an nginx configuration: quoted, or refused with a reason.

Whatever a caller passes ends up in one quoted token, so that no path, prefix or pattern can open a block,
end a directive or start a comment. Two things outlive quoting in nginx, and are handled by what they are
used for: `$name` is a variable in some directives (a path writes its dollar through a variable that holds
one), and a location may carry a modifier (each has `^~` or `=` in front, after which nginx takes the name
as it is).
"""

from __future__ import annotations

import ipaddress
import os
import re

from servermgr.errors import WorkerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

#: Written where nginx expands variables: the variable that holds a dollar.
DOLLAR = "${servermgr_dollar}"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class ConfigurationError(WorkerError, ValueError):
    """A value that cannot be part of the configuration, or nginx's own complaint about the whole of it."""


def quote(value: str) -> str:
    """One token of an nginx configuration that means `value`, always on one line.

    Raises:
        ConfigurationError: `value` holds a NUL, at which nginx would stop reading, or is not encodable.
    """
    if "\0" in value:
        raise ConfigurationError(f"{value!r} holds a NUL character, which nginx cannot read")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ConfigurationError(error, f"{value!r} cannot be encoded as UTF-8") from None
    return f'"{value.translate(_ESCAPES)}"'


def quote_path(path: AnyPath) -> str:
    """A token for a path in a directive that expands variables: made absolute, and each `$` means itself."""
    return quote(absolute(path).replace("$", DOLLAR))


def absolute(path: AnyPath) -> str:
    """The path as nginx has to see it; relative ones would be below base_dir."""
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ConfigurationError(error, f"{path!r} is no path") from None
    if not raw:
        raise ConfigurationError("an empty text is no path")
    # NUL is left for quote() to refuse, in its own words; abspath only joins and normalizes.
    return os.path.abspath(raw).decode("utf-8", "surrogateescape")


def check_prefix(url_prefix: str) -> None:
    """Refuse a URL prefix that nginx would take for something else, or could never match."""
    quote(url_prefix)
    if not url_prefix.startswith("/"):
        raise ConfigurationError(f"the URL prefix {url_prefix!r} does not start with '/'")
    inner = url_prefix[1:].removesuffix("/").split("/")
    if url_prefix != "/" and not {"", ".", ".."}.isdisjoint(inner):
        raise ConfigurationError(
            f"the URL prefix {url_prefix!r} can match no request: nginx removes '.', '..' and empty segments before"
        )


def check_port(port: int, *, least: int = 1) -> int:
    """The port as a number up to 65535. nginx must not see a port 0: it cannot say which one it got."""
    if isinstance(port, bool) or not isinstance(port, int) or not least <= port < 65536:
        raise ConfigurationError(f"{port!r} is no port from {least} to 65535")
    return port


def check_host(host: str) -> None:
    """Refuse what is neither an address, nor a name, nor `""`. nginx would take `unix:…` here, and `name:port`."""
    if host and not _NAME.fullmatch(host) and not _is_ipv6(host):
        raise ConfigurationError(f"{host!r} is neither an address nor a host name")


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host  # nginx knows no zones


def authority(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def block(head: str, lines: Sequence[str]) -> list[str]:
    """The lines of a block."""
    return [f"{head} {{", *(f"    {line}" for line in lines), "}"]


def location(modifier: str, name: str, lines: Sequence[str]) -> list[str]:
    """The lines of a location; with a modifier nginx never reads one out of the name."""
    return block(f"location {modifier} {quote(name)}", lines)


def parse_authority(text: str, destination: str, default_port: int | None) -> str:
    """`host:port` out of a destination; a missing port is an error if there is no default."""
    found = _AUTHORITY.fullmatch(text)
    port = int(found[2]) if found and found[2] else default_port
    if found is None or port is None:
        raise ConfigurationError(f"the destination {destination!r} does not name a host and a port, as 127.0.0.1:9000")
    return f"{found[1]}:{check_port(port)}"


def unix_socket(destination: str) -> str | None:
    """The destination if it is a `unix:/path`, None if it is of another kind."""
    if not destination.startswith("unix:"):
        return None
    if not destination.startswith("unix:/"):
        raise ConfigurationError(f"the destination {destination!r} does not name a socket by its absolute path")
    quote(destination)
    return destination
