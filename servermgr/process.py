"""The worker of a tree below a guardian, readable like a `subprocess.Popen`."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from servermgr import platform

if TYPE_CHECKING:
    from servermgr.tree import Tree


class WorkerProcess:
    """The worker's process. What is done to it is done to the worker alone; a manager's `stop` ends the tree.

    Attributes:
        args: The command.
    """

    def __init__(self, tree: Tree, args: list[str]) -> None:
        self._tree = tree
        self._owner = os.getpid()
        self.args = args

    @property
    def pid(self) -> int | None:
        """The worker's pid, also after it has ended; None until a daemonizing server has written its pidfile.

        After a server has replaced itself it is that of the new process.
        """
        if self._owner == os.getpid():  # a fork has only what was known before
            self._tree.wait_worker(0.0)
        return self._tree.pid

    @property
    def returncode(self) -> int | None:
        """Its status as it was last heard: 0 and above an exit status, below 0 a signal, None while it runs.

        255 if it ended where its status could not be read (a daemon that was not the guardian's own child).
        """
        return self._tree.status

    def poll(self) -> int | None:
        """Look whether the worker has ended; returns `returncode`."""
        self._tree.wait_worker(0.0)
        return self._tree.status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the worker to end and return its status. The rest of the tree may live on.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            subprocess.TimeoutExpired: It runs still.
        """
        if not self._tree.wait_worker(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        status = self._tree.status
        assert status is not None  # what wait_worker returned true for
        return status

    def send_signal(self, sig: int) -> None:
        """Send a signal to the worker. Nothing happens once it has ended; that is never somebody else's pid."""
        self._tree.send_signal(int(sig))  # not the enum, which does not cross to the guardian

    def terminate(self) -> None:
        """Send SIGTERM to the worker."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the worker."""
        self.send_signal(platform.SIGKILL)

    def __repr__(self) -> str:
        return f"<WorkerProcess pid={self.pid} returncode={self.returncode} args={self.args!r}>"
