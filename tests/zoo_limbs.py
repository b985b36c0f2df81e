"""The limbs of the zoo: each grows a hostile part below the calling process, and returns how many will register.

A limb comes back when nothing but those registrations is still to come: what must be stopped is stopped, what must
be an orphan is one.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import zoo_kit as kit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo_kit import Nest

#: The ping-pong chain ends by itself after so many seconds or forks, whichever comes first.
CHAIN_SECONDS = 60.0
#: Few enough that the pid table has room for all of them at once, where the reaping is slow or missing.
CHAIN_FORKS = 10_000
NOBODY = 65534


def plain(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.child("child", then=partial(nest.child, "grandchild"))
    return 2 * n


def stubborn(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.child("stubborn", kit.ignore_polite)
    return n


def setsid(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.child("own session", os.setsid)
    return n


def setpgid(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.child("own group", partial(os.setpgid, 0, 0))
    return n


def double_fork(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.orphan("orphan")
    return n


def daemon(nest: Nest, n: int) -> int:
    program = nest.sleeper("daemon")
    for _ in range(n):
        nest.orphan(None, os.setsid, kit.close_descriptors, then=partial(os.execve, program[0], program, {}))
    return n


def stopped(nest: Nest, n: int) -> int:
    stop = partial(kit.stop_self, nest.end - time.monotonic())
    in_group = [nest.child("stopped", then=stop) for _ in range(n)]
    in_session = nest.child("stopped in own session", os.setsid, then=stop)
    nest.until(lambda: all(state(pid) == "T" for pid in (*in_group, in_session)))
    return n + 1


def ping_pong(nest: Nest, n: int) -> int:
    for number in range(n):
        nest.child(None, then=partial(_chain, nest, number))
    nest.until(lambda: all(os.path.exists(nest.path(f"beat-{number}")) for number in range(n)))
    return 0


def _chain(nest: Nest, number: int) -> None:
    nest.end = min(nest.end, time.monotonic() + CHAIN_SECONDS)
    beat = os.open(nest.path(f"beat-{number}"), os.O_WRONLY | os.O_CREAT, 0o666)
    for generation in range(CHAIN_FORKS):
        os.setsid()
        stat = kit.process_stat("self")
        # Always as long as before, at the same place: a reader never finds the file empty.
        os.pwrite(beat, f"{os.getpid()} {stat[1] if stat else 0} {generation}".ljust(60).encode(), 0)
        if nest.over():
            break
        time.sleep(0.001)
        if os.fork():
            os._exit(0)
    if not nest.told():
        kit.write_atomically(nest.path(f"ended-{number}"), f"chain {number} ended by itself, generation {generation}")
    os._exit(0)


def wide(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.child("one of many")
    return n


def deep(nest: Nest, n: int) -> int:
    nest.child(f"{n} above the bottom", then=partial(deep, nest, n - 1) if n > 1 else None)
    return n


def own_subreaper(nest: Nest, n: int) -> int:
    def brood() -> None:
        for _ in range(n):
            nest.orphan("orphan of the subreaper", os.setsid)

    nest.child("subreaper", partial(kit.prctl, 36, 1), then=brood)  # PR_SET_CHILD_SUBREAPER
    return 1 + n


def pid_namespace(nest: Nest, n: int) -> int:
    new_pid, new_user = 0x20000000, 0x10000000
    flags = new_pid if os.geteuid() == 0 else new_pid | new_user
    try:
        kit.checked(kit.libc().unshare(flags), "unshare")
    except OSError as error:
        nest.impossible(f"no pid namespace for this user here: {error}")

    def brood() -> None:
        for _ in range(n):
            nest.orphan("in the pid namespace", os.setsid)

    nest.child("init of the pid namespace", os.setsid, then=brood)
    return 1 + n


def changed_uid(nest: Nest, n: int) -> int:
    if os.geteuid() != 0:
        nest.impossible("only root can change the uid")

    def change() -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)

    pids = [nest.child("changed uid", then=change) for _ in range(n)]  # registers first: it may not write afterwards
    nest.until(lambda: all(uid(pid) == NOBODY for pid in pids))
    return n


def changed_title(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.child("changed title", os.setsid, partial(kit.overwrite_title, b"nginx: worker process"))
    return n


def not_dumpable(nest: Nest, n: int) -> int:
    for _ in range(n):
        nest.orphan("not dumpable", os.setsid, partial(kit.prctl, 4, 0))  # PR_SET_DUMPABLE
    return n


def zombie_leader(nest: Nest, n: int) -> int:
    kit.syscall_numbers(nest)
    pids = [nest.child("zombie leader", then=partial(kit.exit_main_thread, nest)) for _ in range(n)]
    nest.until(lambda: all(state(pid) == "Z" for pid in pids))
    return n


def clone_parent(nest: Nest, n: int) -> int:
    clone, _ = kit.syscall_numbers(nest)
    libc = kit.libc()
    for _ in range(n):
        if kit.checked(libc.syscall(clone, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0), "clone") == 0:
            nest.live("sibling of its maker")
    return n


def state(pid: int) -> str | None:
    """The kernel's letter for its main thread; None when it is gone."""
    stat = kit.process_stat(pid)
    return stat[0] if stat else None


def uid(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Uid:"))


#: Limbs that `mixed` draws from, with how many processes of each register.
MIXABLE: tuple[tuple[Callable[[Nest, int], int], int], ...] = (
    (plain, 2), (stubborn, 1), (setsid, 1), (setpgid, 1), (double_fork, 1), (daemon, 1), (stopped, 2), (ping_pong, 0),
    (deep, 1), (own_subreaper, 2), (changed_title, 1), (not_dumpable, 1), (zombie_leader, 1), (clone_parent, 1),
)  # fmt: skip
