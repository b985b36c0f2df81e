"""A subclass written to the documentation of 2010: its `start` assigns a process of its own making.

A `subprocess.Popen` or a `multiprocessing.Process` that is assigned to `process` is adopted with its tree.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from stand_ins import DEAF, DEAF_CHILD, FAMILY, PATIENCE, SLEEP, content, is_living, living, sh, tree_of, until

from servermgr.base import Manager, ReadyTimeoutError, StopOutcome, WorkerError, WorkerExitedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = 50.0
EARLY = 25.0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="about POSIX")


class PopenManager(Manager):
    """As the old documentation shows it: everything is the subclass's own, but the waiting and the ending."""

    def __init__(self, command: list[str], ready_file: Path, **options: Any) -> None:
        Manager.__init__(self, name="old style", command=command)
        self.ready_file = ready_file
        self.options = options
        self.asked = 0

    def start(self, wait: bool = True, timeout: float = 10.0) -> None:
        self.process = subprocess.Popen(self.kwargs["command"], **self.options)
        if wait:
            self.ready_wait(timeout=timeout)

    def health(self) -> None:
        self.asked += 1
        if not self.ready_file.exists():
            raise WorkerError(None, "no ready file")


class ForkManager(Manager):
    """The same around a function."""

    def __init__(self, method: str, ready_file: Path) -> None:
        super().__init__("function", ready_file=ready_file)
        self.context: Any = multiprocessing.get_context(method)

    def start(self, wait: bool = True, timeout: float = LONG) -> None:
        process = self.context.Process(target=serve, args=(str(self.kwargs["ready_file"]),))
        process.start()
        self.process = process
        if wait:
            self.ready_wait(timeout)

    def health(self) -> None:
        if not self.kwargs["ready_file"].exists():
            raise WorkerError(OSError("no file"), "not yet")


def serve(ready_file: str) -> None:
    """A worker with a child and a grandchild, for the other methods must find it by name."""
    subprocess.Popen(sh('sleep 60 & echo up >"$1"; wait', ready_file)).wait()


@pytest.fixture
def up(tmp_path: Path) -> Path:
    return tmp_path / "up"


@pytest.fixture
def popen(up: Path) -> Iterator[Callable[..., PopenManager]]:
    """`popen(script)` is such a manager; what a test leaves of it is ended with the test."""
    managers: list[PopenManager] = []
    kept: list[subprocess.Popen[bytes]] = []

    def make(script: str, *more: object, **options: Any) -> PopenManager:
        managers.append(PopenManager(sh(script, up, *more), up, **options))
        return managers[-1]

    yield make
    for manager in managers:
        manager.stop()
        kept += [manager.process] if manager.process is not None else []
    assert kept == []


# ---- as it was written ----------------------------------------------------------------------------------------


def test_an_old_subclass_works_unchanged(up: Path, popen: Callable[..., PopenManager]) -> None:
    """start, health until ready, process, stop: the tree is gone, and the Popen knows its status."""
    manager = popen("sleep 0.1; sleep 60 & sh -c 'sleep 60 & wait' & echo up >\"$1\"; wait")
    assert manager.process is None
    manager.start()
    assert manager.asked > 1
    process = manager.process
    assert isinstance(process, subprocess.Popen)
    until(lambda: len(tree_of(process.pid)) == 4, "the whole tree")
    tree = tree_of(process.pid)
    assert {info.pid for info in manager.processes()} == {member.pid for member in tree}
    outcome = manager.stop()
    assert living(tree) == []
    assert manager.process is None
    assert process.returncode == outcome.status == -signal.SIGTERM
    assert len(outcome.polite) == 4
    assert manager.stop() == StopOutcome()


@needs_fork
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_old_subclass_may_run_a_function(up: Path, method: str) -> None:
    """A multiprocessing.Process is as good, whichever way it was started; its grandchildren go with it."""
    manager = ForkManager(method, up)
    manager.start()
    process = manager.process
    assert isinstance(process, multiprocessing.process.BaseProcess)
    tree = tree_of(process.pid)
    assert len(tree) == 3
    outcome = manager.stop()
    assert living(tree) == []
    assert manager.process is None
    assert process.exitcode == outcome.status == -signal.SIGTERM
    process.join()
    process.close()


@needs_fork
def test_waiting_for_a_function(up: Path) -> None:
    """`wait` returns when the function has; its status is the outcome's."""
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(6,))
    process.start()
    manager = Manager("function")
    manager.process = process
    assert manager.wait().status == 6
    process.join()
    process.close()


def test_an_old_subclass_works_in_with(up: Path, popen: Callable[..., PopenManager]) -> None:
    """Also again and again."""
    manager = popen(FAMILY)
    seen = []
    for _ in range(3):
        with manager:
            seen += tree_of(manager.process.pid)
        up.unlink()
    assert living(seen) == []
    assert len({process.pid for process in seen}) == 6


def test_whoever_else_holds_the_popen_gets_its_status(up: Path, popen: Callable[..., PopenManager]) -> None:
    """The object stays the caller's: a thread that waits for it, and one that asks later, read the same status."""
    manager = popen(FAMILY)
    manager.start()
    process = manager.process
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.wait)
        manager.stop()
        assert waiting.result(PATIENCE) == 3
    assert (process.poll(), process.returncode, process.wait()) == (3, 3, 3)


def test_a_pipe_of_the_popen_stays_readable(popen: Callable[..., PopenManager]) -> None:
    """What the worker said before it was stopped can be read afterwards."""
    manager = popen('echo "last words"; echo up >"$1"; exec sleep 60', stdout=subprocess.PIPE)
    manager.start()
    process = manager.process
    manager.stop()
    with process.stdout:
        assert process.stdout.read() == b"last words\n"


# ---- what is promised of it as of any other -------------------------------------------------------------------


def test_a_time_out_leaves_nobody(up: Path, popen: Callable[..., PopenManager]) -> None:
    """When the time is over the tree is ended, a child that does not hear SIGTERM included."""
    manager = popen(DEAF_CHILD, up.with_name("other"))
    manager.kwargs["command"][-2] = str(up.with_name("other"))
    manager.grace_period = 0.2
    manager.start(wait=False)
    content(up.with_name("other"))
    tree = tree_of(manager.process.pid)
    with pytest.raises(ReadyTimeoutError, match=r"(?s)old style: not ready within 0.1 s.*no ready file"):
        manager.ready_wait(0.1)
    assert living(tree) == []
    assert manager.process is None


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -KILL $$", -9)])
def test_a_worker_that_dies_ends_the_wait_at_once(popen: Callable[..., PopenManager], script: str, status: int) -> None:
    """Long before the time-out, with its status."""
    manager = popen(f"sleep 0.1; {script}")
    began = time.monotonic()
    with pytest.raises(WorkerExitedError) as caught:
        manager.start(timeout=LONG)
    assert time.monotonic() - began < EARLY
    assert caught.value.status == status
    assert manager.process is None


def test_a_process_that_has_ended_already_can_be_adopted() -> None:
    """Its status is the outcome."""
    manager = Manager("late")
    process = subprocess.Popen(["/bin/sh", "-c", "exit 4"])
    assert process.wait() == 4
    manager.process = process
    assert manager.process is process
    assert manager.wait().status == 4
    assert manager.process is None


def test_wait_ends_what_the_worker_left(up: Path, popen: Callable[..., PopenManager]) -> None:
    """`wait` returns when the worker has ended by itself, and ends the child that it left behind."""
    manager = popen('sleep 60 & echo $! >"$1"; sleep 0.3; exit 5')
    manager.start()
    child = psutil.Process(int(content(up)))
    manager.processes()  # the child is seen while its parent lives, which is all there is to know it by
    outcome = manager.wait()
    assert outcome.status == 5
    assert not is_living(child)


def test_who_stays_is_killed(up: Path, popen: Callable[..., PopenManager]) -> None:
    """When the grace period of the manager is over."""
    manager = popen(DEAF)
    manager.grace_period = 0.2
    manager.start()
    content(up)
    worker = psutil.Process(manager.process.pid)
    outcome = manager.stop()
    assert [ended.pid for ended in outcome.killed] == [worker.pid]
    assert outcome.seconds >= 0.2
    assert outcome.status == -signal.SIGKILL


def test_a_grace_period_of_0_asks_nobody(up: Path, tmp_path: Path, popen: Callable[..., PopenManager]) -> None:
    """It kills at once."""
    manager = popen('trap "echo >$2" TERM; echo up >"$1"; while :; do sleep 0.01; done', tmp_path / "asked")
    manager.grace_period = 0.0
    manager.start()
    content(up)
    assert manager.stop().status == -signal.SIGKILL
    assert not (tmp_path / "asked").exists()


def test_the_polite_signal_can_be_chosen(up: Path, popen: Callable[..., PopenManager]) -> None:
    """`stop_signal` of the class or the object."""
    manager = popen('sleep 60 & trap "exit 5" INT; echo up >"$1"; wait')
    manager.stop_signal = signal.SIGINT
    manager.start()
    content(up)
    assert manager.stop().status == 5


@needs_fork
def test_a_stopped_worker_still_goes_politely(up: Path, tmp_path: Path, popen: Callable[..., PopenManager]) -> None:
    """It is woken to hear what is asked."""
    manager = popen('trap "echo bye >$2; exit 0" TERM; echo up >"$1"; while :; do sleep 0.01; done', tmp_path / "bye")
    manager.grace_period = LONG
    manager.start()
    content(up)
    worker = psutil.Process(manager.process.pid)
    worker.suspend()
    until(lambda: worker.status() == psutil.STATUS_STOPPED, "the stop")
    began = time.monotonic()
    assert manager.stop().killed == ()
    assert time.monotonic() - began < EARLY
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_a_stop_need_not_be_waited_for(up: Path, popen: Callable[..., PopenManager]) -> None:
    """stop(wait=False) returns after the first signal; `wait` does the rest."""
    manager = popen('sleep 60 & trap "sleep 0.3; exit 3" TERM; echo up >"$1"; wait')
    manager.start()
    content(up)
    tree = tree_of(manager.process.pid)
    assert manager.stop(wait=False) == StopOutcome(finished=False)
    assert manager.process is None
    outcome = manager.wait()
    assert (outcome.finished, outcome.status) == (True, 3)
    assert living(tree) == []


def test_several_threads_stop_at_once(up: Path, popen: Callable[..., PopenManager]) -> None:
    """Each returns only when nobody is left, and none fails."""
    manager = popen('sleep 60 & trap "sleep 0.2; exit 3" TERM; echo up >"$1"; wait')
    manager.start()
    content(up)
    process = manager.process
    tree = tree_of(process.pid)
    barrier = threading.Barrier(5)

    def stop() -> list[psutil.Process]:
        barrier.wait(PATIENCE)
        manager.stop()
        return living(tree)

    with ThreadPoolExecutor(5) as pool:
        assert [future.result() for future in [pool.submit(stop) for _ in range(5)]] == [[]] * 5
    assert process.returncode == 3


# ---- whom it must not touch, and whom it can find -------------------------------------------------------------


def test_a_neighbour_in_the_same_group_is_no_member(up: Path, popen: Callable[..., PopenManager]) -> None:
    """Worker, owner and other children of the owner share a process group; only the worker's tree is ended."""
    neighbour = subprocess.Popen(SLEEP)
    try:
        manager = popen(FAMILY)
        manager.start()
        assert os.getpgid(manager.process.pid) == os.getpgid(neighbour.pid) == os.getpgrp()
        manager.stop()
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are read from /proc")
@pytest.mark.parametrize("options", [{"start_new_session": True}, {"process_group": 0}])
def test_an_orphan_is_known_by_the_session_or_group(
    up: Path, popen: Callable[..., PopenManager], options: dict[str, Any]
) -> None:
    """A worker that leads a session or a group of its own: who forked away twice within it is found all the same."""
    if "process_group" in options and sys.version_info < (3, 11):
        pytest.skip("Popen(process_group=…) came with Python 3.11")
    manager = popen('(sleep 60 & echo $! >"$1.pid") & wait; echo up >"$1"; sleep 60 & wait', **options)
    manager.start()
    orphan = psutil.Process(int(content(up.with_name("up.pid"))))
    assert orphan.pid not in {process.pid for process in tree_of(manager.process.pid)}
    manager.stop()
    assert not is_living(orphan)


def test_who_was_seen_is_not_forgotten(up: Path, popen: Callable[..., PopenManager]) -> None:
    """A child that was listed while its parent lived is ended also when the parent is gone by then."""
    manager = popen('sh -c \'sleep 60 & echo $! >"$1"; while [ ! -e "$1.go" ]; do sleep 0.01; done\' sh "$1"; sleep 60')
    manager.start()
    child = psutil.Process(int(content(up)))
    parent = child.ppid()
    assert child.pid in {info.pid for info in manager.processes()}
    up.with_name("up.go").touch()
    until(lambda: child.ppid() != parent, "the end of its parent")
    assert child.pid not in {process.pid for process in tree_of(manager.process.pid)}
    manager.stop()
    assert not is_living(child)


# ---- the process attribute ------------------------------------------------------------------------------------


def test_assigning_none_lets_go(up: Path) -> None:
    """Nothing is ended: the process is its holder's again."""
    process = subprocess.Popen(SLEEP)
    try:
        manager = Manager("let go")
        manager.process = process
        manager.process = None
        assert manager.process is None
        assert manager.stop() == StopOutcome()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_second_process_is_refused() -> None:
    """While one runs, another cannot take its place unseen; both live on."""
    first, second = subprocess.Popen(SLEEP), subprocess.Popen(SLEEP)
    try:
        manager = Manager("one")
        manager.process = first
        with pytest.raises(WorkerError, match=r"one: .*running already"):
            manager.process = second
        assert manager.process is first
        assert manager.stop().status == -signal.SIGTERM
        assert second.poll() is None
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_a_process_that_has_ended_can_be_replaced() -> None:
    """As old subclasses do that start again after their worker has died."""
    manager = Manager("again")
    manager.process = subprocess.Popen(["/bin/sh", "-c", "exit 1"])
    assert manager.process.wait() == 1
    with subprocess.Popen(SLEEP) as second:
        try:
            manager.process = second
            assert manager.stop().status == -signal.SIGTERM
        finally:
            second.kill()


@pytest.mark.parametrize("given", [4711, "sleep", object(), psutil.Process(), ["sleep"]])
def test_only_a_process_object_is_adopted(given: Any) -> None:
    """A pid proves nothing; the error says what is wanted."""
    manager = Manager("odd")
    with pytest.raises(WorkerError, match=r"odd: .*subprocess\.Popen or a multiprocessing\.Process"):
        manager.process = given
    assert manager.process is None


def test_a_process_that_was_not_started_is_refused() -> None:
    """multiprocessing.Process(…) without start()."""
    manager = Manager("early")
    with pytest.raises(WorkerError, match=r"early: .*call its start\(\)"):
        manager.process = multiprocessing.get_context("spawn").Process(target=print)
    assert manager.process is None


@needs_fork
def test_a_manager_that_adopts_knows_nothing_of_it_in_a_fork(up: Path, popen: Callable[..., PopenManager]) -> None:
    """There `stop` does nothing, and the parent can still stop it."""
    manager = popen(FAMILY)
    manager.start()
    content(up)
    tree = tree_of(manager.process.pid)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if manager.process is None and manager.stop() == StopOutcome() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert living(tree) == tree
    assert len(manager.stop().polite) == 2
