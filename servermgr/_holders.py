"""Who listens on an address: psutil's connection listing, joined with the kernel's list of sockets."""

from __future__ import annotations

import importlib

from servermgr.platform import _sock_diag
from servermgr.platform._sock_diag import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Holder:
    """Who listens on an address, as far as this user may know.

    Attributes:
        pid: Process id, or None where it is hidden from this user. Where processes share the socket, one of them.
        name: Name of the process, or None.
        user: Name of the user, or None.
        uid: User id of the socket's creator, or None.
        address: The listener's address and port as text (`0.0.0.0:80`, `[::1]:80`).
        inode: Number of the socket, or None.
    """

    __slots__ = ("address", "inode", "name", "pid", "uid", "user")

    def __init__(
        self,
        *,
        address: str,
        pid: int | None = None,
        name: str | None = None,
        user: str | None = None,
        uid: int | None = None,
        inode: int | None = None,
    ) -> None:
        self.address = address
        self.pid = pid
        self.name = name
        self.user = user
        self.uid = uid
        self.inode = inode

    def __str__(self) -> str:
        if self.pid is not None:
            name = f" ({self.name})" if self.name else ""
            user = f" (user {self.user})" if self.user else ""
            return f"pid {self.pid}{name} on {self.address}{user}"
        if self.uid is not None:
            name = f"user {self.user} (uid {self.uid})" if self.user else f"uid {self.uid}"
            return f"a process of {name}, its pid hidden from this user, on {self.address}"
        return f"a process that is hidden from this user on {self.address}"

    def __repr__(self) -> str:
        return f"Holder({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def endpoint(host: str, port: int) -> str:
    """Address and port as a person writes them; IPv6 in brackets, `*` for an empty host."""
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def psutil_listing(port: int) -> list[Listener] | None:
    """What psutil sees listening on `port`. None where the system refuses the listing to this user."""
    import psutil  # noqa: PLC0415  # costs more than all the rest of this package; most callers never need it

    try:
        rows = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # macOS refuses the whole listing for one process of another user
        return None
    return [_from_psutil(row, row.pid) for row in rows if _listens(row, port)]


def listing_by_process(port: int) -> list[Listener]:
    """What can be seen of the listeners where the whole listing is refused: those of this user's processes."""
    import psutil  # noqa: PLC0415  # as above

    ask = "net_connections" if hasattr(psutil.Process, "net_connections") else "connections"  # before psutil 6
    found = []
    for process in psutil.process_iter():
        try:
            rows = getattr(process, ask)("tcp")
        except (psutil.Error, OSError):  # of another user, or ended meanwhile
            continue
        found += [_from_psutil(row, process.pid) for row in rows if _listens(row, port)]
    return found


def _listens(row: Any, port: int) -> bool:
    return row.status == "LISTEN" and bool(row.laddr) and row.laddr.port == port


def _from_psutil(row: Any, pid: int | None) -> Listener:
    # Number 0 is nobody's who listens: Windows says so of a socket whose process it does not tell.
    return Listener(row.laddr.ip.partition("%")[0], row.laddr.port, pid=pid or None, fd=row.fd)


def pid_of(listener: Listener, seen: Iterable[Listener]) -> int | None:
    """The process that psutil sees with this very socket; several may listen on one address (`SO_REUSEPORT`)."""
    for other in seen:
        if other.pid is None or other.fd is None or listener.inode is None:
            continue
        if _sock_diag.socket_inode(other.pid, other.fd) == listener.inode:
            return other.pid
    return None


def holder_of(listener: Listener) -> Holder:
    """The listener, with all that can be known of its process and user."""
    name, user = (None, None) if listener.pid is None else _process_facts(listener.pid)
    return Holder(
        address=endpoint(listener.address, listener.port),
        pid=listener.pid,
        name=name,
        user=user or _user_name(listener.uid),
        uid=listener.uid,
        inode=listener.inode,
    )


def _process_facts(pid: int) -> tuple[str | None, str | None]:
    import psutil  # noqa: PLC0415  # as above

    facts: list[str | None] = []
    for ask in (psutil.Process.name, psutil.Process.username):
        try:
            facts.append(ask(psutil.Process(pid)))
        except (psutil.Error, OSError, KeyError):  # ended meanwhile; hidden; a uid without a name
            facts.append(None)
    return facts[0], facts[1]


def _user_name(uid: int | None) -> str | None:
    if uid is None:
        return None
    try:
        pwd: Any = importlib.import_module("pwd")  # type checkers for Windows know no such module
        return str(pwd.getpwuid(uid).pw_name)
    except (ImportError, KeyError):  # Windows; a user that only another machine or container knows
        return None
