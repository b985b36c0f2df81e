"""What is left when an owner, its nursery and its guardian die together; and records that nobody wrote for real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time
import uuid
from typing import TYPE_CHECKING, Any

from owners import Owner
from stand_ins import until
from zoo_kit import process_stat

import servermgr
from servermgr import identity, ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servermgr.ledger import Record

#: Seconds: what does not hear the polite signal is killed after it.
GRACE = 0.3
QUICK = {"grace_period": GRACE, "crash_grace": GRACE}
#: Of this run alone: another run on the machine must not find our processes, nor we theirs.
MARKER = uuid.uuid4().hex

#: A worker with a child, a child in a session of its own, and an orphan. Each writes its pid into the directory `$1`.
FAMILY = """
sleep 60 & echo $! >"$1/child"
setsid sleep 60 & echo $! >"$1/session"
(sleep 60 & echo $! >"$1/orphan")
echo $$ >"$1/worker"
wait
"""
FAMILY_ROLES = ("child", "session", "orphan", "worker")
#: A daemon that writes its pidfile (`$1`) and does not remove it when it ends; its launcher leaves at once.
DAEMON = """setsid sh -c 'echo $$ >"$1"; exec sleep 60' sh "$1" & exit 0"""


# ---- processes ------------------------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    """Whether a process of that pid runs; a zombie does not."""
    found = process_stat(pid)
    return found is not None and found[0] not in "ZX"


def state_of(pid: int) -> str:
    found = process_stat(pid)
    return found[0] if found else ""


def parent_of(pid: int) -> int:
    found = process_stat(pid)
    assert found is not None
    return int(found[2][1])


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def killed(*pids: int) -> None:
    """Kill them, in this order, and wait until they are gone."""
    for pid in pids:
        kill(pid)
    gone(*pids)


def gone(*pids: int) -> None:
    until(lambda: not any(map(is_alive, pids)), f"the end of {[pid for pid in pids if is_alive(pid)]}", 10.0)


def roles(directory: Path, *names: str) -> dict[str, int]:
    """The pids that the processes of a tree have written, by role; waits until all of them are there."""

    def look() -> dict[str, int]:
        texts = {name: (directory / name).read_text() for name in names if (directory / name).exists()}
        whole = len(texts) == len(names) and all(text.endswith("\n") for text in texts.values())
        return {name: int(text) for name, text in texts.items()} if whole else {}

    return until(look, f"the pids of {names}")


def record_of(name: str) -> Record:
    (found,) = [record for record in servermgr.recorded() if record.name == name]
    return found


def worker_is_recorded(name: str, pid: int) -> None:
    """Wait until the record of a daemonizing server has the daemon; before, it has the launcher."""

    def look() -> bool:
        worker = record_of(name).worker
        return worker is not None and worker.pid == pid

    until(look, "the daemon in the record")


# ---- wrecks ---------------------------------------------------------------------------------------------------


class Wreck(Owner):
    """An owner of one server, to be killed together with its guardian and nursery."""

    def __init__(self, argv: list[str], name: str, options: dict[str, Any]) -> None:
        super().__init__(argv, options={"name": name, "output": None} | QUICK | options)
        self.guardian: int = self.told["guardian"]
        self.nursery = parent_of(self.guardian)

    def wreck(self) -> None:
        """Kill nursery, guardian, owner: in this order none has the time to do anything about the one before."""
        killed(self.nursery, self.guardian)
        self.kill()


@contextlib.contextmanager
def wreck(argv: list[str], *, name: str = "wreck", **options: Any) -> Iterator[Wreck]:
    """Such an owner, alive; what is its own is gone when the block ends, and so is whatever carries its marker."""
    doomed = Wreck(argv, name, options)
    try:
        yield doomed
    finally:
        doomed.wreck()
        doomed.close()
        servermgr.sweep()


# ---- records --------------------------------------------------------------------------------------------------


def nobody() -> list[int]:
    """The identity of a process that is gone: this one's number with another creation time."""
    return [os.getpid(), 1, 1]


def fields(**changes: Any) -> dict[str, Any]:
    """A record as the library writes it, of a tree whose owner, guardian and worker are all gone."""
    return {
        "version": 1,
        "name": "planted",
        "marker": MARKER,
        "realm": identity.realm(),
        "owner": nobody(),
        "argv": ["planted"],
        "pidfile": None,
        "ports": [],
        "removes": [],
        "log": None,
        "removes_log": False,
        "keep": False,
        "stop_signal": 15,
        "grace_period": GRACE,
        "crash_grace": GRACE,
        "guardian": nobody(),
        "worker": None,
        "session": 0,
        "started": time.monotonic(),
    } | changes


def plant(**changes: Any) -> str:
    """Put a record into the ledger; returns its path."""
    content = fields(**changes)
    return plant_text(json.dumps(content), name=f"{content['marker']}.json")


def plant_text(text: str | bytes, *, name: str = f"{MARKER}.json", mode: int = 0o600) -> str:
    """The same with any content, under any name."""
    directory = ledger.directory()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    return path


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)
