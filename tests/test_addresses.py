"""What "in use" means, and who is named: real sockets on loopback, every way to know, beside a real bind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from servermgr import _trying, addresses
from servermgr._holders import listing_by_process
from servermgr.addresses import (
    address_free_check,
    address_in_use,
    by_kernel,
    by_psutil,
    by_trying,
    holders,
    listening_inodes,
)
from servermgr.errors import AddressInUseError, WorkerError
from servermgr.platform import _sock_diag

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parent.parent
KERNEL_LISTS = _sock_diag.listeners(1) is not None
ON_LINUX = sys.platform == "linux"


def _listing_allowed() -> bool:
    try:
        psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return False
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_kernel = pytest.mark.skipif(not KERNEL_LISTS, reason="this kernel does not list listeners (SOCK_DIAG)")
needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")
needs_linux = pytest.mark.skipif(not ON_LINUX, reason="how Linux treats this case")
needs_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="changes user: needs root")

WAYS = [
    pytest.param(by_kernel, id="kernel", marks=needs_kernel),
    pytest.param(
        by_psutil,
        id="psutil",
        marks=pytest.mark.skipif(not _listing_allowed(), reason="the system refuses the listing"),
    ),
    pytest.param(by_trying, id="trying"),
]
every_way = pytest.mark.parametrize("way", WAYS)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _socket_on(host: str, port: int, *, v6only: bool = True, options: tuple[int, ...] = ()) -> socket.socket:
    sock = socket.socket(_family(host))
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _bind_works(host: str, port: int, *, options: tuple[int, ...] = (socket.SO_REUSEADDR,)) -> bool:
    try:
        _socket_on(host, port, options=options).close()
    except OSError as refusal:
        if refusal.errno != errno.EADDRINUSE:
            raise
        return False
    return True


@pytest.fixture
def port() -> int:
    """A port that nobody uses in any way; below the ephemeral range, so that no passing connection takes it."""
    hosts = ("0.0.0.0", "::") if _has_ipv6() else ("0.0.0.0",)
    for _ in range(100):
        candidate = random.randrange(15000, 32000)
        if all(_bind_works(host, candidate, options=()) for host in hosts):
            return candidate
    pytest.fail("no free port in a hundred tries")


Listen = Callable[..., socket.socket]


@pytest.fixture
def listen(port: int) -> Iterator[Listen]:
    """Opens listeners on `port`, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def opened(host: str, *, v6only: bool = True, options: tuple[int, ...] = ()) -> socket.socket:
            sock = stack.enter_context(_socket_on(host, port, v6only=v6only, options=options))
            sock.listen(16)
            return sock

        yield opened


# Which listener occupies which address. Columns: 127.0.0.1, 0.0.0.0, 127.0.0.2, ::1, ::

HOSTS = ("127.0.0.1", "0.0.0.0", "127.0.0.2", "::1", "::")
TABLE = {
    ("127.0.0.1", True): (True, True, False, False, False),
    ("0.0.0.0", True): (True, True, True, False, False),
    ("127.0.0.2", True): (False, True, True, False, False),
    ("::1", True): (False, False, False, True, True),
    ("::", False): (True, True, True, True, True),
    ("::", True): (False, False, False, True, True),
    ("::ffff:127.0.0.1", False): (True, True, False, False, False),
    ("::ffff:0.0.0.0", False): (True, True, True, False, False),
}
CASES = [
    pytest.param(
        *listener,
        host,
        used,
        id=f"{listener[0]}{'' if listener[1] else ' dual'} - {host}",
        marks=[needs_ipv6] if ":" in listener[0] + host else [],
    )
    for listener, row in TABLE.items()
    for host, used in zip(HOSTS, row, strict=True)
]


@needs_linux
@every_way
@pytest.mark.parametrize(("listener", "v6only", "host", "used"), CASES)
def test_an_address_is_in_use_exactly_if_a_bind_to_it_fails(  # pytest passes them by name
    listen: Listen, port: int, way: addresses.Way, listener: str, v6only: bool, host: str, used: bool
) -> None:
    """Every pair of listener and host: the answer of each way is that of the table, and that of a real bind."""
    listen(listener, v6only=v6only)
    assert address_in_use(host, port, ways=[way]) is used
    assert _bind_works(host, port) is not used


@every_way
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "", "localhost"])
def test_with_no_listener_the_address_is_free(port: int, way: addresses.Way, host: str) -> None:
    """Nobody there: free, also for a name and for all interfaces."""
    assert not address_in_use(host, port, ways=[way])


@every_way
@pytest.mark.parametrize("listener", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_an_empty_host_is_every_address_of_both_families(
    listen: Listen, port: int, way: addresses.Way, listener: str
) -> None:
    """A listener of either family occupies the empty host."""
    listen(listener)
    assert address_in_use("", port, ways=[way])


@every_way
@pytest.mark.parametrize("listener", ["127.0.0.1", "0.0.0.0"])
def test_an_ipv4_mapped_host_is_the_ipv4_address_in_it(
    listen: Listen, port: int, way: addresses.Way, listener: str
) -> None:
    """`::ffff:127.0.0.1` asks for 127.0.0.1."""
    listen(listener)
    assert address_in_use("::ffff:127.0.0.1", port, ways=[way])


@every_way
@pytest.mark.parametrize(
    ("listener", "used"), [("127.0.0.1", True), pytest.param("::1", True, marks=needs_ipv6), ("127.0.0.2", False)]
)
def test_a_name_is_in_use_if_one_of_its_addresses_is(  # pytest passes them by name
    monkeypatch: pytest.MonkeyPatch, listen: Listen, port: int, way: addresses.Way, listener: str, used: bool
) -> None:
    """`localhost` with an address of each family: a listener on either one counts, one beside them does not.

    The resolver's answer is given, since not every machine resolves `localhost` to both.
    """
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_args, **_kwargs: [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ],
    )
    listen(listener)
    assert address_in_use("localhost", port, ways=[way]) is used


@needs_linux
@needs_kernel
def test_a_link_local_address_is_in_use_on_its_own_interface_only(port: int) -> None:
    """The same link-local address on another interface is another address."""
    text, scope = _link_local()
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind((text, port, 0, scope))
        sock.listen()
        name = socket.if_indextoname(scope)
        assert address_in_use(f"{text}%{name}", port)
        assert not address_in_use(f"{text}%lo", port)
        assert address_in_use("::", port)


def _link_local() -> tuple[str, int]:
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family == socket.AF_INET6 and entry.address.startswith("fe80:"):
                return entry.address.partition("%")[0], socket.if_nametoindex(name)
    pytest.skip("no interface with a link-local address")


# What is a listener, and what is not


@every_way
@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
def test_a_listener_that_shares_its_port_is_a_listener(listen: Listen, port: int, way: addresses.Way) -> None:
    """SO_REUSEPORT: in use, although another socket with the option could be bound beside it."""
    listen("127.0.0.1", options=(socket.SO_REUSEPORT,))
    assert address_in_use("127.0.0.1", port, ways=[way])
    assert _bind_works("127.0.0.1", port, options=(socket.SO_REUSEPORT,))


@every_way
def test_a_multipath_listener_is_a_listener(port: int, way: addresses.Way) -> None:
    """Multipath TCP, which servers written in Go use unasked: in use, and its inode is the one its holder sees."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError:
        pytest.skip("no multipath TCP on this system")
    with sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        assert address_in_use("127.0.0.1", port, ways=[way])
        if KERNEL_LISTS:
            assert listening_inodes("127.0.0.1", port) == {os.fstat(sock.fileno()).st_ino}


def _connected(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(listener.getsockname(), timeout=10)
    served, _ = listener.accept()
    return client, served


def _leave_time_wait(listener: socket.socket) -> None:
    """One connection, then the end of the listener; the server's side closes first, so the wait is on its port."""
    with listener:
        client, served = _connected(listener)
    with client, served:
        served.close()
        assert client.recv(1) == b""


@every_way
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_time_wait_is_not_a_listener(listen: Listen, port: int, way: addresses.Way, host: str) -> None:
    """A server that just ended leaves TIME_WAIT on its port: free, as a server's bind works."""
    _leave_time_wait(listen("127.0.0.1", options=(socket.SO_REUSEADDR,)))
    assert not _bind_works(host, port, options=()), "nothing left on the port: this test would show nothing"
    assert _bind_works(host, port)
    assert not address_in_use(host, port, ways=[way])


@needs_linux
@every_way
def test_time_wait_of_a_careless_server_is_not_a_listener_either(listen: Listen, port: int, way: addresses.Way) -> None:
    """A server without SO_REUSEADDR leaves a wait that blocks every bind for a minute; still, nobody listens."""
    _leave_time_wait(listen("127.0.0.1"))
    assert not _bind_works("127.0.0.1", port)
    assert not address_in_use("127.0.0.1", port, ways=[way])


@every_way
def test_an_open_connection_without_a_listener_is_not_a_listener(listen: Listen, port: int, way: addresses.Way) -> None:
    """The listener is closed and a connection lives on: free."""
    with listen("127.0.0.1") as listener:
        client, served = _connected(listener)
    with client, served:
        assert not address_in_use("127.0.0.1", port, ways=[way])


@every_way
def test_a_bound_socket_that_does_not_listen_is_not_a_listener(port: int, way: addresses.Way) -> None:
    """Bound, never listening: free."""
    with _socket_on("127.0.0.1", port):
        assert not address_in_use("127.0.0.1", port, ways=[way])


@needs_linux
def test_trying_alone_takes_a_bound_socket_for_a_listener_of_the_wildcard(port: int) -> None:
    """The one documented error of the last resort on Linux: it says "in use" too often, never too rarely."""
    with _socket_on("127.0.0.1", port):
        assert address_in_use("0.0.0.0", port, ways=[by_trying])
        assert not address_in_use("0.0.0.0", port, ways=[by_psutil])


@needs_linux
def test_trying_counts_a_listener_that_no_longer_answers(
    monkeypatch: pytest.MonkeyPatch, listen: Listen, port: int
) -> None:
    """A full backlog neither accepts nor refuses: in use."""
    monkeypatch.setattr(_trying, "CONNECT_PATIENCE", 0.2)
    listen("127.0.0.1").listen(0)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        assert address_in_use("127.0.0.1", port, ways=[by_trying])


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_listing_does_not_touch_the_listener(listen: Listen, port: int, way: addresses.Way) -> None:
    """Asking by a listing makes no connection that a server would have to accept and log."""
    listener = listen("127.0.0.1")
    assert address_in_use("127.0.0.1", port, ways=[way])
    assert select.select([listener], [], [], 0.05)[0] == []


@pytest.mark.parametrize("host", ["192.0.2.77", "2001:db8::77"])
def test_trying_never_asks_another_machine(monkeypatch: pytest.MonkeyPatch, port: int, host: str) -> None:
    """An address that is not of this machine is free here, and is not connected to."""
    monkeypatch.setattr(_trying, "_accepts", lambda *_: pytest.fail("connected to another machine"))
    assert not address_in_use(host, port, ways=[by_trying])


# Who


def test_the_holder_is_named(listen: Listen, port: int) -> None:
    """Process, user and address of the listener, readable as one line."""
    listener = listen("127.0.0.1")
    (holder,) = holders("127.0.0.1", port)
    me = psutil.Process()
    assert (holder.pid, holder.name, holder.user) == (me.pid, me.name(), me.username())
    assert holder.address == f"127.0.0.1:{port}"
    assert f"pid {me.pid} ({me.name()}) on 127.0.0.1:{port}" in str(holder)
    if KERNEL_LISTS:
        assert holder.inode == os.fstat(listener.fileno()).st_ino


def test_only_holders_of_the_asked_address_are_named(listen: Listen, port: int) -> None:
    """A listener beside the address is none of its holders; the wildcard's are all of its family."""
    listen("127.0.0.1")
    listen("127.0.0.2")
    assert [holder.address for holder in holders("127.0.0.2", port)] == [f"127.0.0.2:{port}"]
    assert len(holders("0.0.0.0", port)) == 2
    assert holders("127.0.0.3", port) == []


CHILD = """
import socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", int(sys.argv[1])))
sock.listen()
print("listening", flush=True)
sys.stdin.read()
"""


@needs_linux
def test_each_of_several_holders_of_one_port_is_named(listen: Listen, port: int) -> None:
    """SO_REUSEPORT over two processes: two holders, each socket with the process that has it."""
    mine = listen("127.0.0.1", options=(socket.SO_REUSEPORT,))
    argv = [sys.executable, "-c", CHILD, str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "listening\n"
            found = {holder.inode: holder.pid for holder in holders("127.0.0.1", port)}
            assert found.pop(os.fstat(mine.fileno()).st_ino) == os.getpid()
            assert list(found.values()) == [child.pid]
        finally:
            child.kill()


def test_where_the_whole_listing_is_refused_own_processes_are_found_one_by_one(listen: Listen, port: int) -> None:
    """macOS without root: the processes of this user are still seen."""
    listen("127.0.0.1")
    assert [(seen.address, seen.pid) for seen in listing_by_process(port)] == [("127.0.0.1", os.getpid())]


@needs_kernel
def test_inodes_are_those_of_the_listeners_alone(listen: Listen, port: int) -> None:
    """Inodes of what occupies the address; neither of connections nor of listeners beside it."""
    one, other = listen("127.0.0.1"), listen("127.0.0.2")
    with contextlib.ExitStack() as stack:
        for end in _connected(one):
            stack.enter_context(end)
        assert listening_inodes("127.0.0.1", port) == {os.fstat(one.fileno()).st_ino}
        assert listening_inodes("0.0.0.0", port) == {os.fstat(sock.fileno()).st_ino for sock in (one, other)}
        assert listening_inodes("127.0.0.3", port) == set()


def test_inodes_are_unknown_where_the_kernel_does_not_list(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """None, which is not "nobody listens"; the question itself is then answered by the next way."""
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    assert listening_inodes("127.0.0.1", port) is None
    with _socket_on("127.0.0.1", port) as sock:
        sock.listen()
        assert address_in_use("127.0.0.1", port)
        assert [holder.pid for holder in holders("127.0.0.1", port)] == [os.getpid()]


# Other users


@contextlib.contextmanager
def _as_nobody(task: Callable[[], object]) -> Iterator[object]:
    """Run `task` in a child with the user id of nobody; yields its result while the child lives."""
    results, result_end = os.pipe()
    life_end, life = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(results)
            os.close(life)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(result_end, json.dumps(task()).encode())
            os.close(result_end)
            os.read(life_end, 1)  # until the parent closes its end
        finally:
            os._exit(0)
    os.close(result_end)
    os.close(life_end)
    try:
        with os.fdopen(results) as reading:
            text = reading.read()
        yield json.loads(text or '"the child failed"')
    finally:
        os.close(life)
        os.waitpid(pid, 0)


@needs_linux
@needs_root
@every_way
def test_a_listener_of_another_user_is_seen(port: int, way: addresses.Way) -> None:
    """The listener is nobody's, the question is root's: in use, and named with its user."""
    kept = []

    def listen_as_nobody() -> int:
        sock = _socket_on("127.0.0.1", port)
        sock.listen()
        kept.append(sock)
        return os.getpid()

    with _as_nobody(listen_as_nobody) as pid:
        assert address_in_use("127.0.0.1", port, ways=[way])
        (holder,) = holders("127.0.0.1", port)
        assert holder.pid == pid
        assert holder.uid in (65534, None)
        assert f"pid {pid} (" in str(holder)
    assert not address_in_use("127.0.0.1", port, ways=[way])


@needs_linux
@needs_root
@every_way
def test_an_ordinary_user_sees_the_listener_of_root(listen: Listen, port: int, way: addresses.Way) -> None:
    """The listener is root's, the question is nobody's: in use; the process is hidden, its user is not."""
    listener = listen("127.0.0.1")

    def ask() -> list[object]:
        listener.close()  # the child's copy: else the listener would be its own as well
        who = holders("127.0.0.1", port)
        return [address_in_use("127.0.0.1", port, ways=[way]), [holder.pid for holder in who], list(map(str, who))]

    with _as_nobody(ask) as answer:
        pass
    assert isinstance(answer, list), answer
    used, pids, texts = answer
    assert used is True
    assert pids == [None]
    expected = "a process of user root (uid 0), its pid hidden from this user, on" if KERNEL_LISTS else "hidden"
    assert expected in texts[0]


# The check


def test_the_check_says_by_whom(listen: Listen, port: int) -> None:
    """The error is an OSError of EADDRINUSE, says who and what to do, carries the data, and can be pickled."""
    listen("127.0.0.1")
    with pytest.raises(AddressInUseError) as caught:
        address_free_check("127.0.0.1", port)
    assert isinstance(caught.value, OSError)
    errors: list[AddressInUseError] = [caught.value, pickle.loads(pickle.dumps(caught.value))]  # noqa: S301  # ours
    for error in errors:
        assert error.errno == errno.EADDRINUSE
        assert error.details["host"] == "127.0.0.1"
        assert error.details["port"] == port
        assert f"127.0.0.1:{port} is in use by pid {os.getpid()} (" in str(error)
        assert "choose another port" in str(error)
        assert str(os.getpid()) in error.details["holders"][0]


def test_the_check_is_silent_on_a_free_address(port: int) -> None:
    """Free: returns."""
    address_free_check("127.0.0.1", port)


# Bad arguments

QUESTIONS = pytest.mark.parametrize("ask", [address_in_use, address_free_check, holders, listening_inodes])


@QUESTIONS
@pytest.mark.parametrize("port", [-1, 65536, True, False, "80", 80.0, None])
def test_a_bad_port_is_refused(ask: Callable[[str, object], object], port: object) -> None:
    """Not a number, or out of range: a ValueError that shows it."""
    with pytest.raises(ValueError, match=f"port must be .*{port!r}"):
        ask("127.0.0.1", port)


@QUESTIONS
def test_port_zero_is_refused_with_the_reason(ask: Callable[[str, int], object]) -> None:
    """Port 0 asks for any free port: never in use."""
    with pytest.raises(ValueError, match="port 0 is never in use"):
        ask("127.0.0.1", 0)


@QUESTIONS
@pytest.mark.parametrize("host", [None, b"127.0.0.1", 2130706433])
def test_a_host_that_is_no_text_is_refused(ask: Callable[[object, int], object], host: object) -> None:
    """A ValueError that shows it."""
    with pytest.raises(ValueError, match="host must be text"):
        ask(host, 80)


@QUESTIONS
@pytest.mark.parametrize("host", ["no-such-host.invalid", "[::1]", "300.1.2.3"])
def test_a_host_that_does_not_resolve_is_one_clear_error(ask: Callable[[str, int], object], host: str) -> None:
    """A WorkerError with the resolver's error as its cause, and the remedy."""
    with pytest.raises(WorkerError) as caught:
        ask(host, 80)
    assert isinstance(caught.value.exception, socket.gaierror)
    assert host in str(caught.value)
    assert "write an IP address" in str(caught.value)


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a\0b", "\udc80"])
def test_a_host_that_no_resolver_can_be_asked_for_is_the_same_error(host: str) -> None:
    """Too long a label, a NUL, no valid text: a WorkerError as well."""
    with pytest.raises(WorkerError, match="cannot be resolved"):
        address_in_use(host, 80)


# Cost


@needs_linux
@needs_kernel
def test_the_question_does_not_load_psutil() -> None:
    """Where the kernel lists listeners, psutil is loaded only to say who."""
    code = "import sys; from servermgr.addresses import address_in_use; address_in_use('', 9)"
    code += "; print('psutil' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


@needs_kernel
def test_the_question_is_quick_and_leaves_no_descriptor(listen: Listen, port: int) -> None:
    """A thousand questions with open connections about: well below a second each, and no descriptor more."""
    listener = listen("127.0.0.1")
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            for end in _connected(listener):
                stack.enter_context(end)
        before = psutil.Process().num_fds()
        started = time.monotonic()
        assert all(address_in_use("127.0.0.1", port) for _ in range(1000))
        assert time.monotonic() - started < 10
        assert psutil.Process().num_fds() == before
