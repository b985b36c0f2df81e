"""Servers that put themselves into the background: the worker is whom the pidfile names, once that is proven."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import daemon_program
import psutil
import pytest

from servermgr.command import CommandManager
from servermgr.errors import ReadyTimeoutError, WorkerError, WorkerExitedError
from servermgr.guardian.worker import SUCCESSION_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servermgr.process import WorkerProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and so no daemons of this kind")
PROGRAM = Path(daemon_program.__file__)


class Daemon:
    """A managed stand-in, with its journal.

    Args:
        folder: Where pidfile and journal are.
        *more: Arguments of `daemon_program`.
        **options: Of `CommandManager`.
    """

    def __init__(self, folder: Path, *more: str, **options: object) -> None:
        self.pidfile = folder / "server.pid"
        self.journal = folder / "journal"
        words = [sys.executable, "-IS", PROGRAM, "--pidfile", self.pidfile, "--journal", self.journal, *more]
        options = {"grace_period": 5.0, "pidfile": self.pidfile} | options
        self.manager = CommandManager(words, name="stand-in", **options)  # type: ignore[arg-type]

    def start(self, timeout: float = 10.0) -> None:
        self.manager.start(timeout=timeout)

    @property
    def process(self) -> WorkerProcess:
        assert self.manager.process is not None
        return self.manager.process  # type: ignore[no-any-return]

    def events(self) -> list[tuple[int, str, str]]:
        """What its processes have noted so far: pid, role, event."""
        try:
            lines = self.journal.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(pid), role, event) for pid, role, event in (line.split(" ", 2) for line in lines)]

    def having(self, role: str, event: str) -> list[int]:
        return [pid for pid, its, noted in self.events() if (its, noted) == (role, event)]

    def daemon(self) -> int:
        """The pid of the daemon, from its own mouth."""
        assert eventually(lambda: bool(self.having("daemon", "ready")))
        return self.having("daemon", "ready")[-1]

    def helper(self) -> int:
        assert eventually(lambda: bool(self.having("helper", "ready")))
        return self.having("helper", "ready")[0]

    def launcher(self) -> int:
        assert eventually(lambda: any(role == "launcher" for _, role, _ in self.events()))
        return next(pid for pid, role, _ in self.events() if role == "launcher")


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def gone(pid: int) -> bool:
    """Whether nobody has that pid any more; a zombie has."""
    return not psutil.pid_exists(pid)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """`make(*arguments, **options)` is a stand-in that is not started; it is stopped with the test."""
    made: list[Daemon] = []

    def make(*more: str, **options: object) -> Daemon:
        made.append(Daemon(tmp_path, *more, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.manager.stop()


#: Ends on whatever signal it is sent, harmless ones such as SIGCONT included.
INNOCENT = """
import signal
everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, everything)
print("ready", flush=True)
signal.sigtimedwait(everything, 60)
"""


@pytest.fixture
def innocent() -> Iterator[int]:
    """The pid of a process that has nothing to do with any server. It fails the test if it was sent any signal."""
    with subprocess.Popen([sys.executable, "-IS", "-c", INNOCENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        unharmed = process.poll() is None
        process.kill()
    assert unharmed, "an innocent process was sent a signal"


# ---- who the worker is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writing", [name for name in daemon_program.WRITINGS if name != "never"])
def test_the_worker_is_the_daemon_however_its_pidfile_comes_to_be(writing: str, make: Callable[..., Daemon]) -> None:
    """In one step or in two, with a newline or without, by rename, and also if the launcher writes it.

    Where the pidfile names the launcher first, that is the worker for as long as it lives.
    """
    daemon = make("--writing", writing)
    daemon.start()
    assert eventually(lambda: daemon.process.poll() is None and daemon.process.pid == daemon.daemon())
    assert eventually(lambda: gone(daemon.launcher()))
    assert daemon.process.returncode is None
    assert os.getsid(daemon.process.pid or 0) != os.getsid(0)
    assert [info.pid for info in daemon.manager.processes()] == [daemon.process.pid]
    pid = daemon.daemon()
    assert daemon.manager.stop().status == 0
    assert gone(pid)
    assert daemon.manager.process is None
    assert not daemon.pidfile.exists()


def test_a_daemon_is_ready_when_it_has_written_its_pidfile(make: Callable[..., Daemon]) -> None:
    """Without a probe that is all there is to know; until then it has no pid."""
    daemon = make("--late", "0.5")
    daemon.manager.start(wait=False)
    assert eventually(lambda: gone(daemon.launcher()))
    assert daemon.process.poll() is None
    assert daemon.process.pid is None
    assert not daemon.having("daemon", "ready")
    daemon.manager.ready_wait()
    assert daemon.process.pid == daemon.daemon()


def test_the_probe_is_asked_when_the_worker_is_known(make: Callable[..., Daemon]) -> None:
    seen: list[int | None] = []

    def ask() -> bool:
        seen.append(daemon.process.pid)
        return len(seen) > 2

    daemon = make("--late", "0.3", ready=ask)
    daemon.start()
    assert seen == [daemon.daemon()] * 3


def test_a_pidfile_is_relative_to_the_directory_of_the_server(tmp_path: Path, make: Callable[..., Daemon]) -> None:
    daemon = make(pidfile="server.pid", cwd=tmp_path)
    daemon.start()
    assert daemon.process.pid == daemon.daemon()


def test_a_pidfile_that_is_a_link_is_followed(tmp_path: Path, make: Callable[..., Daemon]) -> None:
    daemon = make()
    daemon.pidfile.symlink_to(tmp_path / "elsewhere")
    daemon.start()
    assert (tmp_path / "elsewhere").read_text() == f"{daemon.daemon()}\n"
    assert daemon.process.pid == daemon.daemon()


def test_one_number_may_be_half_of_another(innocent: int, make: Callable[..., Daemon]) -> None:
    """What a slow disk shows of a pid may be the pid of somebody else, which must not count."""
    daemon = make("--late", "1")
    daemon.manager.start(wait=False)
    daemon.pidfile.write_text(f"{innocent}")
    time.sleep(0.3)
    assert daemon.process.poll() is None
    assert daemon.process.pid is None
    daemon.manager.ready_wait()
    assert daemon.process.pid == daemon.daemon()


# ---- what stood there before ----------------------------------------------------------------------------------


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


@pytest.mark.parametrize("writing", ["plain", "bare", "rename"])
def test_a_stale_pidfile_that_names_the_dead_is_passed_over(writing: str, make: Callable[..., Daemon]) -> None:
    daemon = make("--late", "0.3", "--writing", writing)
    daemon.pidfile.write_text(f"{dead_pid()}\n")
    daemon.start()
    assert daemon.process.pid == daemon.daemon()


def test_a_stale_pidfile_that_names_an_innocent_is_never_its_end(innocent: int, make: Callable[..., Daemon]) -> None:
    """Neither while the server has not written its own, nor by a stop at that time, nor later."""
    daemon = make("--late", "30")
    daemon.pidfile.write_text(f"{innocent}\n")
    daemon.manager.start(wait=False)
    assert eventually(lambda: bool(daemon.having("launcher", f"launched {living(daemon)}")))
    daemon.process.terminate()
    daemon.process.kill()
    assert daemon.process.pid is None
    daemon.manager.stop()
    assert daemon.pidfile.read_text() == f"{innocent}\n"

    daemon = make("--late", "0.3")
    daemon.start()
    assert daemon.process.pid == daemon.daemon()
    daemon.manager.stop()


def living(daemon: Daemon) -> int:
    return next((info.pid for info in daemon.manager.processes()), 0)


def test_a_stale_pidfile_of_a_server_that_never_writes_one(innocent: int, make: Callable[..., Daemon]) -> None:
    daemon = make("--writing", "never")
    daemon.pidfile.write_text(f"{innocent}\n")
    with pytest.raises(ReadyTimeoutError, match=rf"{daemon.pidfile} names {innocent} .* or is not new"):
        daemon.start(timeout=1.0)
    assert gone(daemon.daemon())

    pid = dead_pid()
    daemon.pidfile.write_text(f"{pid}\n")
    with pytest.raises(ReadyTimeoutError, match=rf"{daemon.pidfile} names {pid}, which does not run \(stale\?\)"):
        daemon.start(timeout=1.0)
    assert gone(daemon.daemon())


def test_it_does_not_matter_who_writes_the_pidfile(make: Callable[..., Daemon]) -> None:
    """Some wrapper may do it for the server. What counts is that it is new, and names one of the tree."""
    daemon = make("--writing", "rename", "--late", "0.5")
    daemon.manager.start(wait=False)
    assert eventually(lambda: living(daemon) != daemon.launcher() != 0 and living(daemon) != 0)
    pid = living(daemon)
    daemon.pidfile.write_text(f"{pid}\n")
    daemon.manager.ready_wait()
    assert daemon.process.pid == pid == daemon.daemon()


# ---- what cannot be a pidfile ---------------------------------------------------------------------------------


def error_text(daemon: Daemon, kind: type[WorkerError] = ReadyTimeoutError) -> str:
    """Of a start that fails. Nobody is left then."""
    with pytest.raises(kind) as raised:
        daemon.start(timeout=1.0)
    assert daemon.manager.process is None
    assert all(gone(pid) for pid, _, _ in daemon.events())
    return str(raised.value)


def test_a_pidfile_that_is_never_written(make: Callable[..., Daemon]) -> None:
    daemon = make("--writing", "never")
    assert f"the pidfile {daemon.pidfile} has not been written" in error_text(daemon)


def test_a_fifo_in_its_place(make: Callable[..., Daemon]) -> None:
    daemon = make()
    os.mkfifo(daemon.pidfile)
    assert f"the pidfile {daemon.pidfile} is not a regular file" in error_text(daemon)
    assert daemon.pidfile.is_fifo()


def test_a_directory_in_its_place(make: Callable[..., Daemon]) -> None:
    daemon = make()
    daemon.pidfile.mkdir()
    text = error_text(daemon)
    assert f"the pidfile {daemon.pidfile} is not a regular file" in text
    assert "cannot write the pidfile: [Errno 21] Is a directory" in text  # the server's own complaint
    assert daemon.pidfile.is_dir()


def test_a_pidfile_in_a_directory_that_does_not_exist(tmp_path: Path, make: Callable[..., Daemon]) -> None:
    daemon = make()
    daemon.manager.argv[4] = daemon.manager.pidfile = str(tmp_path / "missing" / "server.pid")
    text = error_text(daemon)
    assert f"the pidfile {tmp_path}/missing/server.pid has not been written" in text
    assert "cannot write the pidfile: [Errno 2]" in text


def test_nonsense_in_it(make: Callable[..., Daemon]) -> None:
    daemon = make("--names", "-1")
    assert f"the pidfile {daemon.pidfile}" in error_text(daemon)
    assert daemon.pidfile.read_text() == "-1\n"


#: An owner without root's right to read everything, for that would hide the failure. Leaves its error on stdout.
UNPRIVILEGED_OWNER = """
import ctypes, os, sys
if os.geteuid() == 0 and sys.argv[1] != "go":
    prctl = ctypes.CDLL(None).prctl
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: off for this process and all that it execs
        assert prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "go", *sys.argv[2:]])
sys.path[:0] = sys.argv[2:4]
from pathlib import Path
import test_daemons
daemon = test_daemons.Daemon(Path(sys.argv[4]), "--mode", "0")
try:
    daemon.start(timeout=1.0)
except test_daemons.ReadyTimeoutError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="root reads everything where there are no capabilities to drop")
def test_a_pidfile_that_may_not_be_read(tmp_path: Path) -> None:
    """As of a server that has changed its user and keeps its pidfile to itself."""
    paths = [str(PROGRAM.parent), str(PROGRAM.parent.parent)]
    command = [sys.executable, "-c", UNPRIVILEGED_OWNER, UNPRIVILEGED_OWNER, *paths, str(tmp_path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert f"the pidfile {tmp_path}/server.pid cannot be read: Permission denied" in text
    assert (tmp_path / "server.pid").stat().st_mode & 0o777 == 0


def test_a_pidfile_that_names_an_innocent(innocent: int, make: Callable[..., Daemon]) -> None:
    """A wrong pid is neither believed nor signalled: not by the start, not by the stop that follows its failure."""
    daemon = make("--names", str(innocent))
    text = error_text(daemon)
    name = psutil.Process(innocent).name()
    assert f"the pidfile {daemon.pidfile} names {innocent} ({name}), which is no process of this server's tree" in text
    assert daemon.pidfile.read_text() == f"{innocent}\n"


def test_a_pidfile_that_names_the_owner(make: Callable[..., Daemon]) -> None:
    daemon = make("--names", str(os.getpid()))
    assert f"names {os.getpid()} " in error_text(daemon)


def test_a_pidfile_that_names_init_or_nobody(make: Callable[..., Daemon]) -> None:
    assert "names 1 (" in error_text(make("--names", "1"))
    assert "names 4194305, which does not run" in error_text(make("--names", "4194305"))


# ---- a start that fails ---------------------------------------------------------------------------------------


def test_the_daemon_dies_after_its_launcher_said_that_all_is_well(make: Callable[..., Daemon]) -> None:
    """The end is noticed at once, and the status that tells something is the daemon's."""
    daemon = make("--daemon-status", "3")
    with pytest.raises(WorkerExitedError) as raised:
        daemon.start(timeout=30.0)
    assert raised.value.status == 3
    assert raised.value.elapsed is not None
    assert raised.value.elapsed < 10.0
    assert list(raised.value.output) == ["the daemon cannot go on"]
    assert f"left no daemon (the pidfile {daemon.pidfile} has not been written)" in str(raised.value)
    assert "exit status 3" in str(raised.value)


def test_the_launcher_fails(make: Callable[..., Daemon]) -> None:
    """Whatever it has left running does not become a server by waiting, and is ended."""
    daemon = make("--launcher-status", "7", "--late", "30")
    with pytest.raises(WorkerExitedError, match="exit status 7") as raised:
        daemon.start(timeout=30.0)
    assert raised.value.status == 7
    assert raised.value.elapsed is not None
    assert raised.value.elapsed < 10.0
    assert daemon.manager.processes() == []


def test_a_daemon_without_a_pidfile_given_is_told_what_it_needs(make: Callable[..., Daemon]) -> None:
    daemon = make("--late", "0.2", pidfile=None, ready=lambda: False)
    assert "puts itself into the background needs pidfile=" in error_text(daemon, WorkerExitedError)


# ---- wait -----------------------------------------------------------------------------------------------------


def test_wait_waits_for_the_daemon_and_then_ends_the_rest(make: Callable[..., Daemon]) -> None:
    """Neither the end of the launcher nor that of a helper is the end of the server."""
    daemon = make("--helper", "--late", "0.3")
    daemon.manager.start(wait=False)
    outcomes: list[object] = []
    waiting = threading.Thread(target=lambda: outcomes.append(daemon.manager.wait()))
    waiting.start()
    pid, helper = daemon.daemon(), daemon.helper()
    assert eventually(lambda: gone(daemon.launcher()))
    waiting.join(0.3)
    assert not outcomes

    os.kill(pid, signal.SIGUSR1)
    waiting.join(10.0)
    (outcome,) = outcomes
    assert outcome.status == daemon_program.ASKED  # type: ignore[attr-defined]
    assert [ended.pid for ended in outcome.polite] == [helper]  # type: ignore[attr-defined]
    assert gone(pid)
    assert gone(helper)
    assert daemon.manager.process is None


def test_wait_on_the_process_leaves_the_rest_running(make: Callable[..., Daemon]) -> None:
    """It is told at once of a daemon that ends with an error: nobody succeeds to such a one."""
    daemon = make("--helper")
    daemon.start()
    process = daemon.process
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SUCCESSION_PATIENCE - 0.1) == daemon_program.ASKED
    assert [info.pid for info in daemon.manager.processes()] == [daemon.helper()]
    assert daemon.manager.stop().status == daemon_program.ASKED
    assert gone(daemon.helper())


def test_wait_for_a_daemon_that_is_killed(make: Callable[..., Daemon]) -> None:
    daemon = make("--helper")
    daemon.start()
    helper = daemon.helper()
    daemon.process.kill()
    assert daemon.manager.wait().status == -signal.SIGKILL
    assert gone(helper)
    assert not daemon.pidfile.exists(), "the pidfile that the dead left behind stays"


# ---- stop -----------------------------------------------------------------------------------------------------


def test_stop_asks_the_daemon_first(make: Callable[..., Daemon]) -> None:
    """A master takes its own down in order; who is left is asked when it has gone."""
    daemon = make("--helper", "--last-words", "0.3")
    daemon.start()
    pid, helper = daemon.daemon(), daemon.helper()
    outcome = daemon.manager.stop()
    assert [ended.pid for ended in outcome.polite] == [pid, helper]
    assert not outcome.killed
    assert outcome.status == 0
    told = [event for event in daemon.events() if event[2] not in ("ready", f"launched {pid}")]
    assert told == [(pid, "daemon", "TERM"), (pid, "daemon", "bye"), (helper, "helper", "TERM")]


def test_stop_before_the_daemon_is_known(make: Callable[..., Daemon]) -> None:
    """There is no worker to ask then, so everyone is asked."""
    daemon = make("--late", "30", "--helper")
    daemon.manager.start(wait=False)
    helper = daemon.helper()
    pids = [info.pid for info in daemon.manager.processes()]
    assert helper in pids
    outcome = daemon.manager.stop()
    assert not outcome.killed
    assert all(gone(pid) for pid in pids)


def test_stop_uses_the_signal_that_the_server_wants_for_the_daemon_alone(make: Callable[..., Daemon]) -> None:
    daemon = make("--helper", stop_signal="USR1")
    daemon.start()
    assert daemon.manager.stop().status == daemon_program.ASKED
    assert daemon.having("daemon", "USR1")
    assert daemon.having("helper", "TERM")


def test_stop_of_a_daemon_that_does_not_listen(make: Callable[..., Daemon]) -> None:
    """It is killed when its time is up, and its pidfile, which it could not remove, is removed."""
    daemon = make("--helper", "--last-words", "30", grace_period=0.4)
    daemon.start()
    pid = daemon.daemon()
    outcome = daemon.manager.stop()
    assert [ended.pid for ended in outcome.killed] == [pid]
    assert outcome.status == -signal.SIGKILL
    assert not daemon.pidfile.exists()


def test_a_pidfile_that_names_another_by_then_is_left_alone(innocent: int, make: Callable[..., Daemon]) -> None:
    """Another server may have the path now."""
    daemon = make()
    daemon.start()
    daemon.pidfile.write_text(f"{innocent}\n")
    daemon.process.kill()
    daemon.manager.stop()
    assert daemon.pidfile.read_text() == f"{innocent}\n"


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_second_start_right_after_the_stop(killed: bool, make: Callable[..., Daemon]) -> None:
    """With the same pidfile, whether the first has removed it or not."""
    daemon = make()
    seen = set()
    for _ in range(4):
        daemon.start()
        pid = daemon.process.pid
        assert eventually(lambda pid=pid: daemon.daemon() == pid)  # type: ignore[misc]
        seen.add(pid)
        if killed:
            daemon.process.kill()
        daemon.manager.stop()
    assert len(seen) == 4
    assert all(gone(pid or 0) for pid in seen)


# ---- re-exec --------------------------------------------------------------------------------------------------


def re_exec(daemon: Daemon) -> tuple[int, int]:
    """Make the daemon replace itself. Returns the old pid and the new one."""
    old = daemon.daemon()
    daemon.process.send_signal(signal.SIGUSR2)
    assert eventually(lambda: len(daemon.having("daemon", "ready")) == 2)
    return old, daemon.daemon()


@pytest.mark.parametrize("writing", ["plain", "bare", "halves", "rename"])
@pytest.mark.parametrize("succession", ["write-then-leave", "leave-then-write"])
def test_the_worker_moves_when_the_server_replaces_itself(
    writing: str, succession: str, make: Callable[..., Daemon]
) -> None:
    """When the old one has gone the worker is the new one: it is shown, waited for, and asked at the stop."""
    daemon = make("--succession", succession, "--writing", writing)
    daemon.start()
    old, new = re_exec(daemon)
    assert eventually(lambda: gone(old))
    assert eventually(lambda: daemon.process.pid == new)  # without a `poll` before
    outcome = daemon.manager.stop()
    assert gone(new)
    assert [ended.pid for ended in outcome.polite] == [new]
    assert outcome.status == 0
    assert daemon.having("daemon", "TERM") == [new]
    assert not daemon.pidfile.exists()


@pytest.mark.parametrize("succession", ["write-then-leave", "leave-then-write"])
def test_wait_goes_on_when_the_server_replaces_itself(succession: str, make: Callable[..., Daemon]) -> None:
    daemon = make("--succession", succession)
    daemon.start()
    outcomes: list[object] = []
    waiting = threading.Thread(target=lambda: outcomes.append(daemon.manager.wait()))
    waiting.start()
    _, new = re_exec(daemon)
    waiting.join(0.3)
    assert not outcomes
    os.kill(new, signal.SIGUSR1)
    waiting.join(10.0)
    (outcome,) = outcomes
    assert outcome.status == daemon_program.ASKED  # type: ignore[attr-defined]


def test_replaced_again_and_again(make: Callable[..., Daemon]) -> None:
    daemon = make()
    daemon.start()
    for count in range(2, 6):
        daemon.process.send_signal(signal.SIGUSR2)
        # The last but one says "bye" before it ends: only who is the fifth, say, is the one that is waited for.
        assert eventually(lambda wanted=count: len(set(daemon.having("daemon", "ready"))) == wanted)  # type: ignore[misc]
        assert eventually(lambda wanted=count: len(daemon.having("daemon", "bye")) == wanted - 1)  # type: ignore[misc]
        assert eventually(lambda: daemon.process.poll() is None and daemon.process.pid == daemon.daemon())


def test_stop_while_the_old_one_and_the_new_one_live(make: Callable[..., Daemon]) -> None:
    """As nginx does between USR2 and QUIT. Both are asked without waiting out the grace period, and go politely."""
    daemon = make("--succession", "stay", grace_period=20.0)
    daemon.start()
    old, new = re_exec(daemon)
    assert daemon.process.poll() is None
    assert daemon.process.pid == old
    outcome = daemon.manager.stop()
    assert sorted(ended.pid for ended in outcome.polite) == sorted([old, new])
    assert outcome.seconds < 10.0
    assert gone(old)
    assert gone(new)


def test_a_daemon_that_ends_while_its_helper_lives_is_waited_for_in_vain_but_briefly(
    make: Callable[..., Daemon],
) -> None:
    """It ended in order and removed its pidfile; somebody is left, and might write a new one. Nobody does."""
    daemon = make("--helper")
    daemon.start()
    helper = daemon.helper()
    daemon.process.terminate()
    began = time.monotonic()
    assert daemon.manager.wait().status == 0
    assert time.monotonic() - began < 10.0
    assert gone(helper)


# ---- the owner dies -------------------------------------------------------------------------------------------

OWNER = """
import sys, time
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import test_daemons
daemon = test_daemons.Daemon(Path(sys.argv[3]), *sys.argv[4:], crash_grace=2.0)
daemon.manager.start(wait=False)
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "more", [(), ("--late", "30"), ("--last-words", "30")], ids=["known", "not known yet", "does not listen"]
)
def test_nothing_is_left_when_the_owner_is_killed(more: tuple[str, ...], tmp_path: Path) -> None:
    """The daemon and its helper are asked, then killed; a pidfile left behind by that is removed."""
    paths = [str(PROGRAM.parent), str(PROGRAM.parent.parent)]
    command = [sys.executable, "-c", OWNER, *paths, str(tmp_path), "--helper", *more]
    watched = Daemon(tmp_path)  # for its journal; not started from here
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"started\n"
            helper = watched.helper()
            pid = psutil.Process(helper).ppid()
            if "--late" not in more:
                assert watched.daemon() == pid
                time.sleep(0.3)  # for the guardian to read the pidfile, too
        finally:
            owner.kill()
    assert eventually(lambda: gone(pid) and gone(helper))
    with contextlib.suppress(AssertionError):
        assert eventually(lambda: not watched.pidfile.exists(), 1.0)
    assert not watched.pidfile.exists()
