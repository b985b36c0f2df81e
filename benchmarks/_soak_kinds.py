"""The kinds of a cycle: each starts one to three servers, sees that they run, and stops them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import PATIENCE, PROGRAMS, SLEEP
from servermgr import CommandManager, Stack
from servermgr.base import Manager

#: Becomes a daemon in two forks, and writes its pid down.
_DAEMON = '(setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $! >"$0.new"; mv "$0.new" "$0") & wait'
_READY = ["/bin/sh", "-c", "echo ready; exec sleep 300"]

Kind = Callable[[Path], int]


def plain(_: Path) -> int:
    """One command."""
    return _run(CommandManager(SLEEP))


def daemon(folder: Path) -> int:
    """A daemon, held through its pidfile."""
    pidfile = folder / "daemon.pid"
    count = _run(CommandManager(["/bin/sh", "-c", _DAEMON, str(pidfile)], pidfile=pidfile))
    pidfile.unlink(missing_ok=True)
    return count


def stubborn(_: Path) -> int:
    """One that has to be killed."""
    return _run(
        CommandManager(["/bin/sh", "-c", "trap '' TERM; echo ready; sleep 300"], ready="log:^ready", grace_period=0)
    )


def probe(_: Path) -> int:
    """One whose start ends when it has said that it is ready."""
    return _run(CommandManager(_READY, ready="log:^ready"))


def port(folder: Path) -> int:
    """A listener on a leased port, which is ready when it accepts a connection."""
    words = [sys.executable, "-I", "-S", str(PROGRAMS / "listener.py"), "{port}", "0", str(folder / "stamp")]
    count = _run(CommandManager(words, port=0, ready="tcp://127.0.0.1:{port}"))
    (folder / "stamp").unlink(missing_ok=True)
    return count


class _Adopting(Manager):
    """As managers were written in 2010: a Popen is assigned, and adopted."""

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        self.process = subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL)


def adopted(_: Path) -> int:
    """A process that the manager did not start itself."""
    return _run(_Adopting())


def stack(_: Path) -> int:
    """Three, one of which needs the others."""
    one, two, three = (CommandManager(SLEEP) for _ in range(3))
    return 3 * _run(Stack(one, two, three, needs={three: [one, two]}))


def threads(_: Path) -> int:
    """Three at the same time, each in a thread of its own."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _run(CommandManager(SLEEP))
        except BaseException as failure:  # noqa: BLE001  # raised below, in the thread that judges
            failures.append(failure)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return 3


def leaky(_: Path) -> int:
    """A control, in no mixture: it keeps a descriptor, a thread's worth of memory, and a file."""
    os.dup(0)
    _HOARD.append(bytearray(os.urandom(1) * 65536))
    return plain(_)


_HOARD: list[bytearray] = []


def _run(manager: CommandManager | Manager | Stack) -> int:
    manager.start(timeout=PATIENCE)
    try:
        if isinstance(manager, Manager) and (manager.process is None or manager.process.poll() is not None):
            raise RuntimeError("the server does not run")
    finally:
        manager.stop()
    return 1


KINDS: dict[str, Kind] = {
    kind.__name__: kind for kind in (plain, daemon, probe, stubborn, port, adopted, stack, threads, leaky)
}
#: What is taken in turns unless one asks for others.
MIXTURE = ("plain", "daemon", "probe", "plain", "stubborn", "adopted", "stack", "port", "threads", "plain")
