"""The owner's end of the nursery: one helper process that makes guardians by fork.

Started with the first tree, replaced when it is lost or when this process has changed what a child inherits
(user, limits, umask, …), gone when this process is gone.
"""

from __future__ import annotations

import atexit
import functools
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.errors import GuardianError, describe_status
from servermgr.guardian import protocol
from servermgr.losses import say_lost
from servermgr.platform import abilities

if TYPE_CHECKING:
    from collections.abc import Sequence

# -I: no user site, no PYTHON* variables, no current directory on the path; our own folder comes last, so that
# nothing in it (servermgr/platform!) can stand before a module of the standard library.
_BOOT = "import sys; sys.path.append(sys.argv[1]); from servermgr.guardian.nursery import main; main()"
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_KEPT_ENVIRONMENT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "HOME",
    "TMPDIR",
    platform.CHOICE_VARIABLE,
)
_PATIENCE = 30.0

_lock = threading.Lock()
_current: _Nursery | None = None
_devnull = -1


class _Nursery:
    def __init__(self) -> None:
        self.facts = platform.process_facts()
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(_PATIENCE)
        try:
            self._launcher = _start(theirs)
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
        self._ready = False

    def send(self, message: protocol.Message, fds: Sequence[int]) -> None:
        protocol.send(self.socket, message, fds)
        self.settle()

    def settle(self) -> None:
        """See that it stands. Raises GuardianError if it does not."""
        if self._ready:
            return
        # The launcher ends as soon as the nursery proper has been forked off.
        _, complaint = self._launcher.communicate()
        if self._launcher.returncode != 0:
            # Not again by itself: it may have been killed just behind its fork, and its child have the order already.
            text = complaint.decode(errors="replace").strip() or describe_status(self._launcher.returncode)
            raise GuardianError(None, f"the guardian cannot be started by {sys.executable}: {text}")
        self._ready = True
        for loss in platform.losses():
            say_lost(loss)

    def close(self) -> None:
        self.socket.close()


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise GuardianError(
            None,
            "the guardian needs a Python interpreter, and sys.executable is empty here (an embedded interpreter?): "
            "set sys.executable to the path of one",
        )
    env = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    command = [sys.executable, "-I", "-S", "-c", _BOOT, _ROOT]
    try:
        return subprocess.Popen(  # our own interpreter and our own words
            command,
            stdin=control.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise GuardianError(error, f"the guardian cannot be started by {sys.executable}") from error


def warm() -> None:
    """Let the helper process start now, to be ready when a command is: it takes longer than all else in a start."""
    global _current  # noqa: PLW0603
    with _lock:
        if _current is None:
            _current = _Nursery()


def settle() -> None:
    """Wait until the helper process stands that `warm` has begun: until then a part of it is a child of ours."""
    with _lock:
        try:
            if _current is not None:
                _current.settle()
        except GuardianError:
            _retire()  # whoever needs it is told so, by the next one


def bear(message: protocol.Message, command_fds: Sequence[int]) -> socket.socket:
    """Make a guardian for the command of `message`; returns the socket on which it will speak.

    Raises:
        GuardianError: None can be had.
    """
    ours, theirs = socket.socketpair()
    owner = platform.open_pidfd(os.getpid())
    fds = [theirs.fileno(), *([owner] if owner >= 0 else []), *command_fds]
    try:
        identity = None if owner >= 0 else _own_identity(os.getpid())
        spec = protocol.pack({**message, "owner_pidfd": owner >= 0, "owner": identity})
        _send({"fds": len(fds), "spec": spec}, fds)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if owner >= 0:
            os.close(owner)
    return ours


@functools.lru_cache(maxsize=1)
def _own_identity(pid: int) -> tuple[int, int] | None:
    """Pid and creation time, for a guardian that has no descriptor to watch us by."""
    stat = platform.read_stat(pid)
    return None if stat is None else (pid, stat.start)


def _send(message: protocol.Message, fds: Sequence[int]) -> None:
    global _current  # noqa: PLW0603  # the one nursery of this process, guarded by the lock
    with _lock:
        if _current is not None and _current.facts != platform.process_facts():
            _retire()
        for attempt in range(2):
            if _current is None:
                _current = _Nursery()
            try:
                _current.send(message, fds)
            except (protocol.Closed, TimeoutError) as error:
                # It was killed since the last start. Its guardians hold their trees; a new one makes the next.
                _retire()
                if attempt:
                    raise GuardianError(error, "the helper that makes guardians ends as soon as it starts") from error
            except GuardianError:
                _retire()  # the next start is tried with a new one
                raise
            else:
                return


def _retire() -> None:
    global _current  # noqa: PLW0603
    if _current is not None:
        _current.close()
    _current = None


def say_scattered() -> None:
    """The guardian is no subreaper: say so where it should be one."""
    if abilities.DAEMONS in platform.ABILITIES:
        say_lost(
            "the guardian cannot become a child subreaper (is prctl(2) forbidden by a seccomp profile?): a process "
            "that leaves its parent, its session and its environment behind at once can leave its tree"
        )


def devnull() -> int:
    """A descriptor of the null device, kept open."""
    global _devnull  # noqa: PLW0603
    if _devnull < 0:
        _devnull = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return _devnull


def _after_fork() -> None:
    """In a fork of the owner: the nursery watches the parent, so it is no use here."""
    global _lock  # noqa: PLW0603  # another thread of the parent may have held it
    _lock = threading.Lock()
    _retire()


def _at_exit() -> None:
    """Close our socket, so that nobody is warned of it; runs after what ends the trees, which was registered later."""
    with _lock:
        _retire()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
