"""What a guardian does that is no subreaper: whom it remembers, whom it takes for its own, and whom never."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from contract_backends import BACKENDS
from contract_owner import SPAWNED
from contract_runs import PATIENCE, Process, Run

from servermgr.platform.stat import ProcessStat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POSIX = BACKENDS["posix"]
pytestmark = pytest.mark.skipif(bool(POSIX.here), reason=POSIX.here)


@contextlib.contextmanager
def running(tmp_path: Path, program: str, *words: str) -> Iterator[Run]:
    run = Run(tmp_path, program, POSIX.environment, 0)
    run.argv += words
    try:
        yield run
    finally:
        run.close()


@contextlib.contextmanager
def bystander(*words: str, orphan: bool = False) -> Iterator[Process]:
    """A process that nobody may touch. An orphan has the parent that the daemons of a server have."""
    sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", *words]
    if not orphan:
        process = subprocess.Popen(sleep)
        try:
            yield Process(process.pid, "bystander")
        finally:
            process.kill()
            process.wait()
        return
    code = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=2).pid)"
    done = subprocess.run([sys.executable, "-c", code, *sleep], stdout=subprocess.PIPE, check=True)
    process = Process(int(done.stdout), "bystander")
    try:
        yield process
    finally:
        process.kill()
        end = time.monotonic() + PATIENCE
        while process.alive and time.monotonic() < end:
            time.sleep(0.01)


def marker(run: Run) -> str:
    (record,) = (run.folder / "ledger").glob("*.json")
    return record.stem


def test_an_orphan_that_is_older_than_the_launch_is_not_taken_from_a_pidfile(tmp_path: Path) -> None:
    with bystander(orphan=True) as innocent:
        time.sleep(2.1)  # creation times are whole seconds here
        with running(tmp_path, "liar", "--names", str(innocent.process.pid)) as run:
            owner = run.start(SPAWNED, pidfile="server.pid")
            assert innocent.process.pid not in owner.say("listing")
            said = owner.say("stop")
            assert innocent.process.pid not in said["polite"] + said["killed"]
            assert run.settled() == {}
        assert innocent.alive


def test_whoever_has_a_parent_is_not_taken_from_a_pidfile(tmp_path: Path) -> None:
    """Born after the launch, but somebody's child: then that one has started it, and not the server."""
    with running(tmp_path, "family") as run:
        owner = run.start(SPAWNED, pidfile="server.pid")
        time.sleep(1.1)
        with bystander() as innocent:
            (run.roster / "server.pid").write_text(f"{innocent.process.pid}\n")
            time.sleep(0.5)
            assert innocent.process.pid not in owner.say("listing")
            owner.say("stop")
            assert run.settled() == {}
            assert innocent.alive


def test_whoever_names_the_marker_in_his_arguments_is_not_in_the_tree(tmp_path: Path) -> None:
    """ps(1) shows arguments and environment as one text."""
    with running(tmp_path, "family") as run:
        owner = run.start(SPAWNED)
        with bystander(f"SERVERMGR_TREE={marker(run)}") as innocent:
            owner.say("stop")
            assert run.settled() == {}
            assert innocent.alive


def test_who_was_seen_is_remembered_by_the_nursery_when_the_guardian_is_killed(tmp_path: Path) -> None:
    """Of this daemon nothing leads to the tree any more but the memory of its dead guardian."""
    for attempt in range(5):
        (folder := tmp_path / str(attempt)).mkdir()
        with running(folder, "slow_daemon") as run:
            run.start(SPAWNED)
            if run.role("daemon").process.pid not in run.owners[0].say("listing"):
                continue  # no reading fell into its second: they are rare where each takes long
            Process(run.told["guardian"], "guardian").kill()
            assert run.settled(PATIENCE) == {}
            return
    pytest.fail("it was seen at no attempt")


def test_without_having_been_seen_it_would_get_away(tmp_path: Path) -> None:
    """The control of the one above: the daemon that leaves at once is not listed, and lives on."""
    for attempt in range(5):
        (folder := tmp_path / str(attempt)).mkdir()
        with running(folder, "daemon") as run:
            run.start(SPAWNED)
            if run.role("daemon").process.pid in run.owners[0].say("listing"):
                continue  # a reading happened to fall between its start and the exit of its parent
            Process(run.told["guardian"], "guardian").kill()
            assert list(run.settled(3.0).values()) == ["daemon"]
            return
    pytest.skip("it was seen each time: this machine starts processes too slowly")


def test_an_owner_whose_socket_is_kept_open_by_a_fork_is_seen_to_be_dead(tmp_path: Path) -> None:
    """A fork that is not Python's own closes nothing; without a pidfd or kqueue(2) the guardian looks for itself."""
    with running(tmp_path, "family") as run:
        owner = run.start(SPAWNED)
        fork = owner.say("fork")
        try:
            owner.kill()
            assert run.settled(PATIENCE) == {}
            assert fork_lives(fork), "it has to hold the socket until the tree is gone"
        finally:
            Process(fork, "fork").kill()


def fork_lives(pid: int) -> bool:
    return Process(pid, "fork").alive


def test_a_program_of_the_tree_that_is_no_process_any_more_is_forgotten(tmp_path: Path) -> None:
    """The listing follows the tree down, too."""
    with running(tmp_path, "family") as run:
        owner = run.start(SPAWNED)
        assert set(owner.say("listing")) == {process.process.pid for process in run.processes}
        run.role("grandchild").kill()
        end = time.monotonic() + PATIENCE
        while run.role("grandchild").process.pid in owner.say("listing"):
            assert time.monotonic() < end
        owner.say("stop")


def grown(known: dict[int, tuple[int, int]], table: list[ProcessStat]) -> set[int]:
    """Whom one reading makes members, given those that are known already."""
    from servermgr.guardian.flock import Flock
    from servermgr.guardian.slate import Slate

    slate = Slate()
    flock = Flock(lambda: None, lambda *_: None, b"", slate)
    flock._table = {stat.pid: stat for stat in table}
    flock._grow(known, ())
    slate.close()
    return set(known)


def row(pid: int, ppid: int, session: int, *, state: str = "S") -> ProcessStat:
    return ProcessStat(pid, "x", state, ppid, session, session, 5)


FAR = 10_000_000  # no pid is so large


def test_a_session_that_a_member_has_left_proves_nothing_any_more() -> None:
    """Its number may be another session's by now. Of a member that is dead and not reaped it is remembered."""
    moved, stranger, child = row(FAR, 1, FAR + 7), row(FAR + 1, 1, FAR), row(FAR + 2, FAR, FAR + 7)
    assert grown({FAR: (5, FAR)}, [moved, stranger, child]) == {FAR, FAR + 2}
    assert grown({FAR: (5, FAR)}, [row(FAR, 1, 0, state="Z"), stranger]) == {FAR, FAR + 1}
    assert grown({FAR: (5, FAR)}, [row(FAR, 1, FAR), stranger]) == {FAR, FAR + 1}


def test_our_own_session_proves_nothing() -> None:
    """The guardian's and the nursery's: whoever is in it besides is none of the tree."""
    own = os.getsid(0)
    assert grown({FAR: (5, own)}, [row(FAR, 1, own), row(FAR + 1, 1, own)]) == {FAR}


def test_the_slate_holds_through_a_write_that_is_cut_short() -> None:
    from servermgr.guardian.slate import Slate

    slate = Slate()
    assert slate.read() == {}
    slate.write({1: (2, 3)})
    half = 1 - slate._memory[-1]
    slate._memory[half * 65536 : half * 65536 + 4] = b"\xff\xff\xff\xff"  # what a writer leaves that is killed here
    assert slate.read() == {1: (2, 3)}
    slate.write({4: (5, 6)})
    assert slate.read() == {4: (5, 6)}
    slate.write({pid: (pid * 1000, pid) for pid in range(10_000)})
    assert slate.read()[1999] == (1_999_000, 1999), "as many as there is room for"
    slate.close()
