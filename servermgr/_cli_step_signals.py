"""Signals around a step: what its command inherits, what is passed on to it, and who has got one already."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

assert sys.platform != "win32"  # chosen by _cli_run, which asks whether trees can be held here

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Seconds for the witness, which has nothing else to do, to answer.
_WITNESS_PATIENCE = 1.0
#: Not passed on: what cannot be caught, what says that this very process is broken, what the kernel tells of our own
#: children, and what stops (the shell's job control means this process, too, and stops it as it stops the command).
_KEPT = frozenset(
    getattr(signal, name)
    for name in (
        *("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGTSTP", "SIGTTIN", "SIGTTOU"),
        *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT", "SIGSYS", "SIGPIPE", "SIGXFSZ"),
    )
    if hasattr(signal, name)
)
#: Python ignores these for itself, whatever its parent did.
_PYTHONS_OWN = frozenset((signal.SIGPIPE, signal.SIGXFSZ))


def passed_on() -> frozenset[int]:
    """Every signal that the command is to have."""
    return frozenset(map(int, signal.valid_signals() - _KEPT))


class Manners(NamedTuple):
    """How a process takes signals when it begins.

    Attributes:
        ignored: What it ignores: `nohup` and the `&` of a script say so.
        mask: What it blocks.
    """

    ignored: frozenset[int]
    mask: frozenset[int]

    def assume(self) -> None:
        """In the fork that becomes the command: take signals so, and no otherwise."""
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN if number in self.ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)


def inherited() -> Manners:
    """How this process was told to take signals, and with it the command."""
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return Manners(frozenset(map(int, ignored - _PYTHONS_OWN)), frozenset(map(int, mask)))


def block_all() -> None:
    """From here on whatever comes has to wait."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


class Wake:
    """As long as it is entered, signals do nothing but make a descriptor readable.

    Args:
        numbers: Which; others do what they did.

    Attributes:
        fd: Readable when one has come.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        self._before: dict[int, Any] = {}
        self._fd_before = -1
        self.fd, self._told = -1, -1

    def __enter__(self) -> Wake:
        self.fd, self._told = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._told, False)
        self._fd_before = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _nothing) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self.fd)
        os.close(self._told)

    def numbers(self) -> list[int]:
        """Which have come since the last call, each once, in their order."""
        try:
            return list(dict.fromkeys(os.read(self.fd, 4096)))
        except BlockingIOError:
            return []


def _nothing(*_: object) -> None:
    """The number has been written to the descriptor before this is called."""


class Witness:
    """A process of our own group that blocks every signal, and so can tell which ones the whole group has got.

    Ctrl-C, the end of the terminal, `kill %1` of a shell: the command has these already, and must not get them twice.
    A `kill` of this process alone it has not. Only another member of the group can tell the two apart: the kernel
    signals the youngest members of a group first, so the witness, which is younger than this process, has its signal
    already when this process wakes up.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_WITNESS_PATIENCE)
        # Blocked before the fork: one that is sent while the witness has not begun yet would else be lost on it.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        self._pid = os.fork()
        if self._pid == 0:
            _testify(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def has(self, number: int) -> bool:
        """Whether the signal, which this process has got, went to the whole group."""
        try:
            self._socket.send(bytes([number]))
            return self._socket.recv(1) == b"\1"
        except OSError:  # somebody has killed it: then the command rather gets a signal twice than not at all
            return False

    def close(self) -> None:
        """Dismiss it, and wait until it is gone."""
        self._socket.close()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # reaped already, with all that ends here


def _testify(asked: socket.socket) -> None:
    """In the fork: say of each number whether it is pending, and take it back."""
    try:
        let_go((asked.fileno(),))
        while number := asked.recv(1):
            pending = number[0] in signal.sigpending()
            if pending:
                signal.sigwait(number)
            asked.send(b"\1" if pending else b"\0")
    finally:
        os._exit(0)


def let_go(keep: Iterable[int]) -> None:
    """In a fork: hold nothing that is the command's or the parent's, so that their readers see the end in time."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd, inheritable=False)
    kept = set(keep)
    for fd in open_descriptors():
        if fd > 2 and fd not in kept:
            close_quietly(fd)


def open_descriptors() -> list[int]:
    """The descriptors of this process."""
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # no /proc is mounted there
        return list(range(min(4096, os.sysconf("SC_OPEN_MAX"))))


def close_quietly(fd: int) -> None:
    """Close a descriptor that may be closed already (that of the listing itself)."""
    try:
        os.close(fd)
    except OSError:
        pass
