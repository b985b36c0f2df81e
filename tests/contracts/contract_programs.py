"""The servers of the contract: programs that build process trees, in plain Python, for every system.

`python -I -S contract_programs.py PROGRAM --roster DIR [--role ROLE] [--port N]`. Each process enters itself into DIR
(file `ROLE.pid`); the file `ready` says that the whole tree stands. No fork, nothing that one system has alone: what a
new session is on POSIX is a process detached from the console on Windows. Every process ends by itself after LIFE
seconds, and as soon as the file `over` appears in DIR.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds that any of these processes lives at most.
LIFE = 90.0
#: Seconds in which a tree must stand, on a busy machine.
PATIENCE = 30.0
#: The polite signals; on Windows the second is what CTRL_BREAK becomes.
POLITE = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK", "SIGINT", "SIGHUP") if hasattr(signal, name)]
#: Generations of a relay at most.
GENERATIONS = 2000


class Nest:
    """One process of a tree: where it registers, and whom it starts."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options = options
        self.roster = options["roster"]
        self.end = time.monotonic() + LIFE

    def path(self, name: str) -> str:
        return os.path.join(self.roster, name)

    def write(self, name: str, text: str = "") -> None:
        """Write the file so that nobody ever reads half of it."""
        draft = self.path(f"{name}.{os.getpid()}.draft")
        with open(draft, "w") as file:
            file.write(text)
        for _ in range(100):
            try:
                os.replace(draft, self.path(name))
            except PermissionError:  # Windows: somebody is reading the old one at this moment
                time.sleep(0.01)
            else:
                return

    def register(self, role: str) -> None:
        self.write(f"{role}.pid", str(os.getpid()))

    def ready(self) -> None:
        self.write("ready")

    def over(self) -> bool:
        return time.monotonic() > self.end or os.path.exists(self.path("over"))

    def until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > limit or self.over():
                raise SystemExit("the tree did not come up")
            time.sleep(0.005)

    def has(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def start(self, program: str, role: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start another process of this file, and come back at once."""
        words = [word for name, value in {**self.options, "role": role}.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-I", "-S", os.path.abspath(__file__), program, *words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)

    def start_and_see(self, program: str, role: str, **options: Any) -> subprocess.Popen[bytes]:
        process = self.start(program, role, **options)
        self.until(lambda: self.has(f"{role}.pid"))
        return process

    def idle(self) -> None:
        while not self.over():
            time.sleep(0.02)


def detached() -> dict[str, Any]:
    """`Popen` options for a process that leaves our session, and whose descriptors are its own."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if hasattr(os, "setsid"):
        return {**quiet, "start_new_session": True}
    flags = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    return {**quiet, "creationflags": flags}


def traceless() -> dict[str, Any]:
    """The same, without our environment. Windows cannot start a program without the one variable that is kept."""
    return {**detached(), "env": {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}}


def ignore_polite() -> None:
    for number in POLITE:
        signal.signal(number, signal.SIG_IGN)


# --- who a process can be ----------------------------------------------------------------------------------------


def idle(nest: Nest) -> None:
    """One that only lives."""
    nest.register(nest.options["role"])
    nest.idle()


def stubborn_idle(nest: Nest) -> None:
    """The same, and no polite signal moves it."""
    ignore_polite()
    idle(nest)


def middle(nest: Nest) -> None:
    """Has a child of its own."""
    nest.start_and_see("idle", "grandchild")
    idle(nest)


def leaver(nest: Nest) -> None:
    """Leaves as soon as its child stands."""
    nest.start_and_see("idle", "orphan")


def session_leaver(nest: Nest) -> None:
    """Leaves as soon as its child stands, which is in another session."""
    nest.start_and_see("idle", "orphan", **detached())


def daemon_leaver(nest: Nest) -> None:
    """Leaves its child, which has no environment of ours, at once."""
    nest.start("idle", "daemon", **traceless())
    os._exit(0)


def slow_daemon_leaver(nest: Nest) -> None:
    """Leaves such a child a second after it stands."""
    nest.start_and_see("idle", "daemon", **traceless())
    time.sleep(1.0)


def relay_runner(nest: Nest) -> None:
    """Starts its successor, says so, and leaves."""
    generation = int(nest.options.get("generation", "0"))
    nest.write("beat", f"{os.getpid()} {generation}")
    if generation >= GENERATIONS:
        nest.write("ran-out")
    elif not nest.over():
        nest.options["generation"] = str(generation + 1)
        nest.start("relay_runner", "runner", **detached())
    os._exit(0)


def pidfile_daemon(nest: Nest) -> None:
    """Writes its pid where a daemon does."""
    nest.register("daemon")
    nest.write("server.pid", f"{os.getpid()}\n")
    nest.ready()
    nest.idle()


# --- roots: the command itself -----------------------------------------------------------------------------------


def family(nest: Nest) -> None:
    """A child, and a child of that one."""
    nest.start_and_see("middle", "child")
    nest.ready()
    nest.idle()


def crash(nest: Nest) -> None:
    """The same, and the root ends by itself with status 3 as soon as it may."""
    nest.start_and_see("middle", "child")
    nest.ready()
    nest.until(lambda: nest.has("leave"))
    os._exit(3)


def stubborn(nest: Nest) -> None:
    """Nobody listens to polite signals."""
    ignore_polite()
    nest.start_and_see("stubborn_idle", "child")
    nest.ready()
    nest.idle()


def polite(nest: Nest) -> None:
    """Cleans up when it is asked to end."""

    def leave(*_: object) -> None:
        nest.write("goodbye")
        os._exit(0)

    for number in POLITE[:2]:
        signal.signal(number, leave)
    nest.start_and_see("idle", "child")
    nest.ready()
    nest.idle()


def root_of(program: str, last: str) -> Callable[[Nest], None]:
    """A root below which `program` leaves `last`."""

    def root(nest: Nest) -> None:
        nest.start(program, program).wait()
        nest.until(lambda: nest.has(f"{last}.pid"))
        nest.ready()
        nest.idle()

    return root


def relay(nest: Nest) -> None:
    """A chain of processes, each of which starts the next one and leaves."""
    nest.start("relay_runner", "runner", **detached()).wait()
    nest.until(lambda: nest.has("beat"))
    nest.ready()
    nest.idle()


def pidfile(nest: Nest) -> None:
    """A launcher that starts a daemon without any trace of ours, and leaves at once."""
    nest.start("pidfile_daemon", "daemon", **traceless())
    os._exit(0)


def liar(nest: Nest) -> None:
    """Writes a pidfile that names whom it is told to."""
    nest.write("server.pid", f"{nest.options['names']}\n")
    nest.ready()
    nest.idle()


def listener(nest: Nest) -> None:
    """Listens on a port."""
    import socket

    server = socket.socket()
    if hasattr(os, "setsid"):  # on Windows this option would let others take the port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", int(nest.options["port"])))
    server.listen()
    nest.ready()
    nest.idle()


PROGRAMS: dict[str, Callable[[Nest], None]] = {
    **{animal.__name__: animal for animal in (idle, stubborn_idle, middle, leaver, session_leaver, daemon_leaver)},
    **{animal.__name__: animal for animal in (slow_daemon_leaver, relay_runner, pidfile_daemon)},
}
ROOTS: dict[str, Callable[[Nest], None]] = {
    **{root.__name__: root for root in (family, crash, stubborn, polite, relay, pidfile, liar, listener)},
    "orphan": root_of("leaver", "orphan"),
    "session": root_of("session_leaver", "orphan"),
    "daemon": root_of("daemon_leaver", "daemon"),
    "slow_daemon": root_of("slow_daemon_leaver", "daemon"),
}


def main(words: list[str] | None = None) -> None:
    program, *rest = sys.argv[1:] if words is None else words
    options = {name[2:]: value for name, value in zip(rest[::2], rest[1::2], strict=True)}
    nest = Nest(options)
    if program in ROOTS:
        nest.register("root")
        ROOTS[program](nest)
    else:
        PROGRAMS[program](nest)


if __name__ == "__main__":
    main()
