"""Readiness probes from their string forms.

====================================  ================================================================
string                                ready when
====================================  ================================================================
`tcp://host:port`                     a connection is accepted
`http://host:port/path`, `https://…`  the answer's status is 200 to 399
`unix:///path`                        a connection to the Unix socket is accepted
`log:regex`                           a line of the server's output matches (`re.search`)
`pidfile:/path`                       the file holds the pid of a running process
`cmd:command line`                    it exits with status 0 (split as a shell does, no shell is run)
====================================  ================================================================

Anything callable is a probe, too: it is called without arguments and is content when the result is true. An
`OSError` or a `WorkerError` from it means "not yet"; other exceptions are faults and end the start.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, TypeAlias

from servermgr.probes import (
    CallableProbe,
    CommandProbe,
    HttpProbe,
    LogProbe,
    PidfileProbe,
    Probe,
    TcpProbe,
    UnixProbe,
    checked_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: A probe as given: an object, its string form, a callable, or None for "its running is enough".
ProbeLike: TypeAlias = "Probe | str | Callable[[], object] | None"


def make_probe(given: ProbeLike) -> Probe | None:
    """The probe meant by an object, a string form, a callable, or None.

    Raises:
        ValueError: Not a string form that this module knows; the text lists them.
        TypeError: Something else altogether.
    """
    if given is None or hasattr(given, "bind"):
        return given  # type: ignore[return-value]  # a Probe by its method
    if isinstance(given, str):
        return _parse(given)
    if callable(given):
        return CallableProbe(given)
    raise TypeError(f"ready must be a probe, its string form or a callable, not {type(given).__name__}")


def _parse(text: str) -> Probe:
    scheme, colon, rest = text.partition(":")
    maker = _FORMS.get(scheme) if colon else None
    if maker is None:
        raise ValueError(
            f"no readiness probe: {text!r}; give tcp://host:port, http://host:port/path, unix:///path, log:regex, "
            "pidfile:/path, or cmd:command line"
        )
    return maker(text, rest)


def _parse_tcp(text: str, _: str) -> Probe:
    host, port = checked_address(text)
    from urllib.parse import urlsplit  # noqa: PLC0415  # as in `probes`

    if urlsplit(text)[2:] != ("", "", ""):
        raise ValueError(f"{text!r}: nothing is asked on a TCP connection; for a path give http://host:port/path")
    return TcpProbe(host, port)


def _parse_path(text: str, rest: str) -> str:
    path = rest.removeprefix("//")
    if not path:
        raise ValueError(f"{text!r} needs a path")
    return path


_FORMS: dict[str, Callable[[str, str], Probe]] = {
    "tcp": _parse_tcp,
    "http": lambda text, _: HttpProbe(text),
    "https": lambda text, _: HttpProbe(text),
    "unix": lambda text, rest: UnixProbe(_parse_path(text, rest)),
    "log": lambda _, rest: LogProbe(rest),
    "pidfile": lambda text, rest: PidfileProbe(_parse_path(text, rest)),
    "cmd": lambda _, rest: CommandProbe(shlex.split(rest)),
}
