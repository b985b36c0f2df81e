"""Stopping: who is asked first, who is killed, what the outcome says, and who may call it when."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from stand_ins import (
    DEAF,
    DEAF_CHILD,
    FAMILY,
    PATIENCE,
    SLEEP,
    Server,
    as_nobody,
    content,
    is_living,
    living,
    python,
    run_script,
    sh,
    until,
)

from servermgr.base import ReadyTimeoutError, StopOutcome, WorkerError, WorkerExitedError
from servermgr.tree import Ended, Survivor

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A worker that takes its time when it is asked.
SLOW = 'sleep 60 & trap "sleep 0.3; exit 3" TERM; echo up >"$1"; wait'
#: A grace period that no test waits for.
LONG = 50.0
EARLY = 25.0


@pytest.fixture
def up(tmp_path: Path) -> Path:
    """Where a stand-in says that it is ready to be treated badly."""
    return tmp_path / "up"


# ---- what it says ---------------------------------------------------------------------------------------------


def test_who_goes_by_himself_went_politely(up: Path) -> None:
    """The outcome names everyone who was asked and went, the worker's status, and how long it took."""
    server = Server(sh(FAMILY, up))
    worker, child = server.started(up)
    outcome = server.stop()
    assert outcome.polite == (Ended(worker.pid, "sh"), Ended(child.pid, "sleep"))
    assert (outcome.killed, outcome.survivors, outcome.status, outcome.finished) == ((), (), 3, True)
    assert 0.0 <= outcome.seconds < server.options.get("grace_period", 10.0)


def test_who_stays_is_killed_when_the_grace_period_is_over(up: Path) -> None:
    """Not before, and the outcome names him; who went politely is not counted as killed."""
    server = Server(sh(DEAF_CHILD, up), grace_period=0.4)
    worker, child = server.started(up)
    outcome = server.stop()
    assert living([worker, child]) == []
    assert [ended.pid for ended in outcome.polite] == [worker.pid]
    assert outcome.killed == (Ended(child.pid, "sleep"),)
    assert outcome.status == -signal.SIGTERM
    assert outcome.seconds >= 0.4


def test_a_worker_that_stays_is_killed(up: Path) -> None:
    """Its status is then SIGKILL's."""
    server = Server(sh(DEAF, up), grace_period=0.1)
    (worker,) = server.started(up)
    outcome = server.stop()
    assert (outcome.polite, outcome.killed) == ((), (Ended(worker.pid, "sleep"),))
    assert outcome.status == -signal.SIGKILL


def test_a_grace_period_of_0_asks_nobody(up: Path, tmp_path: Path) -> None:
    """grace_period=0 kills at once: no handler runs."""
    asked = tmp_path / "asked"
    server = Server(sh('trap "echo >$2" TERM; echo up >"$1"; while :; do sleep 0.01; done', up, asked), grace_period=0)
    worker, *_ = server.started(up)
    outcome = server.stop()
    assert outcome.status == -signal.SIGKILL
    assert worker.pid in {ended.pid for ended in outcome.killed}
    assert not asked.exists()


def test_a_worker_that_had_ended_already_keeps_its_status() -> None:
    """Stopping what has ended by itself tells that status; nobody was asked."""
    server = Server(sh("exit 9"))
    server.start(wait=False)
    server.process.wait(PATIENCE)
    outcome = server.stop()
    assert (outcome.status, outcome.polite, outcome.killed) == (9, (), ())


def test_an_outcome_reads_as_a_sentence() -> None:
    """Its text is one line for a log."""
    nginx, php = Ended(2, "nginx"), Ended(3, "")
    assert str(StopOutcome(polite=(nginx, php), seconds=0.25)) == "2 went politely, 0 killed in 0.250 s"
    assert str(StopOutcome(killed=(nginx,), survivors=(Survivor(3, "x", "why"),))) == (
        "0 went politely, 1 killed, 1 alive in 0.000 s"
    )
    assert str(StopOutcome(finished=False)) == "stopping"
    assert (str(nginx), str(php)) == ("2 (nginx)", "3")


# ---- in which order -------------------------------------------------------------------------------------------

#: A worker (first) and its child note when they hear SIGTERM; the worker needs a while to end.
DIARY = """
import os, signal, sys, time

def note(text):
    with open(sys.argv[1], "a") as file:
        file.write(f"{time.monotonic()} {text}\\n")

def ask(number, frame):
    note(f"{role} asked")
    if role == "worker":
        time.sleep(0.3)
    note(f"{role} ends")
    os._exit(0)

signal.signal(signal.SIGTERM, ask)
role = "worker" if os.fork() else "child"
open(sys.argv[1] + "." + role, "w").write("up\\n")
for _ in range(600):
    time.sleep(0.1)
"""


def test_the_worker_is_asked_first(tmp_path: Path) -> None:
    """A master can take its own workers down in order: the others are asked only when it has gone."""
    diary = tmp_path / "diary"
    server = Server(python(DIARY, diary))
    server.start()
    content(tmp_path / "diary.worker")
    content(tmp_path / "diary.child")
    outcome = server.stop()
    notes = [line.split(" ", 1) for line in diary.read_text().splitlines()]
    assert [text for _, text in notes] == ["worker asked", "worker ends", "child asked", "child ends"]
    assert [float(stamp) for stamp, _ in notes] == sorted(float(stamp) for stamp, _ in notes)
    assert float(notes[2][0]) - float(notes[0][0]) >= 0.3
    assert len(outcome.polite) == 2


def test_a_master_that_ends_its_own_is_left_to_it(up: Path, tmp_path: Path) -> None:
    """A child that its master ends hears nothing from us."""
    heard = tmp_path / "heard"
    master = """
        sh -c 'trap "echo TERM >>$1" TERM; trap "echo USR1 >>$1; exit" USR1; echo up >"$2"
               while :; do sleep 0.01; done' sh "$2" "$1" &
        trap 'kill -USR1 $!; wait $!; exit 3' TERM
        wait
    """
    server = Server(sh(master, up, heard))
    server.started(up)
    outcome = server.stop()
    assert (outcome.status, outcome.killed) == (3, ())
    assert heard.read_text() == "USR1\n"


def test_a_deaf_worker_does_not_cost_the_others_their_chance(up: Path, tmp_path: Path) -> None:
    """While the worker stays, the others are asked before the grace period is over."""
    heard = tmp_path / "heard"
    server = Server(
        sh(
            'sh -c \'sleep 60 & trap "echo TERM >$1; exit" TERM; echo up >"$2"; wait\' sh "$2" "$1" &'
            ' trap "" TERM; while :; do wait; done',
            up,
            heard,
        ),
        grace_period=1.0,
    )
    worker, child, *_ = server.started(up)
    outcome = server.stop()
    assert content(heard) == "TERM"
    assert child.pid in {ended.pid for ended in outcome.polite}
    assert [ended.pid for ended in outcome.killed] == [worker.pid]


def test_the_polite_signal_can_be_chosen(up: Path) -> None:
    """stop_signal is for the worker; the others are asked by SIGTERM."""
    server = Server(sh('sleep 60 & trap "exit 5" QUIT; echo up >"$1"; wait', up), stop_signal=signal.SIGQUIT)
    _, child = server.started(up)
    outcome = server.stop()
    assert outcome.status == 5
    assert child.pid in {ended.pid for ended in outcome.polite}


@pytest.mark.parametrize("who", [0, 1], ids=["worker", "child"])
def test_a_stopped_process_still_goes_politely(up: Path, tmp_path: Path, who: int) -> None:
    """One that sleeps by SIGSTOP is woken to hear what is asked: its handler runs."""
    bye = tmp_path / "bye"
    inner = 'trap "echo bye >>$2; exit 0" TERM; echo up >"$1"; while :; do sleep 0.01; done'
    scripts = [inner, f'sh -c \'{inner}\' sh "$1" "$2" & trap "exit 0" TERM; wait']
    server = Server(sh(scripts[who], up, bye), grace_period=LONG)
    process = server.started(up)[who]
    process.suspend()
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the stop")
    began = time.monotonic()
    outcome = server.stop()
    assert time.monotonic() - began < EARLY
    assert bye.read_text() == "bye\n"
    assert process.pid in {ended.pid for ended in outcome.polite}
    assert outcome.killed == ()


# ---- who calls it, and when -----------------------------------------------------------------------------------


def test_stopping_twice_is_fine(up: Path) -> None:
    """The second stop finds nothing and says so."""
    server = Server(sh(FAMILY, up))
    tree = server.started(up)
    assert len(server.stop().polite) == 2
    assert server.stop() == StopOutcome()
    assert living(tree) == []


def test_several_threads_stop_at_once(up: Path) -> None:
    """Each returns only when nobody is left, whichever came first, and none fails."""
    server = Server(sh(SLOW, up))
    tree = server.started(up)
    barrier = threading.Barrier(6)

    def stop() -> list[psutil.Process]:
        barrier.wait(PATIENCE)
        server.stop()
        return living(tree)

    with ThreadPoolExecutor(6) as pool:
        assert [future.result() for future in [pool.submit(stop) for _ in range(6)]] == [[]] * 6
    assert server.process is None


def test_a_thread_that_waits_hears_of_a_stop_in_another(up: Path) -> None:
    """`wait` returns when another thread has stopped the server."""
    server = Server(sh(SLOW, up))
    tree = server.started(up)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.wait)
        time.sleep(0.05)
        assert not waiting.done()
        server.stop()
        assert waiting.result(PATIENCE).finished
    assert living(tree) == []


def test_a_stop_ends_a_start_in_another_thread(up: Path) -> None:
    """Whoever waits for the server to be ready is told at once that it ended."""
    server = Server(sh(FAMILY, up), ask=lambda: False)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start, timeout=LONG)
        content(up)
        began = time.monotonic()
        server.stop()
        with pytest.raises(WorkerError):
            starting.result(LONG)
        assert time.monotonic() - began < EARLY
    assert server.process is None


def test_a_body_that_fails_leaves_nobody(up: Path) -> None:
    """`with` stops the server also when its body raises, and the exception goes on."""
    server = Server(sh(FAMILY, up))
    with pytest.raises(ZeroDivisionError), server:  # noqa: PT012  # a body with a fault is what this is about
        content(up)
        child = psutil.Process(server.process.pid).children()[0]
        _ = 1 / 0
    assert server.process is None
    assert not is_living(child)


def test_a_with_that_does_not_get_ready_leaves_nobody() -> None:
    """The body is not entered."""
    server = Server(SLEEP, ask=lambda: False)
    server.start = lambda: Server.start(server, timeout=0.05)  # type: ignore[method-assign]
    with pytest.raises(ReadyTimeoutError), server:
        pytest.fail("entered a server that is not ready")
    assert server.process is None


def test_a_server_that_ended_inside_with_is_no_error_on_leaving() -> None:
    """What died in the body is cleaned up on exit."""
    with Server(sh("sleep 0.05; exit 3")) as server:
        assert server.process.wait(PATIENCE) == 3
    assert server.process is None


# ---- without waiting ------------------------------------------------------------------------------------------


def test_a_stop_need_not_be_waited_for(up: Path) -> None:
    """stop(wait=False) returns after the first signal; `process` reads None; `wait` tells the outcome."""
    server = Server(sh(SLOW, up))
    tree = server.started(up)
    outcome = server.stop(wait=False)
    assert outcome == StopOutcome(finished=False)
    assert is_living(tree[0])
    assert server.process is None
    outcome = server.wait()
    assert (outcome.finished, outcome.status) == (True, 3)
    assert living(tree) == []


def test_a_stop_that_nobody_waits_for_is_finished_all_the_same(up: Path) -> None:
    """The forced signal needs no further call."""
    server = Server(sh(DEAF, up), grace_period=0.2)
    (worker,) = server.started(up)
    server.stop(wait=False)
    until(lambda: not is_living(worker), "the end of the worker")
    assert [ended.pid for ended in server.stop().killed] == [worker.pid]


def test_a_start_waits_for_a_stop_under_way(up: Path, tmp_path: Path) -> None:
    """Old and new server never run at once."""
    server = Server(sh(SLOW, up))
    old = server.started(up)
    server.stop(wait=False)
    up.unlink()
    new = server.started(up)
    assert living(old) == []
    assert living(new) == new
    server.stop()


def test_a_stop_can_be_hurried(up: Path) -> None:
    """A stop with a shorter grace period shortens the one under way."""
    server = Server(sh(DEAF, up), grace_period=LONG)
    (worker,) = server.started(up)
    server.stop(wait=False)
    server._holding.spec.grace_period = 0.0  # type: ignore[union-attr]  # as a second Ctrl-C does
    began = time.monotonic()
    assert server.stop().status == -signal.SIGKILL
    assert time.monotonic() - began < EARLY
    assert not is_living(worker)


def test_a_stopped_server_is_not_waited_for_as_if_it_ran(up: Path) -> None:
    """ready_wait after stop(wait=False) does not call the dying server ready."""
    server = Server(sh(SLOW, up), ask=lambda: False)
    server.start(wait=False)
    content(up)
    server.stop(wait=False)
    with pytest.raises(WorkerExitedError):
        server.ready_wait(LONG)


# ---- who cannot be ended --------------------------------------------------------------------------------------

#: Takes root's identity by its set-uid bit, so that an ordinary owner may not signal it. Ends by itself.
UNTOUCHABLE = """
#include <unistd.h>
int main(void) {
    if (setuid(0) != 0) return 1;
    if (write(1, "up\\n", 3) != 3) return 1;
    alarm(60);
    for (;;) pause();
}
"""

OWNER = """
import json, sys, time
from servermgr.base import Manager, SurvivorsError
manager = Manager("untouchable")
manager.spawn(["/bin/sh", "-c", '"$1" & sleep 60 & wait', "sh", sys.argv[1]], grace_period=0.3, crash_grace=0.1)
while "up" not in manager.output_tail():
    time.sleep(0.01)
tree = manager.processes()
try:
    manager.stop()
except SurvivorsError as error:
    print(json.dumps({
        "text": str(error), "survivors": error.survivors, "seconds": error.outcome.seconds, "tree": tree,
        "ended": error.outcome.polite + error.outcome.killed, "process": manager.process, "again": manager.stop(),
    }))
"""


@pytest.fixture
def untouchable() -> Iterator[Path]:
    """A program that only root can signal."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("a set-uid program is compiled for this: install a C compiler")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "untouchable.c").write_text(UNTOUCHABLE)
        subprocess.run([compiler, "-o", folder / "untouchable", folder / "untouchable.c"], check=True)
        (folder / "untouchable").chmod(0o4755)
        if os.statvfs(folder).f_flag & os.ST_NOSUID:
            pytest.skip("the set-uid bit means nothing in this file system")
        yield folder / "untouchable"


@pytest.mark.skipif(sys.platform != "linux", reason="the set-uid program is compiled for Linux")
def test_a_survivor_is_named_and_told_why(untouchable: Path) -> None:
    """Who may not be signalled is reported about 5 s after the grace period; all others are gone."""
    interpreter, options = as_nobody()
    assert stat.S_IMODE(untouchable.stat().st_mode) == 0o4755
    done = run_script(OWNER, untouchable, interpreter=interpreter, **options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    ((pid, name, why),) = told["survivors"]
    pidfd = os.pidfd_open(pid)
    try:
        survivor = psutil.Process(pid)
        guardian = survivor.parent()
        assert guardian is not None
        assert survivor.name() == name == "untouchable"
        assert why == "this user may not signal it"
        assert told["text"].startswith(f"untouchable: 1 of its processes live on: {pid} (untouchable): {why}")
        assert 5.0 <= told["seconds"] < 10.0
        others = {info[0] for info in told["tree"]} - {pid}
        assert len(others) == 2
        assert others <= {ended[0] for ended in told["ended"]}
        assert not any(psutil.pid_exists(other) for other in others)
        assert told["process"] is None
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    until(lambda: living([survivor, guardian]) == [], "the end of the survivor's guardian")
