"""The guard of a step: the process between `servermgr run` and the command, which outlives both by a moment.

It stands in a session of its own, so that what is sent to the step's process group, SIGKILL included, does not reach
it; the command was forked before, and stays where `servermgr run` is: in its session, its group, on its terminal.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

assert sys.platform != "win32"  # see _cli_step_signals

from servermgr import platform
from servermgr._cli_step_launch import Waiting
from servermgr._cli_step_signals import Manners, Wake, block_all, let_go
from servermgr._cli_step_tree import StepTree, is_stopped
from servermgr.deadline import Deadline
from servermgr.guardian import protocol
from servermgr.guardian.record import Record
from servermgr.tree import CRASH_GRACE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


#: Seconds for the owner to stop, or to go on, with its group.
_JOB_PAUSE = 0.02


class Order(NamedTuple):
    """What a guard is told.

    Attributes:
        argv, env: The command and its environment.
        manners: How it takes signals.
        timeout: Seconds for all of it; None for no limit.
        grace: Seconds from the polite signal to the forced one.
        record: Where the ledger has its record; empty for none.
        draft: The beginning of that.
        trace: Whether to tell of each signal and each end of a process.
    """

    argv: Sequence[bytes]
    env: dict[bytes, bytes]
    manners: Manners
    timeout: float | None
    grace: float
    record: bytes
    draft: bytes
    trace: bool


def start(order: Order) -> tuple[int, socket.socket]:
    """Fork a guard for the command. Returns its pid, and the socket on which it speaks."""
    ours, theirs = socket.socketpair()
    owner = os.getpid()
    owner_pidfd = platform.open_pidfd(owner)
    pid = os.fork()
    if pid == 0:
        _be(order, theirs, owner, owner_pidfd)
    theirs.close()
    if owner_pidfd >= 0:
        os.close(owner_pidfd)
    return pid, ours


def _be(order: Order, theirs: socket.socket, owner: int, owner_pidfd: int) -> NoReturn:
    status = 1
    try:
        gc.disable()  # a collection would copy every page that the forks share
        block_all()
        platform.become_subreaper()
        waiting = Waiting(order.argv, order.env, order.manners)
        os.setsid()
        let_go((theirs.fileno(), owner_pidfd, *waiting.descriptors))
        os.chdir("/")
        platform.set_process_name("servermgr-step")
        with Wake((signal.SIGCHLD, signal.SIGTERM)) as wake:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD, signal.SIGTERM))
            Guard(order, theirs, owner, owner_pidfd, wake).hold(waiting)
        status = 0
    finally:
        os._exit(status)  # nothing may return into the caller, whose process this is a copy of


class Guard:
    """Holds the tree of one step, and ends with it.

    Args:
        order: What to do.
        theirs: The socket to the owner.
        owner: The owner's pid.
        owner_pidfd: Readable once the owner has ended; -1 where there are none.
        wake: Notes SIGCHLD and SIGTERM.
    """

    def __init__(self, order: Order, theirs: socket.socket, owner: int, owner_pidfd: int, wake: Wake) -> None:
        self._order = order
        self._socket = theirs
        self._socket.settimeout(5.0)  # an owner that is stopped must not hold us up for ever
        self._reader = protocol.Reader(theirs)
        self._owner = owner
        self._owner_pidfd = owner_pidfd
        self._wake = wake
        self._record = Record(order.record, order.draft)
        self._job: tuple[bool, Deadline] | None = None
        self._continued = Deadline(0.0)

    def hold(self, waiting: Waiting) -> None:
        """Let the command begin, and hold its tree until nobody of it is left."""
        try:
            self._hold(waiting)
        except Exception as error:
            # A fault of ours: the owner must hear of it, for he is the second net.
            self._tell({"is": "crashed", "text": f"{type(error).__name__}: {error}"})
            raise

    def _hold(self, waiting: Waiting) -> None:
        self._record.write(0, 0)
        failure = waiting.begin()
        if failure:
            self._tell({"is": "failed", "errno": failure})
            self._record.remove()
            return
        self._record.write(waiting.pid, os.getpgid(0))
        self._tell({"is": "launched", "pid": waiting.pid, "guard": os.getpid()})
        self._follow(waiting.pid)
        self._record.remove()
        if is_stopped(self._owner):
            self._signal_owner(signal.SIGCONT)  # it has to hear how this ended

    def _follow(self, pid: int) -> None:
        order = self._order
        limits = order.timeout, order.grace
        tree = StepTree(pid, self._tell, limits=limits, on_job=self._job_changed, trace=order.trace)
        poll = self._watched()
        due = tree.advance()
        while not tree.finished:
            dues = [seconds for seconds in (due, self._follow_job()) if seconds is not None]
            ready = {fd for fd, _ in poll.poll(max(1.0, min(dues) * 1000) if dues else None)}
            if self._wake.fd in ready and signal.SIGTERM in self._wake.numbers():
                tree.stop(order.grace)  # from `servermgr stop`
            if self._socket.fileno() in ready and not self._hear(tree):
                poll.unregister(self._socket.fileno())
                tree.stop(min(order.grace, CRASH_GRACE))
            if self._owner_pidfd in ready:
                poll.unregister(self._owner_pidfd)
                tree.stop(min(order.grace, CRASH_GRACE))
            due = tree.advance()

    def _watched(self) -> select.poll:
        poll = select.poll()
        for fd in (self._wake.fd, self._socket.fileno(), self._owner_pidfd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        return poll

    def _hear(self, tree: StepTree) -> bool:
        """Obey the owner; False once he is gone."""
        try:
            commands = self._reader.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except protocol.Closed:
            return False
        for command in commands:
            if command["do"] != "signal":
                tree.stop(0.0)
            elif command["signal"] != signal.SIGCONT or self._continued.expired:  # else it is the one that we have sent
                tree.signal(command["signal"])
        return True

    # --- job control --------------------------------------------------------------------------------------------

    def _job_changed(self, stopped: bool) -> None:
        # As a rule the whole group was stopped or continued, and the owner is about to follow by itself.
        self._job = (stopped, Deadline(_JOB_PAUSE))

    def _follow_job(self) -> float | None:
        """Whoever waits for the owner, a shell above all, sees it stop and go on as he would see the command.

        Returns the seconds until there is something to do; None for nothing.
        """
        if self._job is None:
            return None
        stopped, pause = self._job
        if not pause.expired:
            return pause.remaining()
        self._job = None
        if stopped and not is_stopped(self._owner):
            # Not SIGSTOP: the kernel drops this one where there is nobody who could continue the job.
            self._signal_owner(signal.SIGTSTP)
        elif not stopped and is_stopped(self._owner):
            self._continued = Deadline(1.0)
            self._signal_owner(signal.SIGCONT)
        return None

    def _signal_owner(self, number: int) -> None:
        if os.getppid() == self._owner:  # else it is dead, and its number may be another's
            try:
                os.kill(self._owner, number)
            except ProcessLookupError:
                pass

    def _tell(self, message: protocol.Message) -> None:
        message["at"] = time.monotonic()
        try:
            protocol.send(self._socket, message)
        except (protocol.Closed, TimeoutError):
            pass  # nobody hears it any more; the tree is ended all the same
