"""SIGTERM while tests use servers: the run ends as by Ctrl-C, fixtures are torn down, and then the signal is obeyed.

Without it pytest dies on the spot. The servers would be gone all the same, by their guardians; what the fixtures
wanted to put away would not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from servermgr._pytest_caretaker import outlast

if TYPE_CHECKING:
    from types import FrameType

    from servermgr.identity import Identity


class Terminated:
    """Handles SIGTERM from its making to `restore`, unless somebody else does already.

    A second SIGTERM ends the process at once.

    A worker of xdist goes on for some fifteen seconds when its controller has been killed, and its servers with it.
    Here that death counts as a SIGTERM. A SIGTERM for the worker alone ends it at once, as it always has: the
    controller puts another in its place.

    Args:
        controller: Whose worker this process is; None if it is none.

    Attributes:
        finishing: Whether tests and fixtures are over, so that nothing is left that should be interrupted.
    """

    def __init__(self, controller: Identity | None) -> None:
        self._controller = controller
        self._installed = False
        self._received = False
        self.finishing = False
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._handle)
            self._installed = True
            if controller is not None:
                threading.Thread(target=self._watch, args=(controller,), name="servermgr-watch", daemon=True).start()

    def _watch(self, controller: Identity) -> None:
        outlast(controller)
        if self._installed:
            os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._put_back()
        if self._controller is not None and self._controller.is_alive():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self._received = True
        if not self.finishing:
            pytest.exit("SIGTERM: the run is ended, and its servers are stopped")

    def _put_back(self) -> None:
        # Bound methods are equal, not identical. Somebody else's handler, set since, stays.
        if self._installed and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._installed = False

    def restore(self) -> None:
        """Put the handler back; if a SIGTERM has come, obey it now."""
        self._put_back()
        if self._received:
            sys.stdout.flush()
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGTERM)
