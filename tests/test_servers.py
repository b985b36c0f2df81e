"""Real servers: ready, a request answered, stopped, and nothing of them left, in the background and in the foreground.

`CommandManager` runs them; what a module of ours knows about its server is tested with that module.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import real_servers
from real_servers import DAEMON, FORMS, SERVERS
from server_kit import still_there

from servermgr import address_in_use
from servermgr.errors import AddressInUseError, WorkerError, WorkerExitedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from real_servers import Server

    from servermgr.command import CommandManager

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="none of these servers is made for Windows")
every_server = pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=name, marks=pytest.mark.server(kind.program)) for name, kind in SERVERS.items()]
)
both_forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory where also a server that has changed its user may write; pytest's own ones are closed."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)  # noqa: S103  # that is its purpose
        yield Path(name)


class Witness:
    """Remembers a tree, so that somebody else's view can tell what has become of it."""

    def __init__(self, pids: list[int]) -> None:
        self.processes = still_there(pids)  # a daemon's launcher may be leaving just now

    def left(self, seconds: float = 0.0) -> list[psutil.Process]:
        """Who of it lives, once `seconds` have passed or nobody does."""
        end = time.monotonic() + seconds
        while (left := [process for process in self.processes if process.is_running()]) and time.monotonic() < end:
            time.sleep(0.01)
        return left


def witness(manager: CommandManager) -> Witness:
    return Witness([info.pid for info in manager.processes()])


# ---- start, answer, stop --------------------------------------------------------------------------------------


@every_server
@both_forms
def test_starts_answers_stops_and_leaves_nothing_twice(
    kind: type[Server], form: str, folder: Path, free_port: int
) -> None:
    """Twice in a row on the same port and in the same directory, for the same manager and for a new one."""
    for _ in range(2):
        server = kind(folder, free_port, form)
        manager = server.manager()
        for _ in range(2):
            manager.start()
            assert manager.process.poll() is None
            manager.health()
            server.check()
            tree = witness(manager)
            assert manager.process.pid in {process.pid for process in tree.processes}
            if server.is_daemon:
                assert int(server.pidfile.read_text()) == manager.process.pid

            outcome = manager.stop()
            assert tree.left() == []
            assert not outcome.killed
            assert not outcome.survivors
            assert manager.process is None
            assert manager.processes() == []
            assert not address_in_use("127.0.0.1", free_port)
            assert not server.pidfile.exists()


@every_server
@both_forms
def test_is_noticed_when_it_is_killed(kind: type[Server], form: str, folder: Path, free_port: int) -> None:
    """`wait` returns then, and what the dead one left (workers, pidfile) is removed."""
    server = kind(folder, free_port, form)
    manager = server.manager()
    with manager:
        tree = witness(manager)
        manager.process.kill()
        assert manager.wait().status == -signal.SIGKILL
        assert tree.left() == []
        # In the foreground nobody has told us of a pidfile, and nginx writes one all the same.
        assert not (server.is_daemon and server.pidfile.exists())
        assert not address_in_use("127.0.0.1", free_port)


@every_server
@both_forms
def test_a_stale_pidfile_does_not_matter(kind: type[Server], form: str, folder: Path, free_port: int) -> None:
    """Here it names this very process, which lives to tell."""
    server = kind(folder, free_port, form)
    server.pidfile.write_text(f"{os.getpid()}\n")
    server.pidfile.chmod(0o666)  # for a server that has changed its user
    with server.manager() as manager:
        server.check()
        assert manager.process.pid != os.getpid()
        tree = witness(manager)
    assert tree.left() == []


@every_server
def test_both_forms_beside_each_other(kind: type[Server], folder: Path, free_ports: Callable[[int], list[int]]) -> None:
    """The end of the one is nothing to the other."""
    servers = []
    for form, port in zip(FORMS, free_ports(2), strict=True):
        (folder / form).mkdir(mode=0o777)
        (folder / form).chmod(0o777)
        servers.append(kind(folder / form, port, form))
    with servers[0].manager() as first, servers[1].manager() as second:
        gone, stays = witness(first), witness(second)
        first.stop()
        assert gone.left() == []
        assert stays.left() == stays.processes
        servers[1].check()


# ---- a start that fails ---------------------------------------------------------------------------------------


@every_server
@both_forms
def test_a_busy_port_is_an_error_that_names_the_holder(
    kind: type[Server], form: str, folder: Path, free_port: int
) -> None:
    """Nothing is started then. Once the holder has gone, the same manager starts."""
    manager = kind(folder, free_port, form).manager()
    with socket.create_server(("127.0.0.1", free_port)):
        with pytest.raises(AddressInUseError) as raised:
            manager.start()
        assert raised.value.details["port"] == free_port
        assert f"127.0.0.1:{free_port} is in use by pid {os.getpid()} ({psutil.Process().name()})" in str(raised.value)
        assert manager.process is None
    with manager:
        manager.health()


@pytest.mark.server("redis-server")
@pytest.mark.server("haproxy")
@both_forms
def test_a_port_that_another_server_of_ours_holds(form: str, folder: Path, free_port: int) -> None:
    with SERVERS["redis"](folder, free_port, form).manager() as redis:
        with pytest.raises(AddressInUseError, match=rf"pid {redis.process.pid} \(redis-server\)"):
            SERVERS["haproxy"](folder, free_port, form).manager().start()
        SERVERS["redis"](folder, free_port, form).check()


@every_server
@both_forms
def test_a_bad_configuration_is_an_error_with_the_servers_own_words(
    kind: type[Server], form: str, folder: Path, free_port: int
) -> None:
    """At once, not when the time is up."""
    server = kind(folder, free_port, form, flaw=True)
    manager = server.manager()
    with pytest.raises(WorkerExitedError) as raised:
        manager.start(timeout=50.0)
    assert any(server.complaint in line for line in raised.value.output), raised.value
    assert server.complaint in str(raised.value)
    assert raised.value.status not in (None, 0)
    assert manager.process is None
    assert not address_in_use("127.0.0.1", free_port)


@every_server
def test_a_pidfile_that_cannot_be_written_is_named(kind: type[Server], folder: Path, free_port: int) -> None:
    """Some servers end then, some run on without: either way it is an error that leads to the cause."""
    server = kind(folder, free_port, DAEMON)
    server.pidfile.mkdir()
    manager = server.manager()
    with pytest.raises(WorkerError, match=str(server.pidfile)):
        manager.start(timeout=1.5)
    assert manager.process is None
    assert not address_in_use("127.0.0.1", free_port)


# ---- re-exec --------------------------------------------------------------------------------------------------


@pytest.mark.server("nginx")
@pytest.mark.parametrize("with_old", [False, True], ids=["old one gone", "both live"])
def test_nginx_that_replaces_its_own_program(with_old: bool, folder: Path, free_port: int) -> None:
    """Its documented upgrade: USR2 starts a new master, QUIT ends the old one. A stop is fine at any time."""
    server = SERVERS["nginx"](folder, free_port, DAEMON)
    with server.manager() as manager:
        old = manager.process.pid
        # nginx has written its pidfile, and accepts connections, before it can be upgraded: it forgets USR2 until
        # its workers run, and ignores it while its parent lives, by which it knows that it is a replacement itself.
        server.check()
        assert eventually(lambda: manager.processes()[0].pid == old)
        manager.process.send_signal(signal.SIGUSR2)
        assert eventually(lambda: names_another(server.pidfile, old))
        new = int(server.pidfile.read_text())
        if not with_old:
            manager.process.send_signal(signal.SIGQUIT)
            assert eventually(lambda: manager.process.poll() is None and manager.process.pid == new)
            assert not psutil.pid_exists(old)
        server.check()
        tree = witness(manager)
        assert {new, manager.process.pid} <= {process.pid for process in tree.processes}
        outcome = manager.stop()
    assert tree.left() == []
    assert not outcome.killed
    assert outcome.seconds < 5.0
    assert not server.pidfile.exists()
    assert not address_in_use("127.0.0.1", free_port)


def names_another(pidfile: Path, pid: int) -> bool:
    try:
        return int(pidfile.read_text()) != pid
    except (FileNotFoundError, ValueError):  # it renames the old one first
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# ---- the owner dies -------------------------------------------------------------------------------------------


@every_server
@both_forms
def test_nothing_is_left_when_the_owner_is_killed(kind: type[Server], form: str, folder: Path, free_port: int) -> None:
    """By SIGKILL, which it cannot answer: the guardian ends the server, within five seconds."""
    command = [sys.executable, real_servers.__file__, kind.name, form, str(folder), str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            tree = Witness([int(pid) for pid in owner.stdout.readline().split()])
            assert tree.processes, "the owner did not start its server"
            assert tree.left() == tree.processes
        finally:
            owner.kill()
    assert tree.left(5.0) == []
    assert not address_in_use("127.0.0.1", free_port)
    assert eventually(lambda: not kind(folder, free_port, form).pidfile.exists(), 1.0)
