"""A control group of version 2: what the kernel itself can do for one who may make them."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import time
from pathlib import Path

from benchmarks.peers import Order, Talk

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"'


def root() -> Path | None:
    """Where groups are made here; None: nowhere."""
    for path in ROOTS:
        if (path / "cgroup.controllers").exists():
            own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
            return path / own
    return None


def missing() -> str:
    """Why none can be made; empty if one can."""
    above = root()
    if above is None:
        return "no cgroup v2 is mounted"
    try:
        group = make(above)
    except OSError as error:
        return f"no cgroup can be made: {error.strerror}"
    has_kill = (group / "cgroup.kill").exists()
    group.rmdir()
    return "" if has_kill else "this kernel has no cgroup.kill"


def make(above: Path) -> Path:
    group = above / f"servermgr-bench-{secrets.token_hex(6)}"
    group.mkdir()
    return group


def hold(order: Order, talk: Talk) -> None:
    """Start the server in a group of its own, with a keeper who does not die with the owner."""
    above = root()
    assert above is not None
    group = make(above)
    _keep(group, order.grace)
    process = order.popen(entering(group, order.argv))
    talk(lambda: end(group, order.grace))
    process.poll()


def entering(group: Path, command: list[str]) -> list[str]:
    """A command that enters the group and becomes the other command."""
    return ["/bin/sh", "-c", _ENTER, str(group), *command]


def end(group: Path, grace: float) -> None:
    """Ask everyone in the group, then have the kernel kill it."""
    for pid in _members(group):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    _wait(group, grace)
    if _populated(group):
        (group / "cgroup.kill").write_text("1")
        if not _wait(group, grace):
            raise RuntimeError(f"left: {_members(group)}")
    with contextlib.suppress(OSError):
        group.rmdir()


def _keep(group: Path, grace: float) -> None:
    """Fork a process that ends the group when this one has ended."""
    owner = os.getpid()
    if os.fork() == 0:
        try:
            os.setsid()
            handle = os.pidfd_open(owner)
            select.select([handle], [], [], 300.0)
            with contextlib.suppress(FileNotFoundError, RuntimeError):
                end(group, grace)
        finally:
            os._exit(0)


def _members(group: Path) -> list[int]:
    try:
        return [int(word) for word in (group / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def _populated(group: Path) -> bool:
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def _wait(group: Path, seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while _populated(group):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.002)
    return True
