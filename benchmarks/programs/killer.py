"""Kills a tree without servermgr and prints the seconds: `killer METHOD COUNT [--sessions]`.

The tree's orphans come to this process, so that it can wait for them: as for whoever runs as process 1, or has made
himself a subreaper. Without that, the methods would wait for process 1, and measure how often that one reaps.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil

from benchmarks.harness import seconds
from benchmarks.peers import PEERS
from benchmarks.processes import PATIENCE, forest
from servermgr import platform

LIFETIME = 300


def main() -> None:
    method, count, flags = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    signal.alarm(LIFETIME)
    if not platform.become_subreaper():
        raise SystemExit("this kernel has no subreapers")
    command = forest(count, sessions="--sessions" in flags, ignore_term=True)
    took = OTHERS[method](command) if method in OTHERS else with_pids(METHODS[method], command)
    if reap_all():
        raise SystemExit("somebody was left")
    print(took)


def with_pids(method: Callable[[list[int]], None], command: list[str]) -> float:
    """Seconds that a method takes which is told the pids, the first of them the leader's."""
    root = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert root.stdout is not None
    pids = [root.pid, *map(int, root.stdout.readline().split()[1:])]
    root.stdout.readline()
    root.returncode = 0  # reaped below, not by the Popen
    return seconds(lambda: method(pids))


def by_mirakuru(command: list[str]) -> float:
    """It starts the tree itself, for it finds it by a variable that it has set."""
    executor = PEERS["mirakuru"].load().plain(command, PATIENCE, stdout=subprocess.PIPE)
    executor.start()
    while executor.process.stdout.readline() != "ready\n":
        pass

    def kill() -> None:
        executor.kill()
        reap_all()

    return seconds(kill)


def by_cgroup(command: list[str]) -> float:
    """The kernel's own means, for one who may make control groups."""
    cgroup = PEERS["cgroup"].load()
    group = cgroup.make(cgroup.root())
    root = subprocess.Popen(cgroup.entering(group, command), stdout=subprocess.PIPE)
    assert root.stdout is not None
    while root.stdout.readline() != b"ready\n":
        pass

    def kill() -> None:
        (group / "cgroup.kill").write_text("1")
        reap_all()

    try:
        return seconds(kill)
    finally:
        root.returncode = 0
        group.rmdir()


def kill_group(pids: list[int]) -> None:
    """The least that a kernel without control groups can do: one call, then a wait for each."""
    os.killpg(pids[0], signal.SIGKILL)
    reap_all()


def kill_each(pids: list[int]) -> None:
    """The same for one who knows every pid beforehand; no group has them all."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)  # our own descendants, none of them reaped yet
    reap_all()


def psutil_recipe(pids: list[int]) -> None:
    """What psutil's documentation advises for killing a process tree."""
    root = psutil.Process(pids[0])
    family = [*root.children(recursive=True), root]
    for process in family:
        process.kill()
    psutil.wait_procs(family)


def reap_all() -> int:
    """Wait until no child is left; returns how many there were."""
    count = 0
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return count
        count += 1


OTHERS = {"mirakuru": by_mirakuru, "cgroup": by_cgroup}
METHODS = {"group": kill_group, "each": kill_each, "psutil": psutil_recipe}

if __name__ == "__main__":
    main()
