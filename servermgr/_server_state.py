"""Whether a manager's server runs: asked before a start and before a question, in the same words everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from servermgr.base import Manager


def refuse_second(manager: Manager) -> None:
    """Refuse to start what runs already, before the files of the one that runs are written again.

    Raises:
        WorkerError: It runs.
    """
    if manager.process is not None:
        raise WorkerError(None, "a process is running already: stop it first", name=manager.name)


def running(manager: Manager) -> Any:
    """The process object of a server that runs.

    Raises:
        WorkerError: It does not run.
    """
    process = manager.process
    if process is None or process.poll() is not None:
        raise WorkerError(None, "it does not run", name=manager.name)
    return process
