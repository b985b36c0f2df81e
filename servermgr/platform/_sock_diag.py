"""The Linux kernel's own list of TCP listeners, over netlink (SOCK_DIAG). A raw binding: no policy.

The kernel is asked for listening sockets of one port alone, so the cost follows the number of listeners and
never the number of connections or processes. It needs no privilege, shows the sockets of every user in this
network namespace, and tells what no file of `/proc` tells: whether an IPv6 listener takes IPv4 as well.

Importable on every system; where there is no such netlink family the answer is None.
"""

from __future__ import annotations

import os
import socket
import struct

from servermgr.platform import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Numbers of the kernel's interface (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h): fixed for ever.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x001 | 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_INET_DIAG_SKV6ONLY = 11
_TCP_LISTEN = 10

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_ENDPOINTS = struct.Struct("!HH16s16s")  # source port, destination port, source, destination
_REST_OF_ID = struct.Struct("=III")  # interface, cookie
_TAIL = struct.Struct("=IIIII")  # expires, receive queue, send queue, uid, inode
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_STATUS = struct.Struct("=i")
_MESSAGE_SIZE = 4 + _ENDPOINTS.size + _REST_OF_ID.size + _TAIL.size

#: The kernel fills up to 32 KiB at once; a smaller buffer would cut a reply.
_BUFFER = 65536
#: Seconds. The kernel answers before `sendto` returns; this only keeps a broken sandbox from hanging us.
_PATIENCE = 1.0


class Listener:
    """One listening TCP socket.

    Attributes:
        address: The address as text, `0.0.0.0` and `::` for all.
        port: The port.
        v6only: For an IPv6 socket, whether it refuses IPv4. None where unknown, or not an IPv6 socket.
        device: Number of the network interface that it is bound to. `0`: none. None: unknown.
        uid: User id of the socket's creator, or None where unknown.
        inode: Number of the socket, as `os.fstat` tells its holder. None where unknown.
        pid: A process that holds it. None: unknown (the kernel's list does not say).
        fd: Its descriptor in that process, or None.
    """

    __slots__ = ("address", "device", "fd", "inode", "pid", "port", "uid", "v6only")

    def __init__(
        self,
        address: str,
        port: int,
        *,
        v6only: bool | None = None,
        device: int | None = None,
        uid: int | None = None,
        inode: int | None = None,
        pid: int | None = None,
        fd: int | None = None,
    ) -> None:
        self.address = address
        self.port = port
        self.v6only = v6only
        self.device = device
        self.uid = uid
        self.inode = inode
        self.pid = pid
        self.fd = fd

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Listener({facts})"


def listeners(port: int) -> list[Listener] | None:
    """Every TCP listener on `port`, of whatever user, in this network namespace.

    Returns:
        The listeners, IPv4 first. None where they cannot be listed: not Linux, no diag module in the kernel,
        a sandbox that refuses netlink. None is never "nobody listens".
    """
    family = getattr(socket, "AF_NETLINK", None) if NAME == "linux" else None
    if family is None:
        return None
    try:
        with socket.socket(family, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_PATIENCE)
            return _dump(netlink, socket.AF_INET, port) + _dump(netlink, socket.AF_INET6, port)
    except OSError:
        # EPROTONOSUPPORT, ENOENT (module), EPERM and EACCES (seccomp, SELinux), EINVAL (before 3.3), time-out: whatever
        # the reason, the caller has other means, and those say what is wrong if it is something general (EMFILE).
        return None


def socket_inode(pid: int, fd: int) -> int | None:
    """The inode of descriptor `fd` of process `pid`. None: gone, not permitted, or no such `/proc` here."""
    try:
        return os.stat(f"/proc/{pid}/fd/{fd}").st_ino
    except OSError:
        return None


def _dump(netlink: socket.socket, family: int, port: int) -> list[Listener]:
    """Ask for the listeners of one address family, and collect the replies."""
    netlink.sendto(_request(family, port), (0, 0))
    found: list[Listener] = []
    while True:  # the kernel ends every dump with a DONE or an ERROR, and the socket has a time-out
        data, sender = netlink.recvfrom(_BUFFER)
        if sender[0] != 0:  # any privileged process can write to this socket; only the kernel is believed
            continue
        more, ended = parse(data)
        found += more
        if ended:
            return [listener for listener in found if listener.port == port]


def _request(family: int, port: int) -> bytes:
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    body += _ENDPOINTS.pack(port, 0, b"", b"") + _REST_OF_ID.pack(0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + body


def parse(data: bytes) -> tuple[list[Listener], bool]:
    """Read one datagram of replies.

    Returns:
        The listeners in it, and whether the dump ends here.

    Raises:
        OSError: The kernel reports an error, or the datagram is cut.
    """
    found: list[Listener] = []
    for kind, body in _messages(data):
        if kind in (_NLMSG_ERROR, _NLMSG_DONE):
            # DONE has a status too: a dump that failed half-way must not pass for a short list.
            status = _STATUS.unpack_from(body)[0] if len(body) >= _STATUS.size else 0
            if status < 0:
                raise OSError(-status, os.strerror(-status))
            return found, True
        listener = _listener(body)
        if listener is not None:
            found.append(listener)
    return found, False


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            raise OSError("netlink reply is cut short")
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _listener(body: bytes) -> Listener | None:
    """One `inet_diag_msg` with its attributes, or None if it is not a listener."""
    if len(body) < _MESSAGE_SIZE:
        raise OSError("netlink message is cut short")
    family, state = body[0], body[1]
    if state != _TCP_LISTEN:
        return None
    port, _, source, _ = _ENDPOINTS.unpack_from(body, 4)
    device, _, _ = _REST_OF_ID.unpack_from(body, 4 + _ENDPOINTS.size)
    _, _, _, uid, inode = _TAIL.unpack_from(body, 4 + _ENDPOINTS.size + _REST_OF_ID.size)
    is_ipv6 = family == socket.AF_INET6
    return Listener(
        socket.inet_ntop(family, source if is_ipv6 else source[:4]),
        port,
        v6only=_v6only(body[_MESSAGE_SIZE:]) if is_ipv6 else None,
        device=device,
        uid=uid,
        inode=inode or None,
    )


def _v6only(attributes: bytes) -> bool | None:
    """Value of the attribute; None on kernels that do not send it."""
    at = 0
    while at + _ATTRIBUTE.size < len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == _INET_DIAG_SKV6ONLY:
            return attributes[at + _ATTRIBUTE.size] != 0
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return None
