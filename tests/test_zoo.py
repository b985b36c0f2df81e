"""The zoo's own test: each tree is as hostile as it says, the usual ways of ending it leak, and the census sees it.

Without this, a test that finds nobody left after `stop` might have looked at a harmless tree, or with closed eyes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import census
import pytest
import zoo
from zoo_kit import process_stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from census import Entry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the zoo is made of Linux's means of escape")


class Tree:
    """A tree started by a plain `Popen`, in a session of its own."""

    def __init__(self, name: str, roster: Path, *more: str, stdout: int = subprocess.DEVNULL) -> None:
        roster.mkdir(exist_ok=True)
        self.name = name
        self.roster = roster
        self.process = subprocess.Popen(
            census.command(name, roster, *more), stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True
        )

    def wait_ready(self) -> None:
        try:
            census.wait_ready(self.roster, process=self.process)
        except census.Impossible as reason:
            pytest.skip(str(reason))

    def having(self, role: str) -> list[Entry]:
        return [entry for entry in census.entries(self.roster) if entry.role == role]

    def one(self, role: str) -> Entry:
        (entry,) = self.having(role)
        return entry

    def below(self) -> list[Entry]:
        """All but the root."""
        return [entry for entry in census.entries(self.roster) if entry.role != "root"]

    def living_below(self) -> list[Entry]:
        return [entry for entry in census.living(self.roster) if entry.role != "root"]

    def end(self) -> None:
        census.cleanup(self.roster)
        if self.process.stdout:
            self.process.stdout.close()
        self.process.wait(10.0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Tree]]:
    """`start(name, *arguments)` is a tree; it is ended with the test."""
    trees: list[Tree] = []

    def start(name: str, *more: str, stdout: int = subprocess.DEVNULL) -> Tree:
        if zoo.SCENARIOS[name].needs_root and os.geteuid() != 0:
            pytest.skip(f"only root can build the tree {name}")
        trees.append(Tree(name, tmp_path / f"{len(trees)}", *more, stdout=stdout))
        return trees[-1]

    yield start
    for tree in trees:
        tree.end()


# ---- what the kernel says of a process ------------------------------------------------------------------------


def fields(entry: Entry) -> tuple[int, int, int]:
    """Parent, group, session."""
    stat = process_stat(entry.pid)
    assert stat is not None, f"{entry} is gone"
    return int(stat[2][1]), int(stat[2][2]), int(stat[2][3])


def parent(entry: Entry) -> int:
    return fields(entry)[0]


def read(entry: Entry, name: str) -> bytes:
    with open(f"/proc/{entry.pid}/{name}", "rb") as file:
        return file.read()


def status(entry: Entry, name: str) -> list[str]:
    lines = read(entry, "status").decode().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


def signals(entry: Entry, kind: str) -> set[int]:
    """Which signals it ignores (`SigIgn`) or catches (`SigCgt`)."""
    mask = int(status(entry, kind)[0], 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1}


def depth(pid: int, parents: dict[int, int]) -> int:
    """How many of the tree are above it."""
    above = parents[pid]
    return 1 + depth(above, parents) if above in parents else 0


# ---- what makes each tree hostile: true of the tree that stands -----------------------------------------------

POLITE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def is_orphan(tree: Tree, entry: Entry) -> bool:
    return parent(entry) not in {other.pid for other in census.entries(tree.roster)}


def has_own_session(entry: Entry) -> bool:
    return fields(entry)[2] == entry.pid


def unreadable(entry: Entry) -> bool:
    if os.geteuid() == 0:  # root reads everything; that the kernel gave the file to root is nothing to see here
        return True
    with pytest.raises(PermissionError):
        read(entry, "environ")
    return True


def deepest(tree: Tree) -> int:
    parents = {entry.pid: parent(entry) for entry in census.entries(tree.roster)}
    return max(depth(pid, parents) for pid in parents)


def beats(tree: Tree) -> bool:
    (first,) = census.heartbeats(tree.roster).values()
    time.sleep(0.5)
    (then,) = census.heartbeats(tree.roster).values()
    return int(then.split()[2]) > int(first.split()[2]) and then.split()[0] != first.split()[0]


def respawns(tree: Tree) -> bool:
    census.kill(tree.having("worker")[0])
    return eventually(lambda: len(tree.having("re-spawned worker")) == 1)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


HOSTILE: dict[str, Callable[[Tree], bool]] = {
    "tidy": lambda t: signal.SIGTERM in signals(t.one("root"), "SigCgt"),
    "plain": lambda t: deepest(t) == 2 and {fields(e)[1] for e in t.below()} == {t.process.pid},
    "ignores_term": lambda t: all(signals(e, "SigIgn") >= POLITE for e in census.entries(t.roster)),
    "setsid": lambda t: all(has_own_session(e) and parent(e) == t.process.pid for e in t.below()),
    "setpgid": lambda t: all(fields(e) == (t.process.pid, e.pid, t.process.pid) for e in t.below()),
    "double_fork": lambda t: all(is_orphan(t, e) and fields(e)[1] == t.process.pid for e in t.below()),
    "daemon": lambda t: all(
        is_orphan(t, e) and has_own_session(e) and read(e, "environ") == b"" and not os.listdir(f"/proc/{e.pid}/fd")
        for e in t.below()
    ),
    "stopped": lambda t: all(e.state == "T" for e in t.below()),
    "stopped_root": lambda t: t.one("root").state == "T",
    "ping_pong": beats,
    "wide": lambda t: len(t.having("one of many")) == 200 and deepest(t) == 1,
    "deep": lambda t: deepest(t) == 60,
    "term_spawner": lambda t: signal.SIGTERM in signals(t.one("root"), "SigCgt"),
    "prefork": lambda t: not POLITE & signals(t.one("root"), "SigIgn") and respawns(t),
    "prefork_ignores_term": lambda t: signals(t.one("root"), "SigIgn") >= POLITE and respawns(t),
    "crashed_root": lambda t: t.process.wait(10.0) == 1 and all(is_orphan(t, e) for e in t.below()),
    "holds_stdout": lambda t: t.process.wait(10.0) == 0 and all(is_orphan(t, e) for e in t.below()),
    "own_subreaper": lambda t: all(
        parent(e) == t.one("subreaper").pid and has_own_session(e) for e in t.having("orphan of the subreaper")
    ),
    "pid_namespace": lambda t: (
        status(t.one("init of the pid namespace"), "NSpid")[-1] == "1"
        and all(parent(e) == t.one("init of the pid namespace").pid for e in t.having("in the pid namespace"))
    ),
    "changed_uid": lambda t: status(t.one("changed uid"), "Uid") == ["65534"] * 4,
    "changed_title": lambda t: all(
        read(e, "cmdline").startswith(b"nginx: worker") and not read(e, "environ").strip(b"\0") for e in t.below()
    ),
    "not_dumpable": lambda t: all(is_orphan(t, e) and has_own_session(e) and unreadable(e) for e in t.below()),
    "zombie_leader": lambda t: all(e.state == "Z" for e in t.below()),
    "zombie_root": lambda t: t.one("root").state == "Z",
    "shell_pipeline": lambda t: all(parent(e) == t.process.pid for e in t.having("pipeline")),
    "nohup_disown": lambda t: signal.SIGHUP in signals(t.one("disowned"), "SigIgn"),
    "nohup_disown_exits": lambda t: t.process.wait(10.0) == 0 and is_orphan(t, t.one("disowned")),
    "clone_parent": lambda t: all(parent(e) == os.getpid() for e in t.below()),
    "mixed": lambda t: 1 < len(census.entries(t.roster)) <= 12,
}


@pytest.mark.parametrize("name", zoo.SCENARIOS)
def test_each_tree_stands_complete_and_is_as_hostile_as_it_says(name: str, start: Callable[..., Tree]) -> None:
    tree, scenario = start(name), zoo.SCENARIOS[name]
    tree.wait_ready()
    assert scenario.count in (None, len(census.entries(tree.roster)))
    if scenario.root_leaves:
        tree.process.wait(10.0)
    living = {entry.pid for entry in census.living(tree.roster)}
    assert {e.pid for e in census.entries(tree.roster)} - living == (
        {tree.process.pid} if scenario.root_leaves else set()
    )
    assert HOSTILE[name](tree)
    assert not census.ended_by_itself(tree.roster)


def leak(tree: Tree) -> list[Entry]:
    """Who is left, when those who are ending have ended; the root is not counted, a patient caller would kill it."""
    if zoo.SCENARIOS[tree.name].leaks_with_terminate:
        time.sleep(0.1)
        return tree.living_below()
    return census.wait_gone(tree.roster, 5.0)


@pytest.mark.parametrize("name", zoo.SCENARIOS)
def test_terminate_and_wait_leaves_processes_behind(name: str, start: Callable[..., Tree]) -> None:
    tree, scenario = start(name), zoo.SCENARIOS[name]
    tree.wait_ready()
    tree.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):  # some roots do not listen
        tree.process.wait(0.5 if scenario.leaks_with_terminate else 10.0)
    assert bool(leak(tree)) == scenario.leaks_with_terminate


@pytest.mark.parametrize("name", [name for name in zoo.SCENARIOS if zoo.SCENARIOS[name].leaks_with_killpg is not None])
def test_killing_the_group_leaves_those_behind_who_left_it(name: str, start: Callable[..., Tree]) -> None:
    tree, scenario = start(name), zoo.SCENARIOS[name]
    tree.wait_ready()
    os.killpg(tree.process.pid, signal.SIGKILL)
    tree.process.wait(10.0)
    if scenario.leaks_with_killpg:
        time.sleep(0.1)
        assert tree.living_below()
    else:
        assert census.wait_gone(tree.roster, 5.0) == []


def test_a_term_handler_spawns_a_daemon_that_the_census_sees(start: Callable[..., Tree]) -> None:
    tree = start("term_spawner")
    tree.wait_ready()
    tree.process.terminate()
    tree.process.wait(10.0)
    (daemon,) = census.living(tree.roster)
    assert daemon.role == "spawned by the TERM handler"
    assert signals(daemon, "SigIgn") >= POLITE


def test_stdout_stays_open_after_the_exit_of_the_root(start: Callable[..., Tree]) -> None:
    tree = start("holds_stdout", stdout=subprocess.PIPE)
    tree.wait_ready()
    assert tree.process.wait(10.0) == 0
    assert tree.process.stdout is not None
    assert not select.select([tree.process.stdout], [], [], 0.2)[0]
    census.cleanup(tree.roster)
    assert tree.process.stdout.read() == b""


def test_every_animal_ends_by_itself(start: Callable[..., Tree]) -> None:
    """Whatever becomes of a test, nothing of it stays: also not what is stopped, or respawns."""
    sizes = {"wide": 5, "deep": 5}
    possible = [name for name in zoo.SCENARIOS if os.geteuid() == 0 or not zoo.SCENARIOS[name].needs_root]
    trees = [start(name, "--life", "3", *(["--n", str(sizes[name])] if name in sizes else [])) for name in possible]
    for tree in trees:
        with contextlib.suppress(pytest.skip.Exception):
            tree.wait_ready()
    assert eventually(lambda: not any(census.living(tree.roster) for tree in trees), 25.0)
    chain = next(tree for tree in trees if tree.name == "ping_pong")
    assert census.ended_by_itself(chain.roster), "a storm that reached its own end says so"


@pytest.mark.parametrize("seed", range(6))
def test_mixed_trees_are_small_and_repeatable(seed: int, start: Callable[..., Tree]) -> None:
    one, other = (start("mixed", "--seed", str(seed)) for _ in range(2))
    for tree in (one, other):
        tree.wait_ready()
    roles = [sorted(entry.role for entry in census.entries(tree.roster)) for tree in (one, other)]
    assert roles[0] == roles[1]
    assert 1 < len(roles[0]) <= 12
