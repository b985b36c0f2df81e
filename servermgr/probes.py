"""Readiness probes: what to ask a server. `probe_forms` makes them from strings and callables."""

from __future__ import annotations

import os
import re
import shlex
import socket
from typing import TYPE_CHECKING, Protocol

from servermgr import platform
from servermgr.addresses import reached_at
from servermgr.errors import LaunchError, WorkerError
from servermgr.launching import launch
from servermgr.output import Output
from servermgr.pidfile import PidfileError, read_pid
from servermgr.tree import LaunchSpec

if TYPE_CHECKING:
    from collections.abc import Callable


#: What may stand in the path or query of an address as it is (RFC 3986); "%" since it may be quoted already.
_IN_QUERY = "/?:@!$&'()*+,;=-._~%"


class Probe(Protocol):
    """Something to ask a server."""

    @property
    def address(self) -> tuple[str, int] | None:
        """The TCP address that the server must own; None where there is none."""

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        """The question for one run: called with the seconds it may take, it raises while the server is not ready."""


class TcpProbe:
    """Ready when a TCP connection is accepted.

    Args:
        host: Address or name. A wildcard address (`0.0.0.0`, `::`) is asked on the loopback interface.
        port: 1 to 65535.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        return self._ask

    def _ask(self, limit: float) -> None:
        host = reached_at(self.address[0])
        with socket.create_connection((host, self.address[1]), timeout=max(limit, 0.01)) as connection:
            if connection.getsockname() == connection.getpeername():
                # On a free port of the ephemeral range a connection can meet itself (TCP simultaneous open).
                raise WorkerError(None, f"nobody listens on {host}:{self.address[1]}")


class UnixProbe:
    """Ready when a connection to the Unix socket at `path` is accepted."""

    address = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        path = os.path.join(spec.cwd, self.path)

        def ask(limit: float) -> None:
            family = getattr(socket, "AF_UNIX", None)
            if family is None:
                raise NotImplementedError("this system has no Unix sockets")
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(max(limit, 0.01))
                connection.connect(path)

        return ask


class HttpProbe:
    """Ready when a GET is answered with a status from 200 to 399.

    Args:
        url: `http://` or `https://` (certificates are verified).
        statuses: The statuses that are good.
    """

    def __init__(self, url: str, *, statuses: range = range(200, 400)) -> None:
        from urllib.parse import quote, urlsplit  # noqa: PLC0415  # here and below: only who is given an address

        self.url = url
        self.statuses = statuses
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"not an http:// or https:// address: {url!r}")
        self.address = checked_address(url, port=443 if self._tls else 80)
        # As a browser does: blanks and foreign letters are written as the protocol wants them.
        query = f"?{quote(parts.query, safe=_IN_QUERY)}" if parts.query else ""
        self._target = (quote(parts.path, safe=_IN_QUERY) or "/") + query

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        return self._ask

    def _ask(self, limit: float) -> None:
        import http.client  # noqa: PLC0415  # brings the email package with it

        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = kind(*self.address, timeout=max(limit, 0.01))
        try:
            connection.request("GET", self._target, headers={"Connection": "close"})
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise WorkerError(error, f"{self.url} is not answered in HTTP") from error
        finally:
            connection.close()
        if status not in self.statuses:
            raise WorkerError(None, f"{self.url} answers with status {status}")


class LogProbe:
    """Ready when a line of the server's output matches.

    Args:
        pattern: Searched for in each complete line (`re.search`).
        path: Another file to look in, relative to the server's directory; None for its standard output and
            error. Only what is written after the start counts.
    """

    address = None

    def __init__(self, pattern: str, *, path: str | os.PathLike[str] | None = None) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {pattern!r}: {error}") from error
        self.path = path

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        if self.path is not None:
            return _LogSearch(self.pattern, os.path.join(spec.cwd, os.fspath(self.path))).ask
        if spec.output.path is None:
            raise ValueError("a log probe reads the server's output, which goes to no file here: give output=PATH")
        return _LogSearch(self.pattern, spec.output.path, spec.output.start).ask


class _LogSearch:
    """Reads on from where it left off, line by line."""

    def __init__(self, pattern: re.Pattern[str], path: str, position: int | None = None) -> None:
        self._pattern = pattern
        self._path = path
        self._rest = b""
        size, self._file = self._look()
        self._position = size if position is None else position
        self._found = False

    def _look(self) -> tuple[int, tuple[int, int] | None]:
        try:
            found = os.stat(self._path)
        except OSError:
            return 0, None
        return found.st_size, (found.st_dev, found.st_ino)

    def ask(self, limit: float) -> None:  # a file answers at once
        self._found = self._found or any(map(self._matches, self._new_lines()))  # once is for good
        if not self._found:
            raise WorkerError(None, f"no line of {self._path} matches {self._pattern.pattern!r}")

    def _matches(self, line: bytes) -> bool:
        return self._pattern.search(line.rstrip(b"\r").decode(errors="replace")) is not None

    def _new_lines(self) -> list[bytes]:
        with open(self._path, "rb") as file:
            self._follow_rotation(os.fstat(file.fileno()))
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return lines

    def _follow_rotation(self, found: os.stat_result) -> None:
        """Begin again in a file that was emptied, or has taken the place of the one read so far."""
        file = (found.st_dev, found.st_ino)
        if file != self._file or found.st_size < self._position:
            self._file, self._position, self._rest = file, 0, b""


class PidfileProbe:
    """Ready when the file at `path` holds the pid of a running process.

    It says nothing of whose process that is: for a daemonizing server give the manager `pidfile=`, which
    proves that the process belongs to the tree.
    """

    address = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        path = os.path.join(spec.cwd, self.path)

        def ask(limit: float) -> None:  # noqa: ARG001
            try:
                pid = read_pid(path)
            except PidfileError as error:
                raise WorkerError(error, f"the pidfile {path} {error}") from error
            if pid is None or not platform.is_alive(pid):
                raise WorkerError(None, f"the pidfile {path} names no running process")

        return ask


class CommandProbe:
    """Ready when a command exits with status 0, such as `pg_isready`.

    It runs in the server's environment and directory, below a guardian of its own, so a probe that hangs
    leaves nothing behind either.

    Args:
        argv: The command and its arguments.
    """

    address = None

    def __init__(self, argv: list[str]) -> None:
        if not argv:
            raise ValueError("a command probe needs a command")
        self.argv = argv

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        return lambda limit: self._ask(spec, limit)

    def _ask(self, spec: LaunchSpec, limit: float) -> None:
        command = shlex.join(self.argv)
        output = Output(None, name="probe")
        try:
            probe = LaunchSpec(self.argv, output=output, env=spec.env, cwd=spec.cwd, grace_period=0.0)
            status = self._run(probe, limit)
        except LaunchError as error:  # no such program: that does not come right by waiting
            raise LaunchError(error.exception, f"the server cannot be asked by {command!r}: {error.text}") from error
        finally:
            output.close()
        if status is None:
            raise WorkerError(None, f"{command!r} did not end within {limit:.1f} s", output=output.tail())
        if status != 0:
            raise WorkerError(None, f"{command!r} says no", status=status, output=output.tail())

    def _run(self, spec: LaunchSpec, limit: float) -> int | None:
        tree = launch(spec, name="probe")
        spec.output.launched()
        try:
            return tree.status if tree.wait_worker(limit) else None
        finally:  # also after a Ctrl-C
            tree.ask_stop(spec.stop_signal, 0.0)
            tree.wait_gone(None)


class CallableProbe:
    """Ready when the callable returns something true."""

    address = None

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def bind(self, spec: LaunchSpec) -> Callable[[float], None]:
        return self._ask

    def _ask(self, limit: float) -> None:
        if not self.function():
            raise WorkerError(None, f"{getattr(self.function, '__name__', 'the readiness check')} says: not yet")


def checked_address(text: str, *, port: int | None = None) -> tuple[str, int]:
    """Host and port of an address such as `tcp://host:port`.

    Args:
        text: The address.
        port: The port that is meant where it names none; None if it must name one.

    Raises:
        ValueError: There is no host in it, or no port, or there can be no such port.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(text)
        named = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    found = port if named is None else named
    if not parts.hostname or found is None:
        raise ValueError(f"{text!r} needs a host and a port, such as tcp://127.0.0.1:8080 or tcp://[::1]:8080")
    if not 0 < found < 65536:  # RFC 9293: 16 bits
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return parts.hostname, found
