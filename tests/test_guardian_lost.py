"""Guardians are killed, stopped and taken away: nothing of their trees is left, and nobody else's tree notices."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import census
import psutil
import pytest
from owners import owner
from stand_ins import SLEEP, content, run_script, sh, until
from wreckage import (
    DAEMON,
    FAMILY,
    FAMILY_ROLES,
    GRACE,
    QUICK,
    gone,
    is_alive,
    kill,
    killed,
    parent_of,
    record_of,
    roles,
    state_of,
    worker_is_recorded,
    wreck,
)

import servermgr
from servermgr.sweeping import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servermgr.ledger import Record

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guardians hold whole trees on Linux")

#: Trees that carry no trace, or change too fast to be listed: only a subreaper above them catches all of each.
UNTRACEABLE = ("changed_title", "daemon", "not_dumpable", "ping_pong", "wide")


class Held:
    """A server that runs below a guardian of this process.

    Attributes:
        manager: Its manager.
        record: Its record, while it ran.
        guardian, nursery: Their pids.
    """

    def __init__(self, argv: list[str], name: str, **options: Any) -> None:
        self.manager = servermgr.CommandManager(argv, name=name, **QUICK | options)
        self.manager.start()
        if "pidfile" in options:
            worker_is_recorded(name, self.manager.process.pid)
        self.record: Record = record_of(name)
        self.guardian = self.record.guardian.pid
        self.nursery = parent_of(self.guardian)

    def left(self) -> list[str]:
        """Files of it that are still there, and its helper."""
        record = self.record
        paths = [record.path, f"{record.path}.partial-{self.guardian}", record.log, record.pidfile]
        found = [path for path in paths if path is not None and os.path.lexists(path)]
        return found + ([f"guardian {self.guardian}"] if is_alive(self.guardian) else [])


@contextlib.contextmanager
def held(argv: list[str], *, name: str = "held", **options: Any) -> Iterator[Held]:
    server = Held(argv, name, **options)
    try:
        yield server
    finally:
        server.manager.stop()


def family(tmp_path: Path, **options: Any) -> contextlib.AbstractContextManager[Held]:
    return held(sh(FAMILY, tmp_path), **options)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said loudly."""
    loud = [record for record in caplog.records if record.name == "servermgr" and record.levelno >= logging.ERROR]
    return [record.getMessage() for record in loud]


# ---- killed alone ---------------------------------------------------------------------------------------------


def by_number(server: Held) -> None:
    kill(server.guardian)


def by_group(server: Held) -> None:
    os.killpg(os.getpgid(server.guardian), signal.SIGKILL)


def by_session(server: Held) -> None:
    session = os.getsid(server.guardian)
    for name in os.listdir("/proc"):
        with contextlib.suppress(ProcessLookupError):
            if name.isdigit() and os.getsid(int(name)) == session:
                kill(int(name))


WAYS: dict[str, Callable[[Held], None]] = {"itself": by_number, "its group": by_group, "its session": by_session}


@pytest.mark.parametrize("way", WAYS)
def test_a_guardian_is_killed(way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The nursery ends the tree in its place, without anybody asking; the owner hears of it, and why."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        WAYS[way](server)
        gone(*pids.values())
        until(lambda: server.left() == [], "the end of its files")
        outcome = server.manager.stop()
    assert outcome.survivors == ()
    assert outcome.status == 255
    assert {pid for pid, _ in outcome.polite} == set(pids.values())
    assert recorded() == []
    (loud,) = said(caplog)
    assert f"its guardian (pid {server.guardian}) was killed, and the tree was ended for that reason" in loud


def test_whoever_waits_for_the_server_comes_back(tmp_path: Path) -> None:
    """`wait` in one thread, the process's own `wait` in another."""
    with family(tmp_path) as server:
        roles(tmp_path, *FAMILY_ROLES)
        process, ends = server.manager.process, []
        threads = [
            threading.Thread(target=lambda: ends.append(server.manager.wait().status)),
            threading.Thread(target=lambda: ends.append(process.wait(20.0))),
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        kill(server.guardian)
        for thread in threads:
            thread.join(20.0)
        assert ends == [255, 255]
        assert server.left() == []


#: A worker that needs some time for its data, and a child that notes whether it was asked before that was done.
DATABASE = """
trap 'sleep 0.3; echo whole >"$1/data"; kill $!; wait; exit 0' USR1
(trap '[ -e "$1/data" ] && echo later >"$1/child" || echo too early >"$1/child"; exit' TERM
 echo up >"$1/up"; sleep 60 & wait) &
wait
"""


def test_the_worker_is_asked_by_its_own_signal(tmp_path: Path) -> None:
    """Alone, and with time to take its children down in its own way: it may be a database."""
    with held(sh(DATABASE, tmp_path), stop_signal="USR1", crash_grace=10.0) as server:
        content(tmp_path / "up")
        kill(server.guardian)
        server.manager.wait()
        assert content(tmp_path / "data") == "whole"
        assert content(tmp_path / "child") == "later"
        assert server.left() == []


def test_the_deaf_are_killed(tmp_path: Path) -> None:
    """They, whatever group they are in, and none below a guardian that lives: not the guardian either."""
    script = """trap "" TERM; sleep 60 & echo $! >"$1/child"; setsid sleep 60 & echo $! >"$1/session"
echo $$ >"$1/worker"; exec sleep 60"""
    with held(sh('trap "" TERM; exec sleep 60'), name="other") as other, held(sh(script, tmp_path)) as server:
        pids = roles(tmp_path, "child", "session", "worker")
        kill(server.guardian)
        outcome = server.manager.wait()
        assert {pid for pid, _ in outcome.killed} == set(pids.values())
        assert outcome.polite == ()
        assert GRACE <= outcome.seconds < 5.0
        assert server.left() == []
        assert other.manager.process.poll() is None
        assert is_alive(other.guardian)


def test_the_pidfile_of_a_daemon_goes_too(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with held(sh(DAEMON, pidfile), pidfile=pidfile) as server:
        daemon = server.manager.process.pid
        kill(server.guardian)
        gone(daemon)
        until(lambda: server.left() == [], "the end of its files")
    assert not pidfile.exists()


def test_a_pidfile_that_names_another_by_then_stays(tmp_path: Path) -> None:
    """Another server may have been started with the same pidfile meanwhile."""
    pidfile = tmp_path / "pid"
    with held(sh(DAEMON, pidfile), pidfile=pidfile) as server:
        pidfile.write_text(f"{os.getpid()}\n")
        kill(server.guardian)
        server.manager.wait()
    assert pidfile.read_text() == f"{os.getpid()}\n"


def test_files_that_the_user_asked_for_stay(tmp_path: Path) -> None:
    with held(sh("echo hello; exec sleep 60"), output=tmp_path / "log") as server:
        until(lambda: server.manager.output_tail() == ["hello"], "the output")
        kill(server.guardian)
        server.manager.wait()
        assert server.manager.output_tail() == ["hello"]
    assert (tmp_path / "log").read_text() == "hello\n"


def test_the_manager_can_be_started_again(tmp_path: Path) -> None:
    with held(SLEEP) as server:
        for _ in range(2):
            kill(record_of("held").guardian.pid)
            server.manager.wait()
            server.manager.start()
            assert server.manager.process.poll() is None
    assert recorded() == []


@pytest.mark.parametrize("scenario", UNTRACEABLE)
def test_trees_that_leave_no_trace(scenario: str, tmp_path: Path) -> None:
    """No sweep could find them: the nursery is above them, and has all of them."""
    try:
        with census.innocents(), held(census.command(scenario, tmp_path)) as server:
            try:
                census.wait_ready(tmp_path)
            except census.Impossible as reason:
                pytest.skip(str(reason))
            kill(server.guardian)
            assert census.wait_gone(tmp_path, GRACE + 4.0) == []
            assert census.ended_by_itself(tmp_path) == [], "a storm that has blown itself out proves nothing"
            until(lambda: server.left() == [], "the end of its files")
    finally:
        census.cleanup(tmp_path)


def test_the_worker_is_killed(tmp_path: Path) -> None:
    """Its tree is for `wait` to end, and the status says what happened."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        kill(pids["worker"])
        outcome = server.manager.wait()
        assert outcome.status == -signal.SIGKILL
        assert not any(map(is_alive, pids.values()))
        assert server.left() == []


def test_worker_and_guardian_are_killed(tmp_path: Path) -> None:
    """Also the pidfile goes, although nobody of the living is named by it."""
    pidfile = tmp_path / "pid"
    with held(sh(DAEMON, pidfile), pidfile=pidfile) as server:
        killed(server.guardian, server.manager.process.pid)
        server.manager.wait()
        assert server.left() == []


def test_a_guardian_is_killed_while_it_stops_its_tree(tmp_path: Path) -> None:
    """The stop goes on, within the time that a tree without a guardian has."""
    script = 'trap "echo asked >$1/asked" TERM; echo $$ >"$1/worker"; while :; do sleep 0.05; done'
    with held(sh(script, tmp_path), grace_period=30.0) as server:
        worker = roles(tmp_path, "worker")["worker"]
        outcomes: list[servermgr.StopOutcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(server.manager.stop()))
        thread.start()
        content(tmp_path / "asked")
        assert is_alive(worker)
        kill(server.guardian)
        thread.join(20.0)
        assert [outcome.survivors for outcome in outcomes] == [()]
        assert not is_alive(worker)
        assert server.left() == []


# ---- stopped --------------------------------------------------------------------------------------------------


def test_a_guardian_is_stopped(tmp_path: Path) -> None:
    """A guardian that is stopped guards nobody: it is woken, and `stop` is as quick as ever."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        os.kill(server.guardian, signal.SIGSTOP)
        started = time.monotonic()
        outcome = server.manager.stop()
        assert time.monotonic() - started < 5.0
        assert len(outcome.polite) == 4
        assert not any(map(is_alive, pids.values()))
        assert server.left() == []


def test_a_stopped_guardian_sees_its_owner_die(tmp_path: Path) -> None:
    """Without any sweep."""
    with wreck(sh(FAMILY, tmp_path)) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        os.kill(doomed.guardian, signal.SIGSTOP)
        doomed.kill()
        gone(*pids.values(), doomed.guardian, doomed.nursery)
        assert recorded() == []


def test_a_nursery_is_stopped(tmp_path: Path) -> None:
    """Its guardians do not need it: they stop their trees, and see their owner die."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        os.kill(server.nursery, signal.SIGSTOP)
        try:
            assert len(server.manager.stop().polite) == 4
            assert not any(map(is_alive, pids.values()))
        finally:
            os.kill(server.nursery, signal.SIGCONT)
        until(lambda: server.left() == [], "the end of the guardian")


# ---- several --------------------------------------------------------------------------------------------------


def test_two_of_three_guardians_are_killed_at_once(tmp_path: Path) -> None:
    """Their trees end; the third one's goes on unharmed, and ends in order later."""
    directories = [tmp_path / name for name in ("one", "two", "three")]
    with contextlib.ExitStack() as stack:
        servers = []
        for directory in directories:
            directory.mkdir()
            servers.append(stack.enter_context(family(directory, name=directory.name)))
        pids = [roles(directory, *FAMILY_ROLES) for directory in directories]
        for server in servers[:2]:
            kill(server.guardian)
        gone(*pids[0].values(), *pids[1].values())
        for server in servers[:2]:
            until(lambda server=server: server.left() == [], "the end of its files")  # type: ignore[misc]
            assert server.manager.wait().survivors == ()
        time.sleep(GRACE)
        assert all(map(is_alive, pids[2].values()))
        assert [record.name for record in recorded()] == ["three"]
        outcome = servers[2].manager.stop()
        assert (len(outcome.polite), len(outcome.killed)) == (4, 0)
        assert servers[2].left() == []


def test_every_guardian_of_many_is_killed(tmp_path: Path) -> None:
    """Eight trees, eight guardians, one moment."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(held(SLEEP, name=f"n{number}")) for number in range(8)]
        workers = [server.manager.process.pid for server in servers]
        for server in servers:
            kill(server.guardian)
        for server in servers:
            server.manager.wait()
        assert not any(map(is_alive, workers))
        assert [server.left() for server in servers] == [[]] * 8
        assert recorded() == []


# ---- the nursery ----------------------------------------------------------------------------------------------


def test_the_nursery_is_killed_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Trees that run do not notice; the next start makes another; each ends in order."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        killed(server.nursery)
        time.sleep(GRACE)
        assert all(map(is_alive, (*pids.values(), server.guardian)))
        with held(SLEEP, name="next") as following:
            assert following.nursery != server.nursery
            assert [record.name for record in recorded()] == ["held", "next"]
        outcome = server.manager.stop()
        assert (len(outcome.polite), len(outcome.killed)) == (4, 0)
        assert outcome.status == -signal.SIGTERM
        assert server.left() == []
    assert said(caplog) == []


def test_without_a_nursery_the_owners_death_still_ends_all(tmp_path: Path) -> None:
    with wreck(sh(FAMILY, tmp_path)) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        killed(doomed.nursery)
        doomed.kill()
        gone(*pids.values(), doomed.guardian)
        assert recorded() == []


def both_killed(server: Held) -> None:
    killed(server.nursery, server.guardian)


@pytest.mark.parametrize("ending", ["stop", "wait"])
def test_guardian_and_nursery_are_killed(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The owner itself ends whoever can be proven to belong to the tree, and says so loudly."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        both_killed(server)
        assert all(map(is_alive, pids.values()))
        outcome = getattr(server.manager, ending)()
        assert not any(map(is_alive, pids.values()))
        assert outcome.survivors == ()
        assert outcome.status == 255
        assert {pid for pid, _ in outcome.polite} == set(pids.values())
        assert server.left() == []
        assert server.manager.process is None
    (loud,) = said(caplog)
    assert f"guardian {server.guardian} and its helper were killed" in loud
    assert "4 processes were found and ended" in loud


def test_a_worker_without_its_environment_is_known_to_the_owner(tmp_path: Path) -> None:
    with held(["env", "-i", *sh(FAMILY, tmp_path)]) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        both_killed(server)
        try:
            server.manager.stop()
            assert [role for role, pid in pids.items() if is_alive(pid)] == ["orphan"]  # without any trace of its own
        finally:
            killed(pids["orphan"])


def test_the_daemon_of_a_pidfile_and_its_pidfile_are_ended_by_the_owner(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with held(sh(DAEMON, pidfile), pidfile=pidfile) as server:
        daemon = server.manager.process.pid
        both_killed(server)
        server.manager.stop()
        assert not is_alive(daemon)
        assert server.left() == []


def test_without_its_record_a_tree_is_known_by_its_marker(tmp_path: Path) -> None:
    """The record was removed by somebody: the owner knows the marker itself."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        os.unlink(server.record.path)
        both_killed(server)
        server.manager.stop()
        assert not any(map(is_alive, pids.values()))
        assert server.left() == []


def test_an_owner_without_helpers_goes_on(tmp_path: Path) -> None:
    """It starts the next server with new ones."""
    with family(tmp_path) as server:
        roles(tmp_path, *FAMILY_ROLES)
        both_killed(server)
        with held(SLEEP, name="next") as following:
            assert following.nursery != server.nursery
            assert following.manager.process.poll() is None


# ---- the guardian that waits for a tree -----------------------------------------------------------------------


def spare_of(nursery: int) -> int:
    """The pid of the one that the nursery has made ahead."""

    def waiting() -> list[int]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(nursery).children() if child.name() == "servermgr"]
        return []

    until(waiting, "a guardian made ahead")
    (pid,) = waiting()
    return pid


def test_a_guardian_made_ahead_takes_the_next_tree() -> None:
    with held(SLEEP) as server:
        spare = spare_of(server.nursery)
        with held(SLEEP, name="next") as following:
            assert following.guardian == spare
            assert spare_of(server.nursery) != spare
        assert server.manager.process.poll() is None


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_harm_to_one_that_waits_is_none_to_the_next_start(
    harm: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    with held(SLEEP) as server:
        spare = spare_of(server.nursery)
        os.kill(spare, harm)
        if harm != signal.SIGSTOP:
            gone(spare)
        with held(SLEEP, name="next") as following:
            assert following.nursery == server.nursery
            assert following.manager.stop().survivors == ()
    assert said(caplog) == []


def test_one_that_waits_is_none_of_the_orphans_that_the_nursery_ends(tmp_path: Path) -> None:
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        spare = spare_of(server.nursery)
        kill(server.guardian)
        server.manager.wait()
        assert not any(map(is_alive, pids.values()))
        assert spare_of(server.nursery) == spare


def test_one_that_waits_leaves_managerthe_owner(tmp_path: Path) -> None:
    with wreck(sh(FAMILY, tmp_path)) as doomed:
        spare = spare_of(doomed.nursery)
        doomed.kill()
        gone(spare, doomed.nursery)


def test_one_that_waits_leaves_managerthe_nursery() -> None:
    with held(SLEEP) as server:
        spare = spare_of(server.nursery)
        killed(server.nursery)
        gone(spare)


# ---- helpers that do not start --------------------------------------------------------------------------------

STARTS_TWICE = """
import sys, servermgr
sys.executable = sys.argv[1]
for _ in range(2):
    manager = servermgr.CommandManager(["sleep", "60"], name="tried")
    try:
        manager.start()
        print("started", manager.stop().status)
    except servermgr.errors.GuardianError as error:
        print(str(error).splitlines()[0])
"""


@pytest.mark.parametrize(("fault", "why"), [("kill -9 $$", "SIGKILL"), ("echo broken >&2; exit 3", "broken")])
@pytest.mark.parametrize("ever", [False, True], ids=["once", "always"])
def test_a_helper_that_cannot_start_fails_that_start_alone(tmp_path: Path, fault: str, why: str, ever: bool) -> None:
    """The error says why; the next start is tried with another helper."""
    wrapper = tmp_path / "python"
    guard = "" if ever else f'[ -e "{tmp_path}/met" ] || '
    wrapper.write_text(
        f'#!/bin/sh\n{guard}{{ : >"{tmp_path}/met"; sleep 0.3; {fault}; }}\nexec "{sys.executable}" "$@"\n'
    )
    wrapper.chmod(0o755)
    first, second = run_script(STARTS_TWICE, wrapper).stdout.splitlines()
    assert f"the guardian cannot be started by {wrapper}" in first
    assert why in first
    assert second == (first if ever else "started -15")


LEAVES_WITHOUT_STOP = """
import logging, os, signal, sys, servermgr
logging.basicConfig(format="%(message)s")
manager = servermgr.CommandManager(["sh", "-c", "sleep 60 & sleep 60"], name="left", crash_grace=0.3)
manager.start()
(record,) = servermgr.recorded()
with open(f"/proc/{record.guardian.pid}/stat") as file:
    nursery = int(file.read().rpartition(")")[2].split()[1])
for pid in (nursery, record.guardian.pid):
    os.kill(pid, signal.SIGKILL)
print(manager.process.pid)
"""


def test_an_owner_that_ends_without_its_helpers_leaves_nobody() -> None:
    """The end of the interpreter looks after what nobody holds any more."""
    done = run_script(LEAVES_WITHOUT_STOP, check=True)
    assert not is_alive(int(done.stdout))
    assert "were killed; of the tree" in done.stderr
    assert recorded() == []


def test_a_guardian_is_killed_managerits_owner(tmp_path: Path) -> None:
    """The nursery is the last one up: it ends the tree, and then itself. Without any sweep."""
    for order in ("guardian first", "owner first"):
        with wreck(sh(FAMILY, tmp_path)) as doomed:
            pids = roles(tmp_path, *FAMILY_ROLES)
            if order == "guardian first":
                kill(doomed.guardian)
                doomed.kill()
            else:
                doomed.process.kill()
                kill(doomed.guardian)
                doomed.kill()
            gone(*pids.values(), doomed.guardian, doomed.nursery)
            assert recorded() == []
        for role in FAMILY_ROLES:
            (tmp_path / role).unlink()


def test_a_stopped_guardian_without_a_nursery_is_woken_by_the_owner(tmp_path: Path) -> None:
    """Nobody else is there to do it: `stop` must not wait for ever."""
    with family(tmp_path) as server:
        pids = roles(tmp_path, *FAMILY_ROLES)
        killed(server.nursery)
        os.kill(server.guardian, signal.SIGSTOP)
        until(lambda: state_of(server.guardian) == "T", "the guardian's stop")
        timer = threading.Timer(12.0, os.kill, (server.guardian, signal.SIGCONT))
        timer.start()
        try:
            started = time.monotonic()
            server.manager.stop()
            assert time.monotonic() - started < 10.0
        finally:
            timer.cancel()
            timer.join()
        assert not any(map(is_alive, pids.values()))


def test_the_owner_of_a_kept_server_is_not_needed_when_its_guardian_dies(tmp_path: Path) -> None:
    """Kept or not: a tree that nobody holds is ended, by the nursery that is still there."""
    with owner(sh(FAMILY, tmp_path), options=QUICK | {"name": "kept", "keep": True}) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        guardian = doomed.told["guardian"]
        nursery = parent_of(guardian)
        doomed.kill()
        time.sleep(GRACE)
        assert all(map(is_alive, pids.values()))
        kill(guardian)
        gone(*pids.values(), nursery)
        assert recorded() == []


def test_a_guardian_that_hangs_in_a_stop_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has told that it asked, and then nothing more: when it is long overdue it is killed, and its work done."""
    monkeypatch.setattr("servermgr.guarded._SLACK", 0.0)  # else the test would take as long as a slow machine may
    monkeypatch.setattr("servermgr.guarded.KILL_PATIENCE", 0.5)
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    manager = servermgr.CommandManager(["sh", "-c", deaf], ready="log:^deaf", grace_period=0.3)
    manager.start()
    guardian = psutil.Process(recorded()[-1].guardian.pid)
    guardian.parent().kill()  # the nursery would wake it
    assert not manager.stop(wait=False).finished

    def hold() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while guardian.status() != psutil.STATUS_ZOMBIE:
                guardian.suspend()
                time.sleep(0.001)

    holder = threading.Thread(target=hold)
    holder.start()
    began = time.monotonic()
    outcome = manager.wait()
    holder.join(10.0)
    assert not holder.is_alive()
    assert time.monotonic() - began > 0.5, "it went on by itself: this shows nothing"
    assert outcome.survivors == ()
    assert manager.processes() == []
    assert not guardian.is_running() or guardian.status() == psutil.STATUS_ZOMBIE
