"""The owner of a contract's server, in a process of its own: `python contract_owner.py '{"way": …, "argv": …}'`.

Starts the server in the way it is told, says so in one JSON line, and obeys the words on standard input, one a line,
each answered by a JSON line. The environment says which backend is meant. For every system; the module is imported
again by the child of a `multiprocessing.Process`.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import contract_programs

import servermgr
import servermgr.base
from servermgr.errors import AddressInUseError

SPAWNED, POPEN, MULTIPROCESSING = "spawned", "Popen", "multiprocessing"
#: Seconds from the polite signal to the forced one.
GRACE = 1.0


class Adopted(servermgr.base.Manager):
    """A manager of the old kind: its `start` assigns a process that it has started by other means."""

    grace_period = GRACE

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(name="contract")
        self.order = order

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        if self.order["way"] == POPEN:
            self.process = subprocess.Popen(self.order["argv"], stdin=subprocess.DEVNULL)
            return
        words = self.order["argv"][self.order["argv"].index(contract_programs.__file__) + 1 :]
        child = multiprocessing.get_context("spawn").Process(target=contract_programs.main, args=(words,))
        child.start()
        self.process = child


def spawned(order: dict[str, Any]) -> servermgr.CommandManager:
    options = {"grace_period": GRACE, "crash_grace": GRACE, "name": "contract", **order.get("options", {})}
    return servermgr.CommandManager(order["argv"], **options)


def outcome(result: servermgr.StopOutcome) -> dict[str, Any]:
    return {
        "polite": [pid for pid, _ in result.polite],
        "killed": [pid for pid, _ in result.killed],
        "survivors": [str(survivor) for survivor in result.survivors],
        "status": result.status,
    }


def rival(port: int) -> str:
    try:
        servermgr.address_free_check("127.0.0.1", port)
    except AddressInUseError as error:
        return str(error)
    return "nobody is there"


def start_again(manager: Any) -> int | None:
    manager.start(wait=False)
    pid: int | None = manager.process.pid
    return pid


#: What can be asked for.
WORDS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "stop": lambda manager, _: outcome(manager.stop()),
    "wait": lambda manager, _: outcome(manager.wait()),
    "start": lambda manager, _: start_again(manager),
    "listing": lambda manager, _: [info.pid for info in manager.processes()],
    "rival": lambda _, order: rival(order["port"]),
    "fork": lambda *_: raw_fork(),
    "sweep": lambda *_: [[list(process) for process in tree.processes] for tree in servermgr.sweep()],
}


#: Has the kernel's lists of children be missing, which no mount and no filter can take away.
_HIDE = "import posixpath as p; _is = p.exists; p.exists = lambda x: not str(x).endswith('/children') and _is(x)"


def hide_children() -> None:
    """Here and in the guardian."""
    from servermgr import nursery

    exec(_HIDE, {})
    nursery._BOOT = f"{_HIDE}; {nursery._BOOT}"


def raw_fork() -> int:
    """A fork that Python knows nothing of, and which so keeps every descriptor of ours open."""
    import ctypes
    import time

    pid: int = ctypes.CDLL(None).fork()
    if pid == 0:
        time.sleep(60)
        ctypes.CDLL(None)._exit(0)
    return pid


def main() -> None:
    order = json.loads(sys.argv[1])
    if order.get("without_children"):
        hide_children()
    if order["way"] is not None:
        manager: Any = spawned(order) if order["way"] == SPAWNED else Adopted(order)
        manager.start(wait=False)
        process = manager.process
        records = servermgr.recorded()
        guarded = order["way"] == SPAWNED and records and records[-1].is_guarded
        guardian = records[-1].guardian.pid if guarded else None
        print(json.dumps({"pid": process.pid, "guardian": guardian}), flush=True)
    else:
        manager = None
    for line in sys.stdin:
        try:
            said = WORDS[line.strip()](manager, order)
        except servermgr.WorkerError as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
