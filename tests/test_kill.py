"""`kill()`: the end of a whole tree now, from any thread, whatever else is going on with it."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from server_kit import still_there
from stand_ins import DEAF, FAMILY, PATIENCE, SLEEP, Server, content, living, sh, standing, until

from servermgr import CommandManager, Stack
from servermgr.base import Manager, ManagerInterface, StopOutcome, WorkerError, WorkerExitedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: A grace period that no test waits for, and by when it is clear that it was not waited for.
LONG, EARLY = 55.0, 25.0
#: A worker that notes whether it was asked, with a child.
NOTING = 'sleep 60 & trap "echo asked >$2" TERM; echo up >"$1"; while :; do sleep 0.01; done'


@pytest.fixture
def up(tmp_path: Path) -> Path:
    """Where a stand-in says that it is ready to be treated badly."""
    return tmp_path / "up"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Other threads."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def adopted(script: str, *args: object) -> Manager:
    """A manager with a process that was started by other means, and has a grace period."""
    manager = Manager("adopted")
    manager.grace_period = LONG
    manager.process = subprocess.Popen(sh(script, *args))
    return manager


def guarded(script: str, *args: object) -> Manager:
    """The same below a guardian."""
    server = Server(sh(script, *args), grace_period=LONG)
    server.start()
    return server


KINDS = pytest.mark.parametrize("make", [guarded, adopted])


def tree_of(server: Manager, up: Path) -> list[psutil.Process]:
    """Everyone, once the stand-in says that it is up."""
    content(up)
    return standing(server.process.pid)


def is_asked(server: Manager, tree: list[psutil.Process]) -> bool:
    """Whether the stop that goes on in another thread has come as far as to wait; nobody has gone by then."""
    return server._holding.stopping and living(tree) == tree


# ---- the tree -------------------------------------------------------------------------------------------------


@KINDS
def test_the_whole_tree_is_gone_and_nobody_was_asked(make: Callable[..., Manager], up: Path, tmp_path: Path) -> None:
    """On return; the outcome names the killed, and the worker's status is SIGKILL's."""
    server = make(NOTING, up, tmp_path / "asked")
    content(up)
    tree = still_there(info.pid for info in server.processes())
    outcome = server.kill()
    assert living(tree) == []
    assert tree[0].pid in {ended.pid for ended in outcome.killed}
    assert (outcome.polite, outcome.survivors, outcome.status, outcome.finished) == ((), (), -9, True)
    assert server.process is None
    assert not (tmp_path / "asked").exists()


@KINDS
def test_a_stop_would_have_asked(make: Callable[..., Manager], up: Path, tmp_path: Path) -> None:
    """The negative control: the same tree, which notes that it was asked, and lives on until it is killed."""
    server = make(NOTING, up, tmp_path / "asked")
    content(up)
    server.stop(wait=False)
    until(lambda: asked(server, tmp_path), "the question")
    outcome = server.kill()
    assert outcome.finished
    assert outcome.status == -9


def asked(server: Manager, folder: Path) -> bool:
    """Whether the worker has noted it. (An adopted tree takes a step only when somebody waits for it.)"""
    tree = server._holding.tree
    assert tree is not None
    tree.wait_gone(0.0)
    return (folder / "asked").exists()


def test_a_daemon_of_the_tree_is_gone_too(up: Path) -> None:
    """Where a guardian holds the tree: one that has forked twice, and changed its session."""
    server = guarded('(setsid sh -c "echo up >$1; exec sleep 60" &) ; exec sleep 60', up)
    content(up)
    tree = still_there(info.pid for info in until(lambda: len(server.processes()) == 2 and server.processes()))
    assert len(server.kill().killed) == 2
    assert living(tree) == []


def test_nothing_running_is_nothing_to_kill(up: Path) -> None:
    """Neither before the start, nor again; and it can be started afterwards."""
    server = Server(sh(FAMILY, up))
    assert server.kill() == StopOutcome()
    for _ in range(2):
        server.start()
        assert server.kill().status == -9
        assert server.kill() == StopOutcome()


def test_what_it_had_said_is_there_still(up: Path) -> None:
    """As after a stop."""
    server = Server(sh('echo last words; echo up >"$1"; exec sleep 60', up))
    server.start()
    content(up)
    server.kill()
    assert server.output_tail() == ["last words"]


# ---- while another thread is at it ----------------------------------------------------------------------------


@KINDS
def test_the_rest_of_a_grace_period_is_cut_off(
    make: Callable[..., Manager], up: Path, pool: ThreadPoolExecutor
) -> None:
    """A stop in another thread returns when all are gone, and its outcome names those who were killed."""
    server = make(DEAF, up)
    tree = tree_of(server, up)
    stopping = pool.submit(server.stop)
    until(lambda: is_asked(server, tree), "the stop")
    time.sleep(0.2)
    assert not stopping.done()  # the negative control: a stop alone would wait for LONG seconds
    outcome = timely(server.kill)
    assert living(tree) == []
    assert [ended.pid for ended in outcome.killed] == [tree[0].pid]
    assert early(stopping).killed == outcome.killed


def timely(act: Callable[[], StopOutcome]) -> StopOutcome:
    """Its result, found to have come long before any grace period is over."""
    began = time.monotonic()
    outcome = act()
    assert time.monotonic() - began < EARLY
    return outcome


def early(future: Future[Any]) -> Any:
    """What the other thread has brought, which must not be as late as the end of a grace period."""
    return future.result(EARLY)


@KINDS
def test_whoever_waits_for_the_end_hears_of_it(
    make: Callable[..., Manager], up: Path, pool: ThreadPoolExecutor
) -> None:
    """`wait` in another thread returns with the status."""
    server = make(DEAF, up)
    tree = tree_of(server, up)
    waiting = pool.submit(server.wait)
    time.sleep(0.1)
    assert not waiting.done()
    timely(server.kill)
    assert early(waiting).status == -9
    assert living(tree) == []


def test_whoever_waits_for_it_to_be_ready_is_told(up: Path, pool: ThreadPoolExecutor) -> None:
    """`start` in another thread fails at once, as when the server had ended."""
    server = Server(sh(DEAF, up), ask=lambda: False, grace_period=LONG)
    starting = pool.submit(server.start, timeout=LONG)
    until(lambda: server.process, "the end of its launch")
    tree = tree_of(server, up)
    timely(server.kill)
    with pytest.raises(WorkerError) as caught:
        early(starting)
    assert isinstance(caught.value, WorkerExitedError)
    assert living(tree) == []


def test_several_threads_kill_at_once(up: Path, pool: ThreadPoolExecutor) -> None:
    """Each returns when nobody is left, and none fails."""
    server = Server(sh(FAMILY, up))
    tree = server.started(up)
    barrier = threading.Barrier(4)

    def kill() -> list[psutil.Process]:
        barrier.wait(PATIENCE)
        server.kill()
        return living(tree)

    assert [early(future) for future in [pool.submit(kill) for _ in range(4)]] == [[]] * 4


# ---- several servers ------------------------------------------------------------------------------------------


def test_a_stack_is_killed_as_one(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """Also while it is being stopped, one after the other: none of them is waited for."""
    servers = [
        CommandManager(sh(DEAF, tmp_path / name), name=name, grace_period=LONG, ready=(tmp_path / name).exists)
        for name in ("db", "app")
    ]
    stack = Stack(*servers, needs={"app": "db"})
    stack.start()
    tree = [psutil.Process(server.process.pid) for server in servers]
    stopping = pool.submit(stack.stop)
    until(lambda: servers[1]._holding.stopping, "the stop of the app")
    assert living(tree) == tree  # the control: they do not hear the polite signal
    outcome = timely(stack.kill)
    early(stopping)
    assert living(tree) == []
    assert {ended.pid for ended in outcome.killed} == {process.pid for process in tree}


def test_a_stack_is_killed_while_it_starts(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """The start fails, and nobody is left, also of those that were not there yet when the kill began."""
    first = CommandManager(
        sh(DEAF, tmp_path / "first"), name="first", grace_period=LONG, ready=(tmp_path / "first").exists
    )
    second = CommandManager(sh(DEAF, tmp_path / "second"), name="second", grace_period=LONG, ready=lambda: False)
    stack = Stack(first, second, needs={second: first})
    starting = pool.submit(stack.start, timeout=LONG)
    content(tmp_path / "second")
    until(lambda: second.process, "the end of its launch")
    tree = [psutil.Process(server.process.pid) for server in (first, second)]
    timely(stack.kill)
    with pytest.raises(WorkerError):
        early(starting)
    assert living(tree) == []
    assert Stack().kill().killed == ()


def test_a_manager_of_the_old_interface_is_stopped() -> None:
    """What was written before there was a `kill` is asked to stop."""

    class Old(ManagerInterface):
        stopped = 0

        def stop(self, wait: bool = True) -> StopOutcome:
            self.stopped += 1
            return StopOutcome()

    old, server = Old(), CommandManager(SLEEP)
    server.start()
    tree = [psutil.Process(server.process.pid)]
    Stack(old, server).kill()
    assert old.stopped == 1
    assert living(tree) == []
