"""The oracle's own test: the census tells the living from the dead, and notices any harm to a bystander."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import census
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the census reads Linux's /proc")

HARM = [
    (signal.SIGKILL, "is dead"),
    (signal.SIGSTOP, "is stopped"),
    (signal.SIGTERM, "got SIGTERM"),
    (signal.SIGHUP, "got SIGHUP"),
    (signal.SIGCONT, "got SIGCONT"),
]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The root of a plain tree, whose roster is `tmp_path`."""
    process = subprocess.Popen(census.command("plain", tmp_path), start_new_session=True)
    try:
        census.wait_ready(tmp_path, process=process)
        yield process
    finally:
        census.cleanup(tmp_path)
        process.wait(10.0)


def root_of(roster: Path) -> census.Entry:
    return next(entry for entry in census.entries(roster) if entry.role == "root")


def test_a_reused_pid_is_not_the_registered_process(plain: subprocess.Popen[bytes], tmp_path: Path) -> None:
    root = root_of(tmp_path)
    assert root.alive
    assert not replace(root, start=root.start - 1).alive


def test_kill_spares_a_process_that_only_has_the_pid(plain: subprocess.Popen[bytes], tmp_path: Path) -> None:
    root = root_of(tmp_path)
    census.kill(replace(root, start=root.start - 1))
    time.sleep(0.1)
    assert root.alive


def test_a_zombie_is_dead(plain: subprocess.Popen[bytes], tmp_path: Path) -> None:
    root = root_of(tmp_path)
    census.kill(root)
    os.waitid(os.P_PID, root.pid, os.WEXITED | os.WNOWAIT)
    assert root.state == "Z"
    assert not root.alive


def test_who_has_not_registered_is_seen_all_the_same(plain: subprocess.Popen[bytes], tmp_path: Path) -> None:
    root = root_of(tmp_path)
    (tmp_path / str(root.pid)).unlink()
    assert [entry for entry in census.living(tmp_path) if entry.pid == root.pid] == [replace(root, role="unregistered")]


def test_who_is_told_about_the_zoo_is_none_of_it(tmp_path: Path) -> None:
    """An owner or a guardian has the whole command among its own arguments."""
    program = [sys.executable, "-c", "import sys; sys.stdin.read()", *census.command("plain", tmp_path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE):
        assert census.living(tmp_path) == []


def test_cleanup_ends_a_tree_and_nobody_else(plain: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with census.innocents("plain") as crowd:
        census.cleanup(tmp_path)
        assert census.living(tmp_path) == []
        assert len(crowd) == 3
        assert all(entry.alive for entry in crowd)
    assert not any(entry.alive for entry in crowd)


def test_a_failing_zoo_is_noticed_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(census.command("plain", tmp_path, "--n", "none"), stderr=subprocess.DEVNULL)
    with pytest.raises(AssertionError, match="exited with 2"):
        census.wait_ready(tmp_path, 30.0, process=process)


def test_what_the_host_does_not_allow_is_told_from_a_failure(tmp_path: Path) -> None:
    (tmp_path / "impossible").write_text("no such thing here")
    with pytest.raises(census.Impossible, match="no such thing here"):
        census.wait_ready(tmp_path, 5.0)


def test_bystanders_stand_where_a_careless_killer_hits_them() -> None:
    with census.innocents("daemon") as crowd:
        places = {entry.role: (os.getpgid(entry.pid), os.getsid(entry.pid)) for entry in crowd}
        child, daemon = (next(e for e in crowd if e.role == f"innocent {kind}") for kind in ("child", "daemon"))
        assert places["innocent group"] == (os.getpgrp(), os.getsid(0))
        assert places["innocent child"] == (child.pid, child.pid)
        assert places["innocent daemon"] == (daemon.pid, daemon.pid)


@pytest.mark.parametrize("kind", ["child", "group", "daemon"])
@pytest.mark.parametrize(("harm", "text"), HARM)
def test_harm_to_a_bystander_is_noticed(kind: str, harm: signal.Signals, text: str) -> None:
    with pytest.raises(AssertionError, match=f"innocent {kind} {text}"):  # noqa: PT012, SIM117  # the exit raises
        with census.innocents() as crowd:
            victim = next(entry for entry in crowd if entry.role == f"innocent {kind}")
            os.kill(victim.pid, harm)


def test_a_failure_inside_is_not_hidden_by_the_bystanders() -> None:
    with pytest.raises(RuntimeError, match="the test's own"), census.innocents():
        raise RuntimeError("the test's own")
