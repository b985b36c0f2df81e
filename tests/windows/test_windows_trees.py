"""Trees held by job objects, on real processes. Run by `scripts/test-wine`, and by anyone who has a Windows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "win32":
    pytest.skip("job objects are Windows'; scripts/test-wine runs these tests under Wine", allow_module_level=True)

from windows_programs import (
    FAMILY,
    PATIENCE,
    SLEEP,
    all_gone,
    asks_by_break,
    bystander,
    end,
    eventually,
    family_of,
    python,
)

import servermgr
from servermgr import platform, sweeping
from servermgr.base import Manager
from servermgr.errors import LaunchError
from servermgr.identity import Identity
from servermgr.platform import job_object
from servermgr.platform._kernel32 import CREATE_SUSPENDED, load

if TYPE_CHECKING:
    from pathlib import Path


def family(**options: object) -> servermgr.CommandManager:
    program = FAMILY + "time.sleep(120)"
    return servermgr.CommandManager(python(program), ready="log:family", name="family", **options)  # type: ignore[arg-type]


# ---- the tree ---------------------------------------------------------------------------------------------------


def test_stop_ends_children_and_orphans_and_nobody_else() -> None:
    """Worker, child, and an orphan without environment and console are gone; who is not of the tree lives on."""
    other = bystander()
    try:
        server = family()
        server.start()
        members = family_of(server.output_tail())
        listed = {process.pid for process in server.processes()}
        assert {identity.pid for identity in members} < listed
        assert len(listed) == 3
        outcome = server.stop()
        assert not any(identity.is_alive() for identity in members)
        assert {pid for pid, _ in (*outcome.polite, *outcome.killed)} == listed
        assert outcome.status is not None
        assert not outcome.survivors
        assert other.poll() is None
    finally:
        end(other)


def test_nothing_of_a_run_stays_in_files() -> None:
    """Record and log are there while the server runs, and go with it; the last lines can be read all the same."""
    server = servermgr.CommandManager(python(f"print('hello', flush=True); {SLEEP}"), ready="log:hello")
    server.start()
    log = server.log_path
    assert log is not None
    assert os.path.exists(log)
    assert [record.worker for record in sweeping.recorded()] == [Identity.of(server.process.pid)]
    server.stop()
    assert not os.path.exists(log)
    assert sweeping.recorded() == []
    assert server.output_tail() == ["hello"]


def test_a_worker_that_ends_leaves_nobody() -> None:
    """`wait()` gives its status, and ends who is left of the tree."""
    server = servermgr.CommandManager(python(FAMILY + "time.sleep(2); sys.exit(7)"), ready="log:family")
    server.start()
    members = family_of(server.output_tail())
    assert server.wait().status == 7
    assert not any(identity.is_alive() for identity in members)


def test_the_end_of_a_tree_is_noticed_while_nobody_waits() -> None:
    """A server that ends by itself, and leaves nobody, takes its record and log along."""
    server = servermgr.CommandManager(python("pass"))
    server.start()
    log = server.log_path
    assert eventually(lambda: not sweeping.recorded() and not os.path.exists(log or ""))
    assert server.stop().status == 0


def test_a_stopped_manager_can_be_started_again_and_stopped_from_many_threads() -> None:
    server = servermgr.CommandManager(python(SLEEP))
    for _ in range(2):
        server.start()
        worker = Identity.of(server.process.pid)
        threads = [threading.Thread(target=server.stop) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        assert worker is not None
        assert not worker.is_alive()


def test_a_stop_that_is_not_waited_for_goes_on() -> None:
    server = servermgr.CommandManager(python(SLEEP), grace_period=1.0)
    server.start()
    worker = Identity.of(server.process.pid)
    assert worker is not None
    assert not server.stop(wait=False).finished
    assert all_gone([worker])
    assert server.stop().finished


def test_no_process_may_leave_the_job() -> None:
    """Who asks for CREATE_BREAKAWAY_FROM_JOB is refused; the control creates its child without it."""
    ask = f"""
import subprocess, sys, time
for flag in (0x01000000, 0):
    try:
        child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], creationflags=flag)
        print("created", hex(flag), flush=True)
    except OSError as error:
        print("refused", hex(flag), flush=True)
print("done", flush=True)
time.sleep(120)
"""
    server = servermgr.CommandManager(python(ask), ready="log:done")
    with server:
        listed = server.processes()
        said = server.output_tail()
    assert "created 0x0" in said
    assert len(listed) == 2, f"a child left the job: {said}"


def test_a_tree_within_a_tree_is_a_job_within_a_job() -> None:
    """A server that manages servers itself ends with them all; its own stop ends its own alone."""
    inner = f"""
import sys, time, servermgr
first, second = [servermgr.CommandManager([sys.executable, "-c", {SLEEP!r}], name=f"inner-{{i}}") for i in (1, 2)]
first.start(); second.start()
kept = second.process.pid
first.stop()
print("family", kept, flush=True)
time.sleep(120)
"""
    server = servermgr.CommandManager(python(inner), ready="log:family", name="outer")
    server.start()
    members = family_of(server.output_tail())
    assert members[0].is_alive()
    server.stop()
    assert all_gone(members)
    sweeping.sweep()  # the inner owner was killed: its record is all that it left


def test_a_worker_is_asked_or_where_that_cannot_be_killed_at_once() -> None:
    """CTRL_BREAK reaches a worker that shares a console with us. Where it cannot be sent, nobody waits for nothing."""
    program = """
import signal, sys, time
signal.signal(signal.SIGBREAK, lambda *_: sys.exit(3))
print("ready", flush=True)
for _ in range(1200):
    time.sleep(0.1)
"""
    can_ask = asks_by_break()
    server = servermgr.CommandManager(python(program), ready="log:ready", grace_period=60.0)
    server.start()
    before = time.monotonic()
    outcome = server.stop()
    assert time.monotonic() - before < 30.0
    assert (len(outcome.polite), len(outcome.killed)) == ((1, 0) if can_ask else (0, 1))
    assert outcome.status == (3 if can_ask else job_object.KILLED)


# ---- beginnings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "options", "text"),
    [
        (["no-such-program-of-ours"], {}, "is it installed"),
        ([sys.executable], {"cwd": "Z:\\no\\such\\folder"}, "cannot be entered"),
        ([sys.executable], {"pidfile": "x.pid"}, "without pidfile"),
    ],
)
def test_what_cannot_be_started_says_why_and_leaves_nothing(
    argv: list[str], options: dict[str, str], text: str
) -> None:
    with pytest.raises(LaunchError, match=text):
        servermgr.CommandManager(argv, **options).start()  # type: ignore[arg-type]


def test_sockets_are_refused() -> None:
    import socket

    with socket.socket() as given, pytest.raises(LaunchError, match="sockets cannot be handed"):
        Manager().spawn(python("pass"), sockets=[given])


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.exe"
    path.write_text("not a program")
    with pytest.raises(LaunchError, match="cannot start"):
        servermgr.CommandManager([str(path)]).start()


def test_a_script_is_found_and_gets_no_word_that_it_could_obey(tmp_path: Path) -> None:
    """PATHEXT of the command's own environment finds `tool.cmd`; a word with `&` in it is refused."""
    (tmp_path / "tool.cmd").write_text("@echo off\r\necho said %1\r\n")
    env = {**os.environ, "PATH": str(tmp_path)}
    server = servermgr.CommandManager(["tool", "plain"], env=env)
    server.start()
    assert server.wait().status == 0
    assert server.output_tail() == ["said plain"]
    with pytest.raises(LaunchError, match=r"script of cmd\.exe"):
        servermgr.CommandManager(["tool", "a&calc"], env=env).start()


def test_what_fails_before_the_assignment_ends_the_suspended_process() -> None:
    """Creation, assignment and resumption are one: no process is left that nobody holds."""
    job = job_object.Job.make(load(), "", ends_with_owner=True)
    created: list[subprocess.Popen[bytes]] = []

    def create() -> int:
        created.append(subprocess.Popen(python(SLEEP), stdin=subprocess.DEVNULL, creationflags=CREATE_SUSPENDED))
        load().close(job.handle)  # so the assignment fails
        return created[0].pid

    with pytest.raises(OSError, match="AssignProcessToJobObject"):
        job_object.start_in(job, create)
    assert created[0].wait(PATIENCE) == job_object.KILLED
    created.clear()


def test_nothing_runs_before_the_process_is_in_the_job() -> None:
    """Who starts a child in its first moment finds that child in the job."""
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    server = servermgr.CommandManager(python(program))
    server.start()
    assert eventually(lambda: len(server.processes()) == 1 and server.process.poll() == 0)
    server.stop()


def test_only_the_standard_handles_are_inherited() -> None:
    """A handle that is inheritable is not the command's; the control inherits it by plain means."""
    import _winapi
    import msvcrt

    program = (
        "import ctypes, sys; print('type', ctypes.WinDLL('kernel32').GetFileType(ctypes.c_void_p({})), flush=True)"
    )
    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)
        handle = msvcrt.get_osfhandle(write)
        plain = subprocess.run(python(program.format(handle)), close_fds=False, stdout=subprocess.PIPE, check=True)
        server = servermgr.CommandManager(python(program.format(handle)))
        server.start()
        server.wait()
        assert plain.stdout.split()[-1] == str(_winapi.FILE_TYPE_PIPE).encode()
        assert server.output_tail() != [f"type {_winapi.FILE_TYPE_PIPE}"]
    finally:
        os.close(read)
        os.close(write)


# ---- the owner's end --------------------------------------------------------------------------------------------

OWNER = """
import os, sys, time, servermgr
server = servermgr.CommandManager([sys.executable, "-c", {program!r}], ready="log:family", name="orphaned", keep={keep})
server.start()
print(server.output_tail()[-1], server.process.pid, flush=True)
{then}
"""


def owner(then: str, keep: bool = False) -> subprocess.Popen[str]:
    program = OWNER.format(program=FAMILY + "time.sleep(120)", keep=keep, then=then)
    return subprocess.Popen(python(program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def test_the_tree_of_a_killed_owner_is_gone_and_a_sweep_removes_what_it_wrote() -> None:
    with owner("time.sleep(120)") as program:
        assert program.stdout is not None
        members = family_of([program.stdout.readline()])
        assert len(members) == 3
        assert all(identity.is_alive() for identity in members)
        program.kill()
    assert all_gone(members)
    (swept,) = sweeping.sweep()
    assert (swept.verdict, swept.processes) == ("nothing left", ())
    assert sweeping.recorded() == []


def test_the_tree_of_an_owner_that_ends_without_a_stop_is_gone() -> None:
    with owner("") as program:
        assert program.stdout is not None
        members_said = program.stdout.readline()
        assert program.wait(PATIENCE) == 0
    assert sweeping.recorded() == []
    pids = [int(word) for word in members_said.split()[1:]]
    assert not [pid for pid in pids if platform.is_alive(pid)]


def test_a_kept_tree_outlives_a_killed_owner_and_is_ended_by_name() -> None:
    """The control of the tests above: it is the job that ends the tree, and a kept one has other manners."""
    with owner("time.sleep(120)", keep=True) as program:
        assert program.stdout is not None
        members = family_of([program.stdout.readline()])
        program.kill()
        program.wait()
    time.sleep(0.5)
    assert all(identity.is_alive() for identity in members)
    assert sweeping.sweep() == []
    (swept,) = servermgr.stop("orphaned")
    assert swept.verdict == "swept"
    assert {process.pid for process in swept.processes} == {identity.pid for identity in members}
    assert not any(identity.is_alive() for identity in members)


def test_the_server_of_a_living_owner_can_be_ended_by_name_and_the_owner_lives() -> None:
    """The record names the owner as holder of the tree, and he is nobody's to end."""
    with owner("print(server.wait().status, flush=True)") as program:
        assert program.stdout is not None
        members = family_of([program.stdout.readline()])
        (swept,) = servermgr.stop("orphaned")
        assert swept.verdict == "swept"
        assert not any(identity.is_alive() for identity in members)
        assert program.stdout.readline().strip() == "1"
        assert program.wait(PATIENCE) == 0


# ---- adopted ----------------------------------------------------------------------------------------------------


def test_an_adopted_popen_ends_with_whom_it_started_before_and_after() -> None:
    program = f"""
import subprocess, sys, time
before = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
print(before.pid, flush=True)
sys.stdin.readline()
middle = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}], creationflags=8).pid)"
after = subprocess.run([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True).stdout.strip()
print("family", before.pid, after, flush=True)
time.sleep(120)
"""
    manager = Manager("adopting")
    with subprocess.Popen(python(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        manager.process = process
        process.stdin.write("\n")
        process.stdin.flush()
        members = family_of([process.stdout.readline()])
        outcome = manager.stop()
        assert process.poll() == job_object.KILLED
    assert not any(identity.is_alive() for identity in members)
    assert len(outcome.killed) == 3
    assert outcome.polite == ()


def test_an_adopted_process_that_is_let_go_lives_on() -> None:
    manager = Manager("adopting")
    process = bystander()
    try:
        manager.process = process
        manager.process = None
        assert process.poll() is None
    finally:
        end(process)


def test_an_adopted_process_ends_with_a_killed_owner() -> None:
    program = f"""
import subprocess, sys, time
from servermgr.base import Manager
process = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
manager = Manager("adopting")
manager.process = process
print("family", process.pid, flush=True)
time.sleep(120)
"""
    with subprocess.Popen(python(program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        members = family_of([owner.stdout.readline()])
        owner.kill()
    assert all_gone(members)


def test_a_multiprocessing_process_is_adopted() -> None:
    """Spawned by the interpreter itself: its main module is what the owner runs."""
    program = """
import multiprocessing, time
def work():
    time.sleep(120)
if __name__ == "__main__":
    from servermgr.base import Manager
    process = multiprocessing.Process(target=work)
    process.start()
    manager = Manager("adopting")
    manager.process = process
    outcome = manager.stop()
    print(len(outcome.killed), process.exitcode)
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "program.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(program)
        command = [sys.executable, path]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.stdout.split() == ["1", "1"], done.stderr
