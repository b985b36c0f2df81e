"""The escape zoo: programs that build hostile process trees.

`python tests/zoo.py SCENARIO --roster DIR [--n N] [--seed S] [--life SECONDS]` builds one tree. Each of its
processes enters itself into DIR (file name: pid; content: pid, start time, role); the file `ready` says that the
whole tree stands, the file `impossible` (and exit status 77) that this host does not allow it, and why. `census.py`
reads the roster. Every animal dies by itself within `--life` seconds; storms also end when the file `stop` appears.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import zoo_kit as kit
import zoo_limbs as limbs
from zoo_kit import LIFE, Nest

#: A master re-spawns at most so many workers.
RESPAWNS = 500

# --- roots: each is the whole life of the tree's first process, which has registered already ---


def rooted(limb: Callable[[Nest, int], int], *, ignore: bool = False, status: int | None = None) -> Root:
    """A root that grows one limb and idles.

    Args:
        limb: What grows below it.
        ignore: Whether the root, and with it what it forks, ignores the polite signals.
        status: Exit status with which it leaves as soon as the tree stands; None: it stays.
    """

    def root(nest: Nest, n: int) -> None:
        if ignore:
            kit.ignore_polite()
        nest.ready(1 + limb(nest, n))
        if status is not None:
            os._exit(status)
        nest.idle()

    return root


def tidy(nest: Nest, n: int) -> None:
    """Takes its children down by itself, if it is asked and given the time."""
    pids = [nest.child("child of a tidy master") for _ in range(n)]

    def leave(*_: object) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        for pid in pids:
            os.waitpid(pid, 0)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    nest.ready(1 + n)
    nest.idle()


def stopped_root(nest: Nest, n: int) -> None:
    root = os.getpid()

    def announce() -> None:
        nest.until(lambda: limbs.state(root) == "T")
        nest.ready(1 + n)

    for number in range(n):
        nest.child("child of the stopped", then=None if number else announce)
    kit.stop_self(nest.end - time.monotonic())
    nest.idle()


def term_spawner(nest: Nest, n: int) -> None:
    def spawn(*_: object) -> None:
        kit.ignore_polite()  # a second TERM must not spawn a second one; and the daemon inherits it
        before = nest.registered()
        nest.orphan("spawned by the TERM handler", os.setsid)
        nest.until(lambda: nest.registered() > before, 5.0)
        os._exit(0)

    signal.signal(signal.SIGTERM, spawn)
    nest.ready(1)
    nest.idle()


def prefork(nest: Nest, n: int, *, ignore: bool = False) -> None:
    if ignore:
        kit.ignore_polite()
    for _ in range(n):
        nest.child("worker")
    nest.ready(1 + n)
    for _ in range(RESPAWNS):
        os.wait()  # comes back at the latest when the workers reach the end of their life
        if nest.over():
            break
        nest.child("re-spawned worker")
    nest.idle()


def zombie_root(nest: Nest, n: int) -> None:
    kit.syscall_numbers(nest)
    root = os.getpid()

    def announce() -> None:
        nest.until(lambda: limbs.state(root) == "Z")
        nest.ready(1 + n)

    for number in range(n):
        nest.child("child of the zombie leader", then=None if number else announce)
    kit.exit_main_thread(nest)


def shell_pipeline(nest: Nest, n: int) -> None:
    parts = [shlex.join(nest.sleeper("pipeline", announce=0 if i else 1 + n)) for i in range(n)]
    # The command after the pipeline keeps the shell from becoming its last part.
    os.execv("/bin/sh", ["sh", "-c", " | ".join(parts) + "; :"])


def nohup_disown(nest: Nest, n: int, *, leave: bool = False) -> None:
    bash = shutil.which("bash")
    if bash is None or shutil.which("nohup") is None:
        nest.impossible("bash and nohup are not both here")
    lines = [f"nohup {shlex.join(nest.sleeper('disowned'))} </dev/null >/dev/null 2>&1 & disown"] * n
    lines.append(shlex.join(nest.sleeper("" if leave else "foreground", announce=1 + n + (not leave))))
    os.execv(bash, [bash, "-c", "\n".join([*lines, ":"])])


def mixed(nest: Nest, n: int, *, seed: int = 0) -> None:
    """A random handful of limbs, at most `n` processes, below a root of random temper."""
    import random

    dice = random.Random(seed)
    if dice.random() < 0.3:
        kit.ignore_polite()
    count = 1
    for limb, size in dice.sample(limbs.MIXABLE, len(limbs.MIXABLE)):
        if count + size <= n:
            count += limb(nest, 1)
        if dice.random() < 0.15:
            break
    nest.ready(count)
    if dice.random() < 0.2:
        os._exit(1)
    nest.idle()


Root = Callable[[Nest, int], None]


@dataclass(frozen=True)
class Scenario:
    """One hostile tree, and what the two usual ways of ending it leave behind.

    Attributes:
        description: What is hostile about it.
        root: The life of its first process.
        count: How many processes are registered when it is ready; None: it depends.
        leaks_with_killpg: Whether `os.killpg(root, SIGKILL)` leaves somebody, the root being the leader of its own
            session; None: it depends.
        leaks_with_terminate: Whether `Popen.terminate(); wait()` leaves somebody.
        n: Its size, unless `--n` says otherwise.
        needs_root: Whether only root can build it.
        root_leaves: Whether the first process exits by itself once the tree stands.
    """

    description: str
    root: Root
    count: int | None
    leaks_with_killpg: bool | None
    leaks_with_terminate: bool = True
    n: int = 1
    needs_root: bool = False
    root_leaves: bool = False


SCENARIOS: dict[str, Scenario] = {
    "tidy": Scenario("a master that ends its children when asked", tidy, 3, False, leaks_with_terminate=False, n=2),
    "plain": Scenario("children and grandchildren", rooted(limbs.plain), 5, False, n=2),
    "ignores_term": Scenario("all ignore TERM, INT and HUP", rooted(limbs.plain, ignore=True), 5, False, n=2),
    "setsid": Scenario("children in sessions of their own", rooted(limbs.setsid), 3, True, n=2),
    "setpgid": Scenario("children in groups of their own", rooted(limbs.setpgid), 3, True, n=2),
    "double_fork": Scenario("orphans by double fork", rooted(limbs.double_fork), 3, False, n=2),
    "daemon": Scenario("double fork, setsid, no environment, no descriptors", rooted(limbs.daemon), 2, True),
    "stopped": Scenario("children stopped by SIGSTOP", rooted(limbs.stopped), 3, True),
    "stopped_root": Scenario("the root stopped by SIGSTOP", stopped_root, 2, False),
    "ping_pong": Scenario("forks and exits each millisecond, in new sessions", rooted(limbs.ping_pong), 1, True),
    "wide": Scenario("many children", rooted(limbs.wide), 201, False, n=200),
    "deep": Scenario("many generations", rooted(limbs.deep), 61, False, n=60),
    "term_spawner": Scenario("spawns a stubborn daemon when it gets TERM", term_spawner, 1, False),
    "prefork": Scenario("a master that re-spawns killed workers", prefork, 4, False, n=3),
    "prefork_ignores_term": Scenario(
        "the same, and all ignore TERM, INT and HUP", partial(prefork, ignore=True), 4, False, n=3
    ),
    "crashed_root": Scenario(
        "the root leaves orphans and exits 1", rooted(limbs.double_fork, status=1), 3, False, n=2, root_leaves=True
    ),
    "holds_stdout": Scenario(
        "an orphan keeps stdout open, the root exits", rooted(limbs.double_fork, status=0), 2, False, root_leaves=True
    ),
    "own_subreaper": Scenario("a subreaper with orphans below it", rooted(limbs.own_subreaper), 4, True, n=2),
    "pid_namespace": Scenario("a pid namespace with orphans in it", rooted(limbs.pid_namespace), 4, True, n=2),
    "changed_uid": Scenario("a child with another uid", rooted(limbs.changed_uid), 2, False, needs_root=True),
    "changed_title": Scenario("arguments, environment and name overwritten", rooted(limbs.changed_title), 2, True),
    "not_dumpable": Scenario("a daemon whose environment is unreadable", rooted(limbs.not_dumpable), 2, True),
    "zombie_leader": Scenario("a child whose main thread has exited", rooted(limbs.zombie_leader), 2, False),
    "zombie_root": Scenario("the root's own main thread has exited", zombie_root, 2, False),
    "shell_pipeline": Scenario("a shell pipeline", shell_pipeline, 4, False, n=3),
    "nohup_disown": Scenario("nohup, disown, and the shell waits", nohup_disown, 3, False),
    "nohup_disown_exits": Scenario(
        "nohup, disown, and the shell exits", partial(nohup_disown, leave=True), 2, False, root_leaves=True
    ),
    "clone_parent": Scenario("children made siblings by CLONE_PARENT", rooted(limbs.clone_parent), 2, False),
    "mixed": Scenario("a random handful of the above (--seed)", mixed, None, None, n=12),
}


def innocent(nest: Nest, kind: str) -> None:
    """Be a bystander that looks like the root of a tree, and takes note of every signal that it gets."""

    def note(number: int, _: object) -> None:
        kit.write_atomically(nest.path(f"harm-{os.getpid()}-{number}"), signal.Signals(number).name)

    def confirm(*_: object) -> None:
        kit.write_atomically(nest.path(f"heard-{os.getpid()}"), "all that was sent before this")

    # Of signals that wait, the kernel delivers the lowest number first, and Python runs the handlers in that order.
    signal.signal(kit.CONFIRM, confirm)
    for name in (*kit.POLITE, "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"):
        signal.signal(getattr(signal, name), note)
    if kind == "child":
        nest.live("innocent child")
    nest.orphan(f"innocent {kind}", *([os.setsid] if kind == "daemon" else []))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Build one hostile process tree.")
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--roster", required=True)
    parser.add_argument("--n", type=int, help="size of the tree; what it counts depends on the scenario")
    parser.add_argument("--seed", type=int, default=0, help="which of the mixed trees")
    parser.add_argument("--life", type=float, default=LIFE, help="seconds")
    parser.add_argument("--innocent", choices=("child", "group", "daemon"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    kit.default_signals()
    nest = Nest(os.path.abspath(options.roster), options.life)
    if options.innocent:
        innocent(nest, options.innocent)
        return
    scenario = SCENARIOS[options.scenario]
    nest.register("root")
    root = partial(mixed, seed=options.seed) if scenario.root is mixed else scenario.root
    root(nest, scenario.n if options.n is None else options.n)


if __name__ == "__main__":
    main()
