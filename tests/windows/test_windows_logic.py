"""What a tree in a job does, on a Windows in memory: the cases that no real system can be made to show at will.

They run everywhere. That the calls do on Windows what they do here, the other tests of this folder say.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, cast

import pytest
from fake_kernel import FakeKernel, Process

from servermgr import _job_launch, platform
from servermgr.errors import LaunchError
from servermgr.job import JobTree
from servermgr.output import Output
from servermgr.platform import job_object
from servermgr.platform._kernel32 import Kernel32
from servermgr.tree import LaunchSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servermgr.platform.job_object import Job

#: Far beyond what a test of this file waits for: no pid of this system.
FIRST_PID = 5_000_000
PATIENCE = 10.0


class World:
    """A kernel, and a tree in it: the worker, and others that it has started."""

    def __init__(self, kernel: FakeKernel, *others: Process, worker: Process | None = None, **options: object) -> None:
        self.kernel = kernel
        self.worker = kernel.add(worker or Process(FIRST_PID))
        self.worker.group = self.worker.pid
        self.others = [kernel.add(other) for other in others]
        spec = LaunchSpec(["server"], output=Output(subprocess.DEVNULL), **options)  # type: ignore[arg-type]
        self.tree = JobTree(spec, name="fake", kernel=cast("Kernel32", kernel), start=self._start)
        worlds.append(self)

    def _start(self, spec: LaunchSpec, job: Job) -> tuple[int, int]:
        def create() -> int:
            self.worker.suspended = True
            return self.worker.pid

        started = job_object.start_in(job, create)
        for other in self.others:
            self.kernel.assign(job.handle, self.kernel.open_process(other.pid, 0))
        return started

    def stop(self, grace: float = 5.0) -> tuple[list[int], list[int], list[int]]:
        """Who went, who was killed, who lives."""
        self.tree.ask_stop(15, grace)
        outcome = self.tree.wait_gone(PATIENCE)
        assert outcome is not None
        polite, killed, survivors = ([entry[0] for entry in entries] for entries in outcome[:3])
        return polite, killed, survivors

    def end(self) -> None:
        """Whatever came of the test, its tree ends with it."""
        for process in self.kernel.processes.values():
            self.kernel.end(process, 0)
        self.tree.ask_stop(15, 0.0)
        assert self.tree.wait_gone(PATIENCE) is not None


worlds: list[World] = []


@pytest.fixture(autouse=True)
def _no_threads() -> Iterator[None]:
    """No tree outlives its test, nor does its thread."""
    yield
    while worlds:
        worlds.pop().end()
    join_threads()


def join_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("servermgr-job-"):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def child(number: int = 1, **options: object) -> Process:
    return Process(FIRST_PID + number, name=f"child{number}.exe", **options)  # type: ignore[arg-type]


# ---- stop ---------------------------------------------------------------------------------------------------------


def test_the_group_is_asked_once_and_who_goes_is_not_killed() -> None:
    world = World(
        FakeKernel(), child(heeds_break=0, group=FIRST_PID), worker=Process(FIRST_PID, heeds_break=3, group=FIRST_PID)
    )
    assert world.stop() == ([FIRST_PID], [], [])
    assert world.kernel.breaks == [FIRST_PID]
    assert world.tree.status == 3


def test_whoever_does_not_hear_is_killed_when_the_grace_period_is_over() -> None:
    """A child in a group of its own gets no CTRL_BREAK: it is killed, and the worker is not."""
    world = World(FakeKernel(), child(group=FIRST_PID + 1), worker=Process(FIRST_PID, heeds_break=0))
    assert world.stop(grace=0.4) == ([FIRST_PID], [FIRST_PID + 1], [])


def test_a_worker_that_ignores_it_is_killed() -> None:
    world = World(FakeKernel(), child())
    before = time.monotonic()
    assert world.stop(grace=0.3) == ([], [FIRST_PID, FIRST_PID + 1], [])
    assert round(time.monotonic() - before, 3) >= 0.3  # a clock of whole milliseconds, and fractions that are binary
    assert world.tree.status == job_object.KILLED


def test_without_a_console_nobody_is_waited_for() -> None:
    """The result of the call is looked at: who was not asked is killed at once, and not called polite."""
    world = World(FakeKernel(console=False), child(), worker=Process(FIRST_PID, heeds_break=0))
    assert world.stop(grace=3600.0) == ([], [FIRST_PID, FIRST_PID + 1], [])
    assert world.kernel.breaks == []


def test_a_grace_period_of_none_kills_at_once() -> None:
    world = World(FakeKernel(), worker=Process(FIRST_PID, heeds_break=0))
    assert world.stop(grace=0.0) == ([], [FIRST_PID], [])
    assert world.kernel.breaks == []


def test_a_second_stop_shortens_the_first() -> None:
    world = World(FakeKernel())
    world.tree.ask_stop(15, 3600.0)
    assert world.tree.wait_gone(0.2) is None
    assert world.stop(grace=0.0) == ([], [FIRST_PID], [])


def test_what_cannot_be_killed_is_named_and_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that a driver holds lives on: a named survivor, and the next stop ends it once it can be."""
    monkeypatch.setattr("servermgr.stopping.KILL_PATIENCE", 0.2)
    stuck = child(immortal=True)
    world = World(FakeKernel(), stuck)
    assert world.stop(grace=0.0) == ([], [FIRST_PID], [stuck.pid])
    stuck.immortal = False
    assert world.stop(grace=0.0) == ([], [stuck.pid], [])


def test_one_that_is_protected_does_not_save_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one stroke is refused for its sake: the others are killed one by one."""
    monkeypatch.setattr("servermgr.stopping.KILL_PATIENCE", 0.2)
    other = child(1, protected=True)
    world = World(FakeKernel(), other, child(2))
    assert world.stop(grace=0.0) == ([], [FIRST_PID, FIRST_PID + 2], [other.pid])
    other.protected = False
    world.stop(grace=0.0)


# ---- the end, noticed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tells", [True, False])
def test_a_tree_that_ends_by_itself_is_noticed(tells: bool) -> None:
    """Also without the job's message, which Windows does not guarantee."""
    world = World(FakeKernel(tells=tells), child())
    world.kernel.end(world.worker, 5)
    assert world.tree.wait_worker(PATIENCE)
    assert world.tree.wait_gone(0.0) is None, "the child lives"
    world.kernel.end(world.others[0], 0)
    outcome = world.tree.wait_gone(PATIENCE)
    assert outcome is not None
    assert (outcome.status, outcome.polite, outcome.killed) == (5, (), ())


def test_the_end_of_the_worker_is_an_event() -> None:
    """Who waits for the worker is told when it ends, and not at the next look."""
    world = World(FakeKernel(), child())
    timer = threading.Timer(0.2, world.kernel.end, (world.worker, 9))
    timer.start()
    assert not world.tree.wait_worker(0.0)
    assert world.tree.wait_worker(None)
    timer.join()
    assert world.tree.status == 9
    world.stop(grace=0.0)


def test_no_handle_stays_open(tmp_path: Path) -> None:
    """After the end of a tree each handle is closed again, those of other processes that were looked at included."""
    kernel = FakeKernel()
    World(kernel).stop(grace=0.0)
    join_threads()
    assert kernel.open_handles() == 0


def test_files_go_with_the_tree(tmp_path: Path) -> None:
    lease = tmp_path / "lease"
    lease.touch()
    (tmp_path / "empty").mkdir()
    world = World(FakeKernel(), removes=[lease, tmp_path / "empty", tmp_path / "gone"])
    assert lease.exists()
    world.stop(grace=0.0)
    assert not os.listdir(tmp_path)


# ---- the beginning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["assign", "resume"])
def test_what_fails_between_creation_and_resumption_ends_the_process(failing: str) -> None:
    kernel = FakeKernel(assigns=failing != "assign")
    if failing == "resume":

        def resume(pid: int) -> None:
            raise OSError("ResumeThread")

        kernel.resume = resume  # type: ignore[method-assign]
    worker = Process(FIRST_PID)
    with pytest.raises(OSError, match=r"Assign|Resume"):
        World(kernel, worker=worker)
    assert worker.status == job_object.KILLED
    assert kernel.open_handles() == 0


def test_a_process_is_in_the_job_before_it_runs() -> None:
    kernel = FakeKernel()
    job = job_object.Job.make(cast("Kernel32", kernel), "", ends_with_owner=True)
    kernel.add(Process(FIRST_PID, suspended=True))
    seen: list[tuple[bool, list[int]]] = []
    resume = kernel.resume

    def watched(pid: int) -> None:
        seen.append((kernel.processes[pid].suspended, job.pids()))
        resume(pid)

    kernel.resume = watched  # type: ignore[method-assign]
    job_object.start_in(job, lambda: FIRST_PID)
    assert seen == [(True, [FIRST_PID])]
    assert not kernel.processes[FIRST_PID].suspended


@pytest.mark.parametrize("ends_with_owner", [True, False])
def test_who_is_in_a_job_ends_with_its_last_handle_or_lives_on(ends_with_owner: bool) -> None:
    """The system closes the handles of an owner that ends, however it does."""
    kernel = FakeKernel()
    job = job_object.Job.make(cast("Kernel32", kernel), "", ends_with_owner=ends_with_owner)
    worker = kernel.add(Process(FIRST_PID))
    job_object.start_in(job, lambda: FIRST_PID)
    job.close()
    assert (worker.status is None) != ends_with_owner


@pytest.mark.parametrize("keep", [True, False])
def test_a_kept_tree_holds_its_job_itself_and_no_other_does(keep: bool) -> None:
    world = World(FakeKernel(), keep=keep)
    assert world.kernel.lent == ([FIRST_PID] if keep else [])
    assert world.kernel.job_names == [job_object.job_name(world.tree.spec.marker)]
    assert bool(world.kernel.job_flags()[0]) != keep


def test_signals_mean_what_they_mean_to_subprocess() -> None:
    """SIGTERM and SIGKILL end the worker; CTRL_BREAK asks it, and says so where it cannot be sent."""
    world = World(FakeKernel(console=False), child())
    with pytest.raises(platform.Unheard):
        world.tree.send_signal(1)
    assert world.tree.status is None
    world.tree.send_signal(15)
    assert world.tree.status == job_object.KILLED
    world.tree.send_signal(15)  # it has ended: nothing
    world.stop(grace=0.0)


# ---- programs -----------------------------------------------------------------------------------------------------


def spec_of(*argv: str, **options: object) -> LaunchSpec:
    output = Output(subprocess.DEVNULL)
    output.close()  # it is not started here
    return LaunchSpec(argv, output=output, **options)  # type: ignore[arg-type]


def test_a_program_is_found_by_the_path_of_its_own_environment(tmp_path: Path) -> None:
    """By name with each ending of PATHEXT; never in the directory that the caller happens to be in."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool.EXE").touch()
    (tmp_path / "here.EXE").touch()
    env = {"Path": str(tmp_path / "bin"), "PATHEXT": os.pathsep.join([".COM", ".EXE"])}
    assert _job_launch.find_program(spec_of("tool", cwd=tmp_path, env=env)) == str(tmp_path / "bin" / "tool.EXE")
    with pytest.raises(LaunchError, match="is it installed"):
        _job_launch.find_program(spec_of("here", cwd=tmp_path, env=env))


@pytest.mark.parametrize("word", ["a&b", 'a"b', "%PATH%", "a|b", "a\nb", "a^b"])
def test_a_script_gets_no_word_that_cmd_would_obey(word: str, tmp_path: Path) -> None:
    (tmp_path / "tool.cmd").touch()
    env = {"PATH": str(tmp_path), "PATHEXT": ".cmd"}
    with pytest.raises(LaunchError, match="script"):
        _job_launch.find_program(spec_of("tool", word, cwd=tmp_path, env=env))
    assert _job_launch.find_program(spec_of("tool", cwd=tmp_path, env=env)) == str(tmp_path / "tool.cmd")


@pytest.mark.parametrize("option", ["pidfile", "sockets"])
def test_what_windows_does_not_have_is_refused(option: str) -> None:
    value: Callable[[], object] = {"pidfile": lambda: "x.pid", "sockets": lambda: [object()]}[option]
    with pytest.raises(LaunchError, match="Windows"):
        _job_launch.refuse(spec_of("server", **{option: value()}))
