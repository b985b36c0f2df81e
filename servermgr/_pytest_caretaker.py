"""A process that waits for the death of a run's controller, and then ends the servers that the run has shared.

Started below a guardian, with the first shared server; ended by name with the last one. As it descends from no
worker and is in a session of its own, what ends those does not end it.
"""

from __future__ import annotations

import os
import sys

from servermgr import platform
from servermgr.deadline import sleep
from servermgr.identity import Identity
from servermgr.pinned import pin

#: Seconds between two looks, where there is no event to wait for.
_PAUSE = 0.2
# Isolated, so that nothing where the tests run stands before a module of ours; then the paths by which this process
# has found its modules.
_BOOT = "import sys; sys.path += sys.argv.pop(1).split({sep!r}); from servermgr._pytest_caretaker import main; main()"


def command(folder: str, controller: Identity) -> list[str]:
    """The command line of a caretaker for the run in `folder`."""
    paths = os.pathsep.join(path for path in sys.path if path)
    boot = _BOOT.format(sep=os.pathsep)
    return [sys.executable, "-I", "-c", boot, paths, folder, *map(str, controller)]


def main() -> None:
    """Entry point of the process."""
    folder, *numbers = sys.argv[1:]
    outlast(Identity(*map(int, numbers)))
    from servermgr._pytest_run import Run  # noqa: PLC0415  # what it takes to end them, when it is needed

    run = Run(folder)
    run.end(caretaker=True)
    run.forget()


def outlast(process: Identity) -> None:
    """Wait until a process has ended."""
    held = pin(process.pid)
    if held is None:
        return
    try:
        while held.identity == process and held.is_alive():
            if held.pidfd >= 0:
                platform.wait_readable([held.pidfd], None)
            else:
                sleep(_PAUSE)
    finally:
        held.close()
