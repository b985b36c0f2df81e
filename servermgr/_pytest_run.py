"""One test run of many processes: who takes part, which servers they share, and the end of those.

On disk, so that it outlives each of them: `runs/RUN/` beside the ledger's records, a directory of this user's own.
Its name says which process has started the run (xdist's controller), by identity.

| file | holds |
|---|---|
| `holders.json` | the workers that may use its servers, by identity |
| `KEY.json` | one shared server: what it is called in the ledger, and what the tests are told of it |

Such a server is started with `keep`, so that it outlives the worker that has started it. The controller cannot start
it in the worker's place, for it sees neither tests nor fixtures, and a guardian watches nobody but its starter.

The last worker to let go ends the servers; one that was killed holds nothing. What stands behind that, as the servers
have no owner whose death would end them: the controller ends what is left when it ends the run, and a caretaker
(`_pytest_caretaker`) does when the controller is killed. What all of them could not, the next run does that uses
servers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING

from servermgr import ledger, sweeping
from servermgr._pytest_workers import own_identity
from servermgr.errors import WorkerError
from servermgr.identity import Identity, realm

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

_FOLDER = "runs"
_LOCK = ".lock"
_HOLDERS = "holders.json"


class Run:
    """The shared state of one run.

    Args:
        folder: Where it is. Its name says who has started the run; see `run_of`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def controller(self) -> Identity:
        """The process that has started the run."""
        return _controller(os.path.basename(self.folder)) or Identity(0, 0)

    @property
    def name(self) -> str:
        """What the caretaker of the run is called in the ledger."""
        return f"pytest-run-{os.path.basename(self.folder)}"

    def lock(self) -> AbstractContextManager[object]:
        """Held while the state changes. Its holder's death frees it."""
        return _lock(self.folder + _LOCK)

    def lock_server(self, key: str) -> AbstractContextManager[object]:
        """Held while one server is started."""
        return _lock(os.path.join(self.folder, key + _LOCK))

    # --- holders ------------------------------------------------------------------------------------------------

    def hold(self) -> bool:
        """Take part. Returns whether this process is the first, with the lock held."""
        first = not os.path.isdir(self.folder)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        me = own_identity()
        self._write_holders([*(holder for holder in self._holders() if holder != me), me])
        return first

    def let_go(self) -> list[str]:
        """Take part no longer; the last one ends the servers. Returns what somebody should know."""
        if not os.path.isdir(self.folder):
            return []  # somebody has ended it: the caretaker, or a worker that did not see this one
        with self.lock():
            others = [holder for holder in self._holders() if holder != own_identity()]
            if others:
                self._write_holders(others)
                return []
            notes = self._end()
        if not self.controller.is_alive():
            self.forget()
        return notes

    def _holders(self) -> list[Identity]:
        """Those who live."""
        found = [Identity(*numbers) for numbers in _read(os.path.join(self.folder, _HOLDERS)) or ()]
        return [holder for holder in found if holder.is_alive()]

    def _write_holders(self, holders: list[Identity]) -> None:
        _write(os.path.join(self.folder, _HOLDERS), holders)

    # --- servers ------------------------------------------------------------------------------------------------

    def server(self, key: str) -> dict[str, Any] | None:
        """What is known of a server; None if nobody has started it yet."""
        found: dict[str, Any] | None = _read(os.path.join(self.folder, f"{key}.json"))
        return found

    def tell(self, key: str, data: dict[str, Any]) -> None:
        """Tell everyone about a server. `data["names"]` says what it, or each part of it, is called in the ledger."""
        _write(os.path.join(self.folder, f"{key}.json"), data)

    # --- the end ------------------------------------------------------------------------------------------------

    def end(self, *, caretaker: bool = False) -> list[str]:
        """End the servers of the run, whoever holds them. Returns what somebody should know.

        Args:
            caretaker: Whether it is the caretaker who asks, and ends by itself.
        """
        if not os.path.isdir(self.folder):
            return []
        with self.lock():
            return self._end(caretaker=caretaker)

    def _end(self, *, caretaker: bool = False) -> list[str]:
        if not os.path.isdir(self.folder):
            return []
        notes = []
        for name in self._names():
            notes += stop_recorded(name)
        shutil.rmtree(self.folder, ignore_errors=True)
        if not caretaker:
            notes += stop_recorded(self.name)
        return notes

    def _names(self) -> list[str]:
        """What the servers are called that are to be ended: the last one that was started comes first."""
        files = [entry for entry in os.scandir(self.folder) if entry.name.endswith(".json")]
        files.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        told = [_read(entry.path) or {} for entry in files if entry.name != _HOLDERS]
        return [name for data in told if not data.get("keep") for name in data.get("names", ())]

    def forget(self) -> None:
        """The run is over, and nobody comes any more: remove what is left of it on the disk."""
        if not os.path.isdir(self.folder):
            _unlink(self.folder + _LOCK)


def stop_recorded(name: str) -> list[str]:
    """End the server of that name, if it runs. Returns what somebody should know."""
    if not any(record.name == name for record in sweeping.recorded()):
        return []
    try:
        trees = sweeping.stop(name)
    except WorkerError:  # it has ended since
        return []
    return [f"{name}: {tree.verdict}: {tree.processes}" for tree in trees if tree.verdict == "survivors"]


# ---- where ---------------------------------------------------------------------------------------------------------


def run_of(uid: str, controller: Identity) -> Run:
    """The state of the run that `controller` has started and called `uid`.

    Raises:
        WorkerError: There is no private place for it.
    """
    folder = _folder()
    if folder is None:
        raise WorkerError(None, f"a run can share servers only with a ledger: set {ledger.DIRECTORY_VARIABLE}")
    return Run(os.path.join(folder, _name(uid, controller)))


def end_run(uid: str) -> list[str]:
    """For the controller: end what its run has shared, if anything. Returns what somebody should know."""
    folder = os.path.join(ledger.directory(), _FOLDER, _name(uid, own_identity()))
    return _ended(Run(folder)) if os.path.lexists(folder + _LOCK) else []


def sweep_runs() -> list[str]:
    """End the servers of runs whose controller is dead. Returns what somebody should know."""
    folder = os.path.join(ledger.directory(), _FOLDER)
    if not os.path.isdir(folder) or ledger.distrust(os.lstat(folder), directory=True):
        return []
    names = {name.removesuffix(_LOCK) for name in os.listdir(folder)}
    dead = [name for name in sorted(names) if (found := _controller(name)) is not None and not found.is_alive()]
    return [note for name in dead for note in _ended(Run(os.path.join(folder, name)))]


def _ended(run: Run) -> list[str]:
    notes = run.end()
    run.forget()
    return notes


def _name(uid: str, controller: Identity) -> str:
    return "-".join((_digest(uid), _digest(realm()), *map(str, controller)))


def _controller(name: str) -> Identity | None:
    """Who has started the run of that name; None where this cannot be told here, as in another container."""
    _, where, *numbers = [*name.split("-"), ""]
    if where != _digest(realm()) or len(numbers) < 3 or not all(number.isdigit() for number in numbers[:3]):
        return None
    return Identity(*map(int, numbers[:3]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _folder() -> str | None:
    above = ledger.prepare()
    if above is None:
        return None
    path = os.path.join(above, _FOLDER)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return None if ledger.distrust(os.lstat(path), directory=True) else path


def _lock(path: str) -> AbstractContextManager[object]:
    try:
        from filelock import FileLock  # noqa: PLC0415  # only runs of several processes need it
    except ImportError as error:
        raise WorkerError(
            error, "sharing a server between workers needs filelock: pip install servermgr[pytest]"
        ) from error
    return FileLock(path, mode=0o600)


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _write(path: str, data: object) -> None:
    partial = f"{path}.{os.getpid()}"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(data, file)
    os.replace(partial, path)  # whole or not at all: whoever writes may be killed


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
