"""What the command lines of the servers share: run one until Ctrl-C or SIGTERM, and say what happened."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr.base import Manager

#: For the `--help` of a server's program, `server` being put in.
EXIT_STATUSES = """
exit status:
  0  stopped by Ctrl-C or SIGTERM, and nothing is left running
  1  {server} could not be started, or ended by itself
  2  the arguments cannot be used
"""


def serve(manager: Manager, ready: Callable[[], str], *, timeout: float | None = 10.0) -> int:
    """Run a server until Ctrl-C or SIGTERM. On true return nothing of it is left.

    Args:
        manager: Whose server to run.
        ready: Called once it is ready; what it returns is printed as one line.
        timeout: Seconds for it to become ready; None waits for ever.

    Returns:
        The exit status, 0.

    Raises:
        WorkerError: It could not be started, or ended by itself.
    """
    # As Ctrl-C, so that whoever stops this program stops the server in the same, tidy way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        manager.start(timeout=timeout)
        sys.stdout.write(f"{ready()} (Ctrl-C stops it)\n")
        sys.stdout.flush()
        outcome = manager.wait()
    except KeyboardInterrupt:
        manager.stop()  # has nothing left to do, unless the interrupt came between two lines above
        return 0
    log = manager.log_path
    kept = log if log is not None and os.path.exists(log) else None  # a private one is gone with the tree
    raise WorkerError(
        None, "ended by itself", name=manager.name, status=outcome.status, output=manager.output_tail(), log=kept
    )


def failed(error: object) -> int:
    """Say what is wrong; the exit status for it."""
    sys.stderr.write(f"error: {error}\n")
    return 1
