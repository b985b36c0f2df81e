"""The netlink binding: what the kernel says of a real listener, and how its replies are read."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from servermgr.platform import _sock_diag

pytestmark = pytest.mark.timeout(60)

needs_kernel = pytest.mark.skipif(_sock_diag.listeners(1) is None, reason="this kernel does not list listeners")


def _message(kind: int, body: bytes) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body + padding


def _socket_message(*, state: int = 10, family: int = socket.AF_INET6, attributes: bytes = b"") -> bytes:
    body = struct.pack("=BBBB", family, state, 0, 0) + struct.pack("!HH16s16s", 8080, 0, b"\0" * 15 + b"\1", b"")
    return _message(20, body + struct.pack("=III", 7, 0, 0) + struct.pack("=IIIII", 0, 0, 0, 33, 4711) + attributes)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


DONE = _message(3, struct.pack("=i", 0))


@needs_kernel
@pytest.mark.parametrize("v6only", [True, False])
def test_the_kernel_tells_all_of_a_listener(v6only: bool) -> None:
    """Address, port, v6only, user and inode of a real listener; no other port's listener is in the list."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 in this Python")
    with socket.socket(socket.AF_INET6) as sock, socket.socket() as other:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        try:
            sock.bind(("::", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        sock.listen()
        other.bind(("127.0.0.1", 0))
        other.listen()
        found = _sock_diag.listeners(sock.getsockname()[1])
        assert found is not None
        mine = [listener for listener in found if listener.inode == os.fstat(sock.fileno()).st_ino]
        assert [(x.address, x.port, x.v6only, x.device, x.uid) for x in mine] == [
            ("::", sock.getsockname()[1], v6only, 0, os.getuid())
        ]
        assert os.fstat(other.fileno()).st_ino not in {listener.inode for listener in found}
        assert _sock_diag.socket_inode(os.getpid(), sock.fileno()) == mine[0].inode


@needs_kernel
def test_many_listeners_on_one_port_are_all_listed() -> None:
    """The list spans several datagrams, and none is lost."""
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        sockets = [first]
        try:
            for _ in range(400):
                more = socket.socket()
                sockets.append(more)
                more.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                more.bind(first.getsockname())
            for sock in sockets:
                sock.listen()
            found = _sock_diag.listeners(first.getsockname()[1])
            assert found is not None
            assert {os.fstat(sock.fileno()).st_ino for sock in sockets} <= {listener.inode for listener in found}
        finally:
            for sock in sockets:
                sock.close()


def test_a_system_without_netlink_cannot_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, which is not an empty list."""
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    assert _sock_diag.listeners(80) is None


def test_the_inode_of_what_is_gone_is_unknown() -> None:
    """No such descriptor, or no such process: None."""
    assert _sock_diag.socket_inode(os.getpid(), 10**6) is None
    assert _sock_diag.socket_inode(2**22 + 1, 0) is None


@pytest.mark.parametrize(
    ("attributes", "v6only"),
    [
        (b"", None),
        (_attribute(11, b"\1"), True),
        (_attribute(11, b"\0"), False),
        (_attribute(8, b"\5") + _attribute(15, b"\1\2\3\4\5") + _attribute(11, b"\1"), True),
        (struct.pack("=HH", 0, 5) + _attribute(11, b"\1"), True),
    ],
    ids=["not sent", "set", "not set", "after others", "after one of length 0"],
)
def test_v6only_is_read_from_the_attributes(attributes: bytes, v6only: bool | None) -> None:
    """Kernels that do not send it leave it unknown."""
    (listener,), ended = _sock_diag.parse(_socket_message(attributes=attributes) + DONE)
    assert ended
    assert (listener.address, listener.port, listener.device) == ("::1", 8080, 7)
    assert (listener.uid, listener.inode, listener.v6only) == (33, 4711, v6only)


def test_an_unfinished_list_says_so() -> None:
    """Without the end mark there is more to read."""
    found, ended = _sock_diag.parse(_socket_message() + _socket_message())
    assert (len(found), ended) == (2, False)


def test_a_socket_that_does_not_listen_is_left_out() -> None:
    """An established connection in the reply is no listener."""
    assert _sock_diag.parse(_socket_message(state=1) + DONE) == ([], True)


@pytest.mark.parametrize("kind", [2, 3], ids=["error", "done with a failure"])
def test_a_failed_list_is_an_error_and_never_a_short_list(kind: int) -> None:
    """The kernel's error number arrives, also in the end mark of a dump that failed half-way."""
    with pytest.raises(FileNotFoundError) as caught:
        _sock_diag.parse(_socket_message() + _message(kind, struct.pack("=i", -errno.ENOENT) + b"\0" * 16))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    "data", [_socket_message()[:40], _message(20, b"\0" * 10), struct.pack("=IHHII", 0, 20, 0, 0, 0)]
)
def test_a_cut_reply_is_an_error(data: bytes) -> None:
    """A message shorter than it says, or than a socket's data: never read past, never looped over."""
    with pytest.raises(OSError, match="cut short"):
        _sock_diag.parse(data)
