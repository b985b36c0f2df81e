"""The owner is killed: how long his server outlives him."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare
from benchmarks.processes import PATIENCE, environment, module, settle
from servermgr import platform as system

GOALS = (Goal("more", 2.0),)


def measure(plan: Plan) -> Iterator[Row]:
    """A server of one process, and one of ten."""
    yield _compare("a server of one process", 1, plan.rounds, GOALS)
    yield _compare("a server of ten processes", 10, plan.rounds, ())


def _compare(case: str, count: int, rounds: int, goals: Sequence[Goal]) -> Row:
    contenders = [
        Contender("servermgr", lambda _: _crash("servermgr", count), "ours"),
        Contender("PR_SET_PDEATHSIG, one child", lambda _: _crash("pdeathsig", 1), "reference"),
    ]
    return compare(case, contenders, rounds=rounds, goals=goals)


def _crash(method: str, count: int) -> float:
    command = module("owner", method, count)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as owner:
        try:
            assert owner.stdout is not None
            pids = [int(word) for word in owner.stdout.readline().split()]
            if len(pids) != count:
                raise RuntimeError(f"{command} has {len(pids)} processes instead of {count}")
            pidfds = [os.pidfd_open(pid) for pid in pids]
            try:
                return _kill(owner, pids, pidfds)
            finally:
                _let_go(pidfds)
        finally:
            owner.kill()


def _kill(owner: subprocess.Popen[bytes], pids: Sequence[int], pidfds: Sequence[int]) -> float:
    for pid in (owner.pid, *pids):
        settle(pid)
    began = time.perf_counter()
    owner.kill()
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    living = set(pidfds)
    while living:
        gone = poll.poll(PATIENCE * 1000)
        if not gone:
            raise TimeoutError(f"{len(living)} of {len(pidfds)} processes outlive their owner")
        for pidfd, _ in gone:
            poll.unregister(pidfd)
            living.discard(pidfd)
    return time.perf_counter() - began


def _let_go(pidfds: Sequence[int]) -> None:
    for pidfd in pidfds:
        system.signal_pidfd(pidfd, system.SIGKILL)  # only after a failure is there anybody
        os.close(pidfd)


MEASUREMENT = Measurement(
    "crash",
    "After the owner's SIGKILL",
    "From the owner's SIGKILL until the last process of its server has ended; the server exits at once on SIGTERM. The "
    "parent-death signal is a kernel's means for one direct child, without any of its descendants.",
    measure,
)
