"""`sweep()` ends what dead owners left, says why it was sure, and touches nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import census
import pytest
from owners import owner
from stand_ins import SLEEP, content, run_script, script_output, sh, until
from wreckage import (
    DAEMON,
    FAMILY,
    FAMILY_ROLES,
    GRACE,
    MARKER,
    QUICK,
    Wreck,
    fields,
    gone,
    is_alive,
    kill,
    killed,
    plant,
    record_of,
    roles,
    state_of,
    worker_is_recorded,
    wreck,
)

import servermgr
from servermgr.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servermgr.sweeping import SweptTree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guardians hold whole trees on Linux")

#: Zoo trees whose processes all keep a trace: the marker, the recorded worker, or a parent that has one.
TRACEABLE = (
    "crashed_root", "deep", "double_fork", "ignores_term", "nohup_disown", "own_subreaper", "plain", "prefork",
    "prefork_ignores_term", "setpgid", "setsid", "shell_pipeline", "stopped", "stopped_root", "term_spawner", "wide",
    "zombie_leader", "zombie_root",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _an_empty_ledger() -> Iterator[None]:
    """Each of these tests says what every record in the ledger is for."""
    assert servermgr.recorded() == []
    yield
    servermgr.sweep()


def told(tree: SweptTree) -> dict[int, tuple[str, str]]:
    """Evidence and what was done, by pid."""
    return {process.pid: (process.evidence, process.done) for process in tree.processes}


# ---- what is ended --------------------------------------------------------------------------------------------


def test_all_three_killed_and_swept(tmp_path: Path) -> None:
    """Worker, children, sessions of their own, orphans: all of them end, and each with the evidence against it."""
    with census.innocents(), wreck(sh(FAMILY, tmp_path), name="family") as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        doomed.wreck()
        time.sleep(GRACE)
        assert all(map(is_alive, pids.values())), "somebody ended it: then the sweep has nothing to show"
        (swept,) = servermgr.sweep()
        assert not any(map(is_alive, pids.values()))
    assert (swept.name, swept.owner, swept.verdict) == ("family", doomed.process.pid, "swept")
    assert swept.argv[:2] == ("/bin/sh", "-c")
    found = told(swept)
    assert found.pop(pids["worker"]) == ("identity", "went")
    assert found == {pids[role]: ("marker", "went") for role in ("child", "session", "orphan")}
    assert 0.0 <= swept.seconds < 10.0
    assert servermgr.recorded() == []
    assert servermgr.sweep() == []


def test_a_worker_without_its_environment_is_known_by_its_identity(tmp_path: Path) -> None:
    """It carries no marker any more, and its children never did: the record and the descent prove them."""
    with wreck(["env", "-i", *sh(FAMILY, tmp_path)]) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        doomed.wreck()
        try:
            (swept,) = servermgr.sweep()
            assert told(swept) == {
                pids["worker"]: ("identity", "went"),
                pids["child"]: ("descent", "went"),
                pids["session"]: ("descent", "went"),
            }
            assert not is_alive(pids["worker"])
            assert is_alive(pids["orphan"]), "nothing proves this one: it must not be touched"
        finally:
            killed(pids["orphan"])


def test_without_its_worker_a_tree_is_known_by_its_marker(tmp_path: Path) -> None:
    with wreck(sh(FAMILY, tmp_path)) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        killed(doomed.nursery, doomed.guardian)
        killed(pids.pop("worker"))
        doomed.wreck()
        (swept,) = servermgr.sweep()
    assert told(swept) == dict.fromkeys(pids.values(), ("marker", "went"))
    assert not any(map(is_alive, pids.values()))


def test_the_daemon_of_a_pidfile(tmp_path: Path) -> None:
    """The daemon is ended, and the pidfile that it left is removed, as the guardian would have done."""
    pidfile = tmp_path / "pid"
    with wreck(sh(DAEMON, pidfile), pidfile=str(pidfile)) as doomed:
        pid = roles(tmp_path, "pid")["pid"]
        worker_is_recorded("wreck", pid)
        doomed.wreck()
        (swept,) = servermgr.sweep()
    assert told(swept) == {pid: ("identity", "went")}
    assert not is_alive(pid)
    assert not pidfile.exists()


def test_a_pidfile_that_came_too_late_for_the_guardian(tmp_path: Path) -> None:
    """The record does not know the daemon, but its pidfile names it and it carries the marker."""
    pidfile = tmp_path / "pid"
    script = (
        """setsid sh -c 'until [ -e "$1.go" ]; do sleep 0.01; done; echo $$ >"$1"; exec sleep 60' sh "$1" & exit 0"""
    )
    with wreck(sh(script, pidfile), pidfile=str(pidfile)) as doomed:
        doomed.wreck()
        (tmp_path / "pid.go").touch()
        pid = roles(tmp_path, "pid")["pid"]
        (swept,) = servermgr.sweep()
    assert told(swept)[pid] == ("pidfile", "went")
    assert not is_alive(pid)
    assert not pidfile.exists()


def test_the_deaf_are_killed(tmp_path: Path) -> None:
    """Whoever ignores the polite signal is killed when `crash_grace` is over, and told apart."""
    script = """(trap "" TERM; sleep 60 & echo $! >"$1/deaf"; exec sleep 60) & sleep 60 & echo $! >"$1/child"; wait"""
    with wreck(sh(script, tmp_path)) as doomed:
        pids = roles(tmp_path, "deaf", "child")
        doomed.wreck()
        (swept,) = servermgr.sweep()
    assert told(swept)[pids["child"]][1] == "went"
    assert told(swept)[pids["deaf"]][1] == "killed"
    assert swept.seconds >= GRACE
    assert not any(map(is_alive, pids.values()))


def test_the_stop_signal_is_the_servers_own(tmp_path: Path) -> None:
    """The worker is asked by its own polite signal, alone, and may take its children down in its own way."""
    script = """trap 'echo asked >"$1/asked"; kill $!; exit 0' USR1; sleep 60 & echo up >"$1/up"; wait"""
    with wreck(sh(script, tmp_path), stop_signal="USR1", crash_grace=10.0) as doomed:
        content(tmp_path / "up")
        doomed.wreck()
        (swept,) = servermgr.sweep()
    assert content(tmp_path / "asked") == "asked"
    assert {done for _, done in told(swept).values()} == {"went"}
    assert swept.seconds < 5.0


@pytest.mark.parametrize("scenario", TRACEABLE)
def test_trees_of_the_zoo_that_keep_a_trace(scenario: str, tmp_path: Path) -> None:
    """However they are built, nobody of them is left, and bystanders that look like them are."""
    try:
        with census.innocents(), wreck(census.command(scenario, tmp_path)) as doomed:
            try:
                census.wait_ready(tmp_path)
            except census.Impossible as reason:
                pytest.skip(str(reason))
            doomed.wreck()
            assert census.living(tmp_path) != []
            (swept,) = servermgr.sweep()
            assert census.living(tmp_path) == []
        assert swept.verdict == "swept"
    finally:
        census.cleanup(tmp_path)


SWEEPING_POORLY = """
import json, resource, servermgr
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
(swept,) = servermgr.sweep()
print(swept.verdict)
"""


@pytest.mark.parametrize("found_by", ["marker", "descent"])
def test_a_sweep_with_few_descriptors(found_by: str, tmp_path: Path) -> None:
    """A tree of more processes than descriptors may be open is swept all the same."""
    script = """for i in $(seq 100); do sleep 60 & echo $! >>"$1/pids"; done; echo up >"$1/up"; wait"""
    program = sh(script, tmp_path)
    with wreck(program if found_by == "marker" else ["env", "-i", *program]) as doomed:
        content(tmp_path / "up")
        pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
        doomed.wreck()
        assert len([pid for pid in pids if is_alive(pid)]) == 100
        assert script_output(SWEEPING_POORLY) == "swept\n"
        assert [pid for pid in pids if is_alive(pid)] == []
        assert servermgr.recorded() == []


LOOKING_BLINDLY = """
import os, resource
from servermgr.pinned import Pinned

class Nobody(Pinned):
    def find(self):
        return ()

nobody = Nobody()
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
blind = [nobody.empty() for _ in range(5)]
os.close(taken.pop())
print(blind, [nobody.empty() for _ in range(2)])
"""


def test_who_cannot_look_does_not_say_that_nobody_is_left() -> None:
    """Without a descriptor nothing can be read of any process; all of them would pass for gone."""
    assert script_output(LOOKING_BLINDLY) == f"{[False] * 5} {[False, True]}\n"


def test_two_sweeps_at_once(tmp_path: Path) -> None:
    """Several programs may start at the same time: one tree, no error, nobody left."""
    with wreck(sh(FAMILY, tmp_path)) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        doomed.wreck()
        command = [sys.executable, "-c", "import servermgr; servermgr.sweep()"]
        sweepers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
        complaints = [sweeper.communicate(timeout=30.0)[1] for sweeper in sweepers]
        assert complaints == [b"", b"", b""]
        assert not any(map(is_alive, pids.values()))
        assert servermgr.recorded() == []


def test_an_empty_wreck_leaves_only_its_record(tmp_path: Path) -> None:
    """A record, a run's log and a stale pidfile whose processes are all gone."""
    pidfile = tmp_path / "pid"
    with wreck(sh(DAEMON, pidfile), pidfile=str(pidfile)) as doomed:
        pid = roles(tmp_path, "pid")["pid"]
        worker_is_recorded("wreck", pid)
        log = record_of("wreck").log
        assert log is not None
        assert os.path.exists(log)
        killed(doomed.nursery, doomed.guardian, pid)
        doomed.wreck()
        (swept,) = servermgr.sweep()
    assert (swept.verdict, swept.processes) == ("nothing left", ())
    assert servermgr.recorded() == []
    assert not os.path.exists(log)
    assert not pidfile.exists()


# ---- what is only looked at -----------------------------------------------------------------------------------


def test_a_dry_run_touches_nobody(tmp_path: Path) -> None:
    """It names everyone with the evidence, signals nobody, and leaves the record for the real one."""
    script = (
        'trap \'echo "$0" >>"$1/signals"\' TERM CONT HUP INT; sleep 60 & echo $! >"$1/child"; while :; do wait; done'
    )
    with wreck(sh(script, tmp_path)) as doomed:
        pids = roles(tmp_path, "child")
        doomed.wreck()
        (would,) = servermgr.sweep(dry_run=True)
        assert would.verdict == "would sweep"
        assert {evidence for evidence, _ in told(would).values()} == {"identity", "marker"}
        assert {done for _, done in told(would).values()} == {"found"}
        assert pids["child"] in told(would)
        assert all(map(is_alive, told(would)))
        assert record_of("wreck")
        assert not (tmp_path / "signals").exists()
        (swept,) = servermgr.sweep()
        assert set(told(swept)) == set(told(would))
    assert (tmp_path / "signals").exists(), "the trap does not work: then the above shows nothing"


def test_the_servers_of_a_living_owner_are_left_alone(tmp_path: Path) -> None:
    with owner(sh(FAMILY, tmp_path), options=QUICK | {"name": "living"}) as other:
        pids = roles(tmp_path, *FAMILY_ROLES)
        assert servermgr.sweep() == []
        assert record_of("living").owner.pid == other.process.pid
        assert all(map(is_alive, pids.values()))
    gone(*pids.values())
    until(lambda: servermgr.recorded() == [], "the end of the record")


def test_a_living_owner_without_a_guardian_is_left_alone(tmp_path: Path) -> None:
    """Nobody holds the tree but the owner's knowledge of it, and that is enough."""
    with wreck(sh(FAMILY, tmp_path)) as other:
        pids = roles(tmp_path, *FAMILY_ROLES)
        killed(other.nursery, other.guardian)
        assert servermgr.sweep() == []
        assert all(map(is_alive, pids.values()))


# ---- guardians that live --------------------------------------------------------------------------------------


def test_a_hung_guardian_is_woken(tmp_path: Path) -> None:
    """It is stopped, its owner dead, its nursery too: woken up, it ends its tree better than a sweep could."""
    with wreck(sh(FAMILY, tmp_path)) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        killed(doomed.nursery)
        os.kill(doomed.guardian, signal.SIGSTOP)
        until(lambda: state_of(doomed.guardian) == "T", "the guardian's stop")
        doomed.kill()
        time.sleep(GRACE)
        assert all(map(is_alive, pids.values()))
        (swept,) = servermgr.sweep()
    assert (swept.verdict, swept.processes) == ("ended by its guardian", ())
    assert not any(map(is_alive, (doomed.guardian, *pids.values())))
    assert servermgr.recorded() == []


def test_a_guardian_at_work_is_waited_for(tmp_path: Path) -> None:
    """Its server takes its time to end in order: the sweep comes back when that is done, and adds nothing."""
    script = """trap 'sleep 0.4; echo whole >"$1/data"; exit 0' TERM; echo up >"$1/up"; sleep 60 & wait"""
    with wreck(sh(script, tmp_path), crash_grace=10.0) as doomed:
        content(tmp_path / "up")
        doomed.kill()
        trees = servermgr.sweep()
        assert [tree.verdict for tree in trees] == ["ended by its guardian"]
        assert content(tmp_path / "data") == "whole"


# ---- kept servers ---------------------------------------------------------------------------------------------

#: A worker that says whether it was asked politely, and takes its child with it.
POLITE = (
    """trap 'echo polite >"$1/end"; kill $!; exit 0' TERM; sleep 60 & echo $! >"$1/child"; echo $$ >"$1/worker"; wait"""
)


def test_a_kept_server_outlives_its_owner_and_is_stopped_by_name(tmp_path: Path) -> None:
    """No sweep touches it while its guardian lives; it is listed; it ends in order when somebody says so."""
    with wreck(sh(POLITE, tmp_path), name="kept", keep=True, grace_period=10.0) as doomed:
        pids = roles(tmp_path, "child", "worker")
        doomed.kill()
        time.sleep(GRACE + 0.2)
        assert servermgr.sweep() == []
        assert all(map(is_alive, pids.values()))
        record = record_of("kept")
        assert record.keep
        assert not record.owner.is_alive()
        assert record.guardian.is_alive()
        assert record.worker is not None
        assert record.worker.pid == pids["worker"]
        (stopped,) = servermgr.stop("kept")
        assert stopped.verdict == "ended by its guardian"
        assert content(tmp_path / "end") == "polite"
        assert not any(map(is_alive, (doomed.guardian, *pids.values())))
        assert servermgr.recorded() == []
        gone(doomed.nursery)


def test_a_kept_server_outlives_an_owner_that_ends_in_order(tmp_path: Path) -> None:
    script = "import servermgr, sys\nservermgr.CommandManager(sys.argv[1:], name='kept', keep=True).start()"
    script_output(script, *sh(POLITE, tmp_path))
    pids = roles(tmp_path, "child", "worker")
    assert all(map(is_alive, pids.values()))
    servermgr.stop("kept")
    assert not any(map(is_alive, pids.values()))


def test_a_deaf_kept_server_is_killed_when_it_is_stopped_by_name(tmp_path: Path) -> None:
    with wreck(sh('trap "" TERM; echo $$ >"$1/worker"; exec sleep 60', tmp_path), name="deaf", keep=True) as doomed:
        worker = roles(tmp_path, "worker")["worker"]
        doomed.kill()
        (stopped,) = servermgr.stop("deaf")
        assert not is_alive(worker)
        assert stopped.seconds >= GRACE


def test_a_kept_server_whose_guardian_is_dead_is_left_over(tmp_path: Path) -> None:
    """Nobody holds it any more: that is not what keeping means."""
    with wreck(sh(FAMILY, tmp_path), keep=True) as doomed:
        pids = roles(tmp_path, *FAMILY_ROLES)
        doomed.wreck()
        (swept,) = servermgr.sweep()
        assert swept.verdict == "swept"
        assert not any(map(is_alive, pids.values()))


def test_a_living_owners_server_can_be_stopped_by_name(tmp_path: Path) -> None:
    """Whoever owns it; the owner sees it end."""
    manager = servermgr.CommandManager(sh(POLITE, tmp_path), name="mine")
    manager.start()
    roles(tmp_path, "child", "worker")
    (stopped,) = servermgr.stop("mine")
    assert stopped.verdict == "ended by its guardian"
    assert manager.process.wait(5.0) == 0
    assert manager.stop().survivors == ()


def test_an_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(servermgr.WorkerError, match="no running server is called 'x'; there are: none at all"):
        servermgr.stop("x")
    first, second = (servermgr.CommandManager(SLEEP, name=name) for name in ("one", "two"))
    with first, second, pytest.raises(servermgr.WorkerError, match="'x'; there are: one, two"):
        servermgr.stop("x")


# ---- by itself ------------------------------------------------------------------------------------------------

FIRST_START = """
import logging, os, sys, servermgr
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
for _ in range(2):
    manager = servermgr.CommandManager(["true"])
    manager.start(wait=False)
    print(os.path.exists("/proc/" + sys.argv[1]))
    manager.wait()
"""


def test_the_first_start_of_a_process_sweeps(tmp_path: Path) -> None:
    """Before its own server is started, what the run before it left is gone, and the log says so, once."""
    with wreck(sh("exec sleep 60"), name="left") as doomed:
        doomed.wreck()
        pid = doomed.told["pid"]
        done = run_script(FIRST_START, pid, check=True)
        assert not is_alive(pid)
    expected = f"servermgr WARNING left was left over by process {doomed.process.pid}, which is dead: swept\n"
    assert done.stderr == expected
    assert servermgr.recorded() == []


@pytest.mark.parametrize("off", ["off", "OFF", "0", "no"])
def test_the_sweep_of_the_first_start_can_be_switched_off(off: str) -> None:
    with wreck(sh("exec sleep 60"), name="left") as doomed:
        doomed.wreck()
        pid = doomed.told["pid"]
        done = run_script(FIRST_START, pid, check=True, env=script_environment(SERVERMGR_SWEEP=off))
        assert done.stderr == ""
        assert is_alive(pid)
        assert record_of("left")


def script_environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(servermgr.__file__))} | more


# ---- innocents ------------------------------------------------------------------------------------------------


def wrong(entry: census.Entry) -> list[Identity]:
    """Identities that have the bystander's number, and are not he."""
    real = Identity.of(entry.pid)
    assert real is not None
    wrongs = [real._replace(start=real.start - 1), real._replace(start=real.start + 1, serial=0)]
    return wrongs + ([real._replace(serial=real.serial + 1)] if real.serial else [])


@pytest.mark.parametrize("role", ["owner", "guardian", "worker"])
def test_a_reused_number_in_a_record_harms_nobody(role: str) -> None:
    """The number is a bystander's by now. As an owner he keeps nothing alive, as another nothing happens to him."""
    with census.innocents() as crowd:
        for entry in crowd:
            for identity in wrong(entry):
                path = plant(**{role: identity})
                (swept,) = servermgr.sweep()
                assert (swept.verdict, swept.processes) == ("nothing left", ())
                assert not os.path.exists(path)
        assert not crowd.harmed()


def test_a_pidfile_that_names_a_bystander_harms_nobody(tmp_path: Path) -> None:
    """A pidfile is a hint and no proof; and the file is not removed, for the bystander may have written it."""
    pidfile = tmp_path / "pid"
    with census.innocents() as crowd:
        for entry in crowd:
            pidfile.write_text(f"{entry.pid}\n")
            for worker in (None, *wrong(entry)):
                plant(pidfile=str(pidfile), worker=worker)
                (swept,) = servermgr.sweep()
                assert (swept.verdict, swept.processes) == ("nothing left", ())
                assert pidfile.exists()
        assert not crowd.harmed()


@pytest.mark.parametrize("text", ["0", "1", "-1", "9999999999", "99999999999999999999", "", "\n\n", "x", "1 2", "\0"])
def test_a_pidfile_of_nonsense_harms_nobody(text: str, tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(text)
    plant(pidfile=str(tmp_path / "pid"))
    (swept,) = servermgr.sweep()
    assert (swept.verdict, swept.processes) == ("nothing left", ())
    assert (tmp_path / "pid").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_a_pidfile_that_is_none_does_not_hold_up_the_sweep(make: object, tmp_path: Path) -> None:
    make(tmp_path / "pid")  # type: ignore[operator]
    plant(pidfile=str(tmp_path / "pid"))
    assert [swept.verdict for swept in servermgr.sweep()] == ["nothing left"]


def test_only_the_exact_marker_is_one() -> None:
    """Not a longer one, not a shorter one, not in another variable's value, not on a command line."""
    entry = f"SERVERMGR_TREE={MARKER}"
    environments = [
        {"SERVERMGR_TREE": MARKER + "0"},
        {"SERVERMGR_TREE": MARKER[:-1]},
        {"SERVERMGR_TREE": MARKER.upper()},
        {"SERVERMGR_TREE": f" {MARKER}"},
        {"SERVERMGR_TREE_2": MARKER},
        {"MY_SERVERMGR_TREE": MARKER},
        {"NOTE": entry},
        {"NOTE": f"a\n{entry}\nb"},
    ]
    others = [subprocess.Popen(SLEEP, env={"PATH": os.environ["PATH"], **own}) for own in environments]
    others.append(subprocess.Popen(["sh", "-c", "sleep 60 & wait; exit $0", entry], start_new_session=True))
    marked = subprocess.Popen(SLEEP, env={"PATH": os.environ["PATH"], "SERVERMGR_TREE": MARKER})
    try:
        plant()
        (swept,) = servermgr.sweep()
        assert [process.pid for process in swept.processes] == [marked.pid]
        assert [process.evidence for process in swept.processes] == ["marker"]
        assert marked.wait(5.0) == -signal.SIGTERM
        assert [process.poll() for process in others] == [None] * len(others)
    finally:
        os.killpg(others[-1].pid, signal.SIGKILL)
        for process in (*others, marked):
            process.kill()
            process.wait(5.0)


def test_a_record_of_the_sweeper_itself_harms_nobody() -> None:
    """Whoever sweeps is never among those that are ended, whatever a record says of it."""
    mine = Identity.of(os.getpid())
    with subprocess.Popen(SLEEP) as child:
        for role in ("guardian", "worker"):
            plant(**{role: mine})
            (swept,) = servermgr.sweep()
            assert swept.processes == ()
        assert child.poll() is None
        kill(child.pid)
    plant(owner=mine)
    assert servermgr.sweep() == []
    os.unlink(os.path.join(os.environ["SERVERMGR_LEDGER"], f"{MARKER}.json"))


def test_the_main_process_of_a_container_may_be_the_owner() -> None:
    """Number 1 owns servers there: they are seen by whoever looks, and left alone while it lives."""
    path = plant(owner=Identity.of(1), name="one")
    assert record_of("one").owner.pid == 1
    assert servermgr.sweep() == []
    os.unlink(path)


# ---- files of others ------------------------------------------------------------------------------------------


def test_a_record_cannot_have_files_of_others_removed(tmp_path: Path) -> None:
    """Only what is made like a run's own log is removed on the word of a record."""
    folder = tempfile.gettempdir()
    theirs = [os.path.join(folder, name) for name in ("precious.log", "servermgr-precious.txt", "servermgr-open.log")]
    theirs += [str(tmp_path / "servermgr-elsewhere.log"), f"{folder}/../{os.path.basename(folder)}/precious.log"]
    link, directory = os.path.join(folder, "servermgr-link.log"), os.path.join(folder, "servermgr-folder.log")
    own = os.path.join(folder, "servermgr-run-abcd1234.log")
    for path in (*theirs, own):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.chmod(theirs[2], 0o644)
    os.symlink(theirs[0], link)
    os.mkdir(directory, 0o700)
    try:
        for path in (*theirs, link, directory, own):
            plant(log=path, removes_log=True)
            servermgr.sweep()
        plant(log=theirs[0], removes_log=False)
        servermgr.sweep()
        assert [path for path in (*theirs, link, directory) if not os.path.lexists(path)] == []
        assert not os.path.exists(own)
    finally:
        os.rmdir(directory)
        for path in {link, *map(os.path.abspath, theirs)}:
            os.unlink(path)


def test_the_log_of_a_run_with_another_folder_for_temporary_files_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since the owner of the record stands in its name. One with another's name there is nobody's to remove."""
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        doomed = Wreck(SLEEP, "elsewhere", {})
    try:
        log = Path(record_of("elsewhere").log or "")
        assert log.parent == tmp_path
        doomed.wreck()
        theirs = Path(str(log).replace(f".{doomed.process.pid}.", f".{os.getpid()}."))
        os.close(os.open(theirs, os.O_CREAT | os.O_WRONLY, 0o600))
        plant(log=str(theirs), removes_log=True, owner=[doomed.process.pid, 1, 1])
        servermgr.sweep()
        assert (log.exists(), theirs.exists()) == (False, True)
    finally:
        doomed.wreck()
        doomed.close()


def test_a_log_that_the_user_asked_for_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with wreck(sh("echo hello; exec sleep 60"), output=str(log)) as doomed:
        until(lambda: log.exists() and log.read_text() == "hello\n", "the output")
        doomed.wreck()
        servermgr.sweep()
    assert log.read_text() == "hello\n"


def test_the_format_that_these_tests_plant_is_the_real_one() -> None:
    def kinds(record: dict[str, object]) -> dict[str, type]:
        return {name: type(value) for name, value in record.items() if name != "pidfile"}

    with servermgr.CommandManager(SLEEP, name="real"):
        first, later = Path(record_of("real").path).read_text().splitlines()
    real = json.loads(first)
    assert json.loads(later).keys() == {"worker", "session"}
    real |= json.loads(later)
    planted = fields(worker=[2, 1, 1], log="/x")
    assert list(planted) == list(real)
    assert kinds(planted) == kinds(real)
