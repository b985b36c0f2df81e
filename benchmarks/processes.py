"""The processes that measurements are made on: how they are started, and that none of them is left.

Each is bounded in itself, too: a program of `benchmarks/programs` ends after `LIFETIME` seconds whatever happens, so
that a measurement that is killed leaves nothing for long.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from servermgr import CommandManager
from servermgr import platform as system

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
#: Seconds for anything that is waited for, on the slowest machine.
PATIENCE = 60.0
#: A server in C that ends at once on SIGTERM. It ends by itself after five minutes.
SLEEP = ["sleep", "300"]


def program(name: str, *arguments: object) -> list[str]:
    """The command of a program that needs the standard library alone: it starts as quickly as Python can."""
    return [sys.executable, "-I", "-S", str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


def module(name: str, *arguments: object) -> list[str]:
    """The command of a program that uses servermgr or psutil; to be run with `environment()`."""
    return [sys.executable, "-m", f"benchmarks.programs.{name}", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's own, with the checkout importable, and without what would keep Python from its bytecode cache."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PYTHONPATH"] = str(ROOT)
    return env


def answer(command: list[str]) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        RuntimeError: It failed; the text has what it said.
    """
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{command} failed with status {run.returncode}: {run.stderr or run.stdout}")
    return run.stdout


def forest(count: int, *, arity: int = 0, sessions: bool = False, ignore_term: bool = False) -> list[str]:
    """The command of a tree of `count` sleeping processes; `arity` 0: all are children of the first."""
    flags = [*(["--sessions"] if sessions else []), *(["--ignore-term"] if ignore_term else [])]
    return program("forest", count, arity or count, *flags)


@contextlib.contextmanager
def held(command: list[str]) -> Iterator[CommandManager]:
    """Something of ours that prints `ready` and then stays for as long as the block runs."""
    manager = CommandManager(command, ready="log:^ready", grace_period=0)
    manager.start(timeout=PATIENCE)
    try:
        yield manager
    finally:
        manager.stop()


@contextlib.contextmanager
def crowd(count: int) -> Iterator[None]:
    """So many processes that have nothing to do with what is measured."""
    if count == 0:
        yield
        return
    with held(forest(count)):
        yield


@contextlib.contextmanager
def connected(count: int) -> Iterator[None]:
    """So many TCP connections, both ends of each held by other processes of this machine."""
    with contextlib.ExitStack() as stack:
        share = 400  # two descriptors each: below the usual limit of 1024
        for begin in range(0, count, share):
            stack.enter_context(held(program("connections", min(share, count - begin))))
        yield


@contextlib.contextmanager
def bare(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process without servermgr; killed at the end of the block if it runs still."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def settle(pid: int | None) -> None:
    """Wait until a process sleeps: it has started, and waits for what comes."""
    until(lambda: (stat := system.read_stat(pid or 0)) is not None and stat.state == "S", f"process {pid} to sleep")
    time.sleep(0.002)


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for a state.

    Raises:
        TimeoutError: It does not come.
    """
    give_up = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(0.001)


def free_port() -> int:
    """A port of the loopback interface that is free, below those which the system hands out by itself."""
    for _ in range(1000):
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise RuntimeError("no free port on the loopback interface")


def accepts(port: int) -> bool:
    """Whether somebody accepts a connection."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def same_processes(listed: list[int], root: int) -> bool:
    """Whether psutil sees the same tree below (and without) `root`."""
    return sorted(listed) == sorted(process.pid for process in psutil.Process(root).children(recursive=True))
