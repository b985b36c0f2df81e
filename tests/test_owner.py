"""The owner's process stays as it was: its children, its signals, its threads, its forks, its event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest
from stand_ins import (
    ANSWERING,
    FAMILY,
    PATIENCE,
    SLEEP,
    Server,
    content,
    is_living,
    living,
    python,
    script_output,
    sh,
    tree_of,
    until,
)

from servermgr.base import StopOutcome, WorkerError
from servermgr.command import CommandManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="about forks and signals of POSIX")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that runs, with one child."""
    server = Server(sh(FAMILY, tmp_path / "up"))
    server.started(tmp_path / "up")
    yield server
    server.stop()


# ---- what does not change -------------------------------------------------------------------------------------

#: From the first server of a process to the last, everything that others may count on stays the same.
UNCHANGED = """
import ctypes, os, signal, sys, threading
from servermgr.base import Manager

def is_subreaper():
    answer = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    return answer.value

def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()

def os_wait():
    try:
        return os.wait()
    except ChildProcessError:
        return "no children"

def look():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    umask = os.umask(0o22)
    os.umask(umask)
    return {
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wakeup": wakeup,
        "threads": [thread.name for thread in threading.enumerate()],
        "tasks": os.listdir("/proc/self/task"),
        "subreaper": is_subreaper(),
        "children": children(),
        "os.wait": os_wait(),
        "session": (os.getsid(0), os.getpgrp()),
        "umask": umask,
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
    }

before = look()
assert before["subreaper"] == 0 and before["os.wait"] == "no children", before
for round in range(2):
    manager = Manager("first")
    manager.spawn(["/bin/sh", "-c", "sleep 60 & wait"])
    running = look()
    manager.ready_wait()
    ready = look()
    manager.stop()
    for moment in (running, ready, look()):
        assert moment == before, {name: (before[name], moment[name]) for name in moment if moment[name] != before[name]}
print("unchanged")
"""


REFUSED = """
import os
from servermgr import CommandManager

for argv in (["no\\0command"], ["sleep", "60"]):
    manager = CommandManager(argv, name="given")
    try:
        with manager:
            print("started")
    except Exception as error:
        print(type(error).__name__)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no child")
"""


def test_a_first_start_that_is_refused_leaves_no_child() -> None:
    """The helper process that it has begun to make belongs to nobody; the next start finds it ready."""
    assert script_output(REFUSED) == "LaunchError\nno child\nstarted\n"


def test_nothing_of_the_owner_changes() -> None:
    """No handler, no thread, no child, no subreaper, no new directory: `os.wait()` still finds no children."""
    assert script_output(UNCHANGED) == "unchanged\n"


def test_children_of_others_keep_their_statuses(tmp_path: Path) -> None:
    """What a Popen or an os.fork of the program awaits is never taken by us, while servers come and go."""
    popen = subprocess.Popen(["/bin/sh", "-c", "sleep 0.1; exit 5"])
    forked = os.fork()
    if forked == 0:
        time.sleep(0.1)
        os._exit(9)
    for _ in range(5):
        server = Server(sh(FAMILY, tmp_path / "up"))
        server.started(tmp_path / "up")
        server.stop()
        (tmp_path / "up").unlink()
        time.sleep(0.04)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 9
    assert popen.wait(PATIENCE) == 5


#: Owners that treat the deaths of their children in ways of their own.
UNUSUAL = {
    "ignores SIGCHLD": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "reaps everything": """
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
""",
    "blocks SIGCHLD": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})",
    "blocks every signal": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "ignores SIGTERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "has closed its standard descriptors": "out = os.dup(1)\nfor fd in (0, 1, 2): os.close(fd)",
    # Python 3.13.0 cannot import socket any more, then.
    "has no home": "import socket; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])",
    "has a strange PATH": "os.environ['PATH'] = '/nowhere'",
    "has PYTHON variables": "os.environ.update(PYTHONHOME='/nowhere', PYTHONPATH='/nowhere', PYTHONINSPECT='1')",
    "is a subreaper": "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)",
    "makes descriptors inheritable": "out = os.dup(1); os.set_inheritable(out, True)",
}

OWN_WAYS = """
import os, signal, sys
out = 1
{ways}
from servermgr.base import Manager
manager = Manager("any")
manager.spawn(["/bin/sh", "-c", "echo hello; /bin/sleep 0.2; exit 3"], cwd="/")
assert manager.process.wait(10.0) == 3, manager.process
assert manager.wait().status == 3
assert manager.output_tail() == ["hello"], manager.output_tail()
manager.spawn(["/bin/sh", "-c", "/bin/sleep 60 & wait"], cwd="/", grace_period=20.0)
outcome = manager.stop()
assert outcome.status == -signal.SIGTERM, outcome
assert outcome.seconds < 10.0, outcome
os.write(out, b"well\\n")
"""


@pytest.mark.parametrize("ways", UNUSUAL)
def test_an_owner_may_have_ways_of_its_own(tmp_path: Path, ways: str) -> None:
    """Whatever it does with signals, descriptors and its surroundings: the end is noticed, and the stop is polite."""
    (tmp_path / "home").mkdir()
    assert script_output(OWN_WAYS.format(ways=UNUSUAL[ways]), tmp_path / "home") == "well\n"


# ---- forks of the owner ---------------------------------------------------------------------------------------


def in_fork(act: Callable[[], object]) -> int:
    """Exit status of a fork of this process that does so: 0 if it did not raise."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:  # noqa: BLE001  # a fork of the test must not return into it
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def look_and_stop(server: Server) -> None:
    """What a fork may do with a manager that it did not start."""
    assert server.process is None
    assert server.processes() == []
    assert "not running" in repr(server)
    assert server.stop() == StopOutcome()
    assert server.stop(wait=False) == StopOutcome()
    assert server.wait() == StopOutcome()
    try:
        server.ready_wait(0)
    except WorkerError:
        pass
    else:
        raise AssertionError("ready without a process")


def test_in_a_fork_the_manager_holds_nothing(server: Server) -> None:
    """It reads as not running, stops nobody, and its end leaves the server running, for the parent to stop."""
    tree = tree_of(server.process.pid)
    assert in_fork(lambda: look_and_stop(server)) == 0
    assert living(tree) == tree
    server.ready_wait(PATIENCE)
    assert len(server.stop().polite) == 2
    assert living(tree) == []


def test_a_fork_of_multiprocessing_holds_nothing(server: Server) -> None:
    """The same by multiprocessing's fork, which ends in its own way."""
    tree = tree_of(server.process.pid)
    process = multiprocessing.get_context("fork").Process(target=look_and_stop, args=(server,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    process.close()
    assert living(tree) == tree
    assert len(server.stop().polite) == 2


def test_the_worker_kept_by_a_fork_is_not_its_own(server: Server) -> None:
    """A process object that was taken before the fork signals nobody in it."""
    process = server.process

    def act() -> None:
        process.kill()
        process.terminate()
        assert process.pid == tree[0].pid

    tree = tree_of(process.pid)
    assert in_fork(act) == 0
    assert living(tree) == tree
    assert process.poll() is None


def test_a_fork_starts_servers_of_its_own(tmp_path: Path, server: Server) -> None:
    """Through the same manager and through another; both stand beside the parent's and end with the fork's stop."""

    def act() -> None:
        other = Server(SLEEP)
        for own in (server, other):
            own.start()
            assert own.process.pid not in parents
            assert os.getpgid(own.process.pid) != os.getpgrp()
        for own, status in ((server, 3), (other, -signal.SIGTERM)):
            assert own.stop().status == status
            assert own.process is None

    tree = tree_of(server.process.pid)
    parents = {process.pid for process in tree}
    assert in_fork(act) == 0
    assert living(tree) == tree


FORKS_THAT_END = """
import os, sys
from servermgr.base import Manager
manager = Manager("kept")
manager.spawn(["sleep", "60"])
pid = manager.process.pid
if os.fork() == 0:
    {end}
os.wait()
assert manager.process.poll() is None, manager.process
assert manager.process.pid == pid
print(manager.stop().status)
"""


@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.execv('/bin/true', ['true'])"]
)
def test_the_end_of_a_fork_leaves_the_server(end: str) -> None:
    """Also when the fork ends as a program does, with everything that runs at its exit."""
    assert script_output(FORKS_THAT_END.format(end=end)) == "-15\n"


def test_a_fork_while_another_thread_stops_does_not_hang(server: Server) -> None:
    """Locks that other threads held at the moment of the fork do not bind the fork."""
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server.wait) for _ in range(3)]
        time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            try:
                look_and_stop(server)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        server.stop()
        assert all(future.result(PATIENCE).finished for future in waiting)


# ---- threads --------------------------------------------------------------------------------------------------


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """The server belongs to the process, not to a thread of it."""
    server = Server(sh(FAMILY, tmp_path / "up"))
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join(PATIENCE)
    content(tmp_path / "up")
    time.sleep(0.1)
    assert server.process.poll() is None
    assert len(server.stop().polite) == 2


def test_eight_managers_at_once(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """Started, asked and stopped from eight threads: each has its own tree, and nobody is left of any."""
    trees = []

    def life(number: int, port: int) -> int:
        answer = "HTTP/1.0 200 OK\r\n\r\n"
        manager = CommandManager(python(ANSWERING, port, answer), name=f"n{number}", ready=f"http://127.0.0.1:{port}/")
        for _ in range(3):
            with manager:
                trees.append(tree_of(manager.process.pid))
                manager.health()
        return number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(life, range(8), free_ports(8))) == list(range(8))
    everyone = [process for tree in trees for process in tree]
    assert len({process.pid for process in everyone}) == 24
    assert living(everyone) == []


def test_many_threads_ask_one_manager(server: Server) -> None:
    """Listing, polling and waiting from several threads disturb one another neither before nor at the end."""
    process = server.process

    def ask(_: int) -> int:
        while process.poll() is None:
            server.processes()
            server.output_tail()
        return int(process.wait())

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, number) for number in range(5)]
        time.sleep(0.2)
        server.stop()
        assert [future.result(PATIENCE) for future in asking] == [3] * 5


# ---- asyncio --------------------------------------------------------------------------------------------------


def test_async_with_starts_and_stops(tmp_path: Path) -> None:
    """`async with` is `with`, and the event loop goes on while the server starts and stops."""
    ready_at = time.monotonic() + 0.3
    server = Server(sh('sleep 60 & trap "sleep 0.3; exit 3" TERM; wait'), ask=lambda: time.monotonic() > ready_at)
    beats = []

    async def beat() -> None:
        while True:
            beats.append(server.process is not None)
            await asyncio.sleep(0.02)

    async def main() -> psutil.Process:
        heart = asyncio.create_task(beat())
        async with server as entered:
            assert entered is server
            assert time.monotonic() > ready_at
            before = len(beats)
            worker = psutil.Process(server.process.pid)
        heart.cancel()
        assert before > 3
        assert len(beats) - before > 3
        return worker

    assert not is_living(asyncio.run(main()))
    assert server.process is None


def test_an_async_body_that_fails_leaves_nobody() -> None:
    """The exception goes on when the tree is gone."""
    server = Server(SLEEP)

    async def main() -> None:
        async with server:
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert server.process is None


def test_a_cancelled_start_leaves_nobody(tmp_path: Path) -> None:
    """A time-out of asyncio's around `async with` ends what was being started before it is raised."""
    server = Server(sh(FAMILY, tmp_path / "up"), ask=lambda: False)

    async def use() -> None:
        async with server:
            pytest.fail("entered a server that is not ready")

    async def main() -> None:
        using = asyncio.ensure_future(use())
        await asyncio.to_thread(content, tmp_path / "up")
        worker = psutil.Process(until(lambda: server.process, "the start").pid)
        using.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await using
            assert not is_living(worker)
            assert server.process is None
        finally:
            server.stop()  # the event loop does not close before the thread has ended

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_several_servers_in_one_event_loop() -> None:
    """They start side by side."""
    servers = [Server(SLEEP) for _ in range(3)]

    async def use(server: Server) -> int:
        async with server:
            return int(server.process.pid)

    async def main() -> list[int]:
        return await asyncio.gather(*map(use, servers))

    pids = asyncio.run(main())
    assert len(set(pids)) == 3
    until(lambda: not any(map(psutil.pid_exists, pids)), "the end of all")
