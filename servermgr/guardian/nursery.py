"""The nursery: one per owner, it makes guardians by fork, and stands in for one that dies before its tree.

An interpreter takes some ten milliseconds to start; a fork of one that stands ready takes one. The nursery
is no child of the owner (a program that calls `os.wait()` must not meet it). It is a subreaper as its guardians
are, so the orphans of a guardian that was killed come to it, and it ends them in the guardian's place (where there are
no subreapers: those that the guardian has written down, and who is linked to them). When
the nursery itself is lost, the guardians go on, and the owner starts another for the next tree.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import signal

from servermgr import platform
from servermgr.deadline import milliseconds
from servermgr.guardian import protocol, spare
from servermgr.guardian.orphans import Orphans, StandIn
from servermgr.guardian.record import Record
from servermgr.guardian.warden import Warden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from servermgr.guardian.slate import Slate

_CONTROL = 0  # the owner's socket is our standard input


def main() -> NoReturn:
    """Entry point of the helper process; `servermgr.nursery` says how it is called."""
    before = platform.start_now()
    if os.fork():
        os._exit(0)  # the owner waits for this one: the nursery itself is nobody's child
    Record.compare_clocks(before)
    os.setsid()
    os.chdir("/")
    os.dup2(1, 2)  # start-up errors went to the owner; from here on nobody reads them
    _quiet_signals()
    platform.set_process_name("servermgr")
    adopts = platform.become_subreaper()
    gc.disable()  # short-lived work, no cycles; a collection would copy every page that forks share
    gc.freeze()
    Nursery(_socket.socket(fileno=_CONTROL), adopts=adopts).serve()
    os._exit(0)


def _quiet_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # an owner that blocks SIGCHLD hands its mask on
    # What is meant for the owner's terminal, or sent to everyone by a clumsy hand, must not end the guardian
    # before the tree: whoever wants us gone ends the owner.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


class Nursery:
    """Serves one owner, and then its guardians until the last of them has ended.

    Args:
        control: The owner's requests come from here.
        adopts: Whether orphans come to this process, and will come to its guardians.
    """

    def __init__(self, control: _socket.socket, *, adopts: bool) -> None:
        self._adopts = adopts
        self._control = control
        self._reader = protocol.Reader(control)
        self._wake = _wake_on_child()
        self._guardians: dict[int, StandIn] = {}
        self._standing_in: list[StandIn] = []
        self._spare: spare.Spare | None = None
        self._staff: set[int] = set()  # guardians and spares
        self._orphans = Orphans(self._staff, self._reap)
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._has_owner = True

    def serve(self) -> None:
        """Turn each request into a guardian; return when neither owner nor guardian is left."""
        while True:
            due = self._stand_in()
            # Asked behind the step, which may have been the last one: no event would follow it, and the poll not end.
            if not (self._has_owner or self._staff or self._standing_in):
                return
            ready = {fd for fd, _ in self._poll.poll(milliseconds(due))}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._take_requests():
                self._has_owner = False
                self._drop_spare()
                self._poll.unregister(self._control.fileno())

    # --- guardians ----------------------------------------------------------------------------------------------

    def _take_requests(self) -> bool:
        """Make a guardian for each request that is complete; False once the owner is gone."""
        try:
            requests = self._reader.receive()
        except protocol.Closed:
            return False
        for request in requests:
            spec = request["spec"]
            fds = [self._reader.fds.pop(0) for _ in range(request["fds"])]
            pid, slate = self._hand_over(spec, fds) or self._fork_guardian(spec, fds)
            self._staff.add(pid)
            self._guardians[pid] = StandIn(spec, fds[0], pid, self._orphans, slate)
            for fd in fds[1:]:
                os.close(fd)
        self._make_spare()
        return True

    def _hand_over(self, spec: bytes, fds: list[int]) -> tuple[int, Slate | None] | None:
        ready, self._spare = self._spare, None
        return (ready.pid, ready.slate) if ready is not None and ready.take(spec, fds) else None

    def _fork_guardian(self, spec: bytes, fds: list[int]) -> tuple[int, Slate | None]:
        slate = self._new_slate()
        pid = os.fork()
        if pid == 0:
            self._serve(lambda _: (spec, fds), slate)
        return pid, slate

    def _new_slate(self) -> Slate | None:
        return None if self._adopts else _slate()

    def _make_spare(self) -> None:
        """For the next request; the owner does not wait for this."""
        if self._spare is None:
            slate = self._new_slate()
            self._spare = spare.fork(lambda task: self._serve(task, slate), slate)
            if self._spare is not None:
                self._staff.add(self._spare.pid)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def _serve(self, task: Callable[[int], spare.Task | None], slate: Slate | None) -> NoReturn:
        """In the new process: be a guardian, once there is something to guard."""
        status = 1
        try:
            self._leave()
            wake = _wake_on_child()
            given = task(wake)
            if given is not None:
                spec, fds = given
                Warden(protocol.unpack(spec), fds, wake, slate).watch()
            status = 0
        finally:
            os._exit(status)  # nothing may return into the nursery's loop

    def _leave(self) -> None:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), _CONTROL)
        self._control.detach()
        signal.set_wakeup_fd(-1)
        os.close(self._wake)
        for other in (*self._guardians.values(), *self._standing_in):
            other.close()  # a sibling's socket to the owner is not ours to keep open
        for fd in self._reader.fds:  # neither is what belongs to a request that comes after ours
            os.close(fd)

    def _reap(self) -> int:
        """Collect the dead, wake the stopped; returns how many have died."""
        count = 0
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return count
            if pid == 0:
                return count
            if os.WIFSTOPPED(status):
                if pid in self._staff:  # a guardian that is stopped guards nobody
                    os.kill(pid, signal.SIGCONT)
                continue
            count += 1
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, status: int) -> None:
        self._staff.discard(pid)
        if self._spare is not None and self._spare.pid == pid:
            self._drop_spare()
        stand_in = self._guardians.pop(pid, None)
        if stand_in is None:
            return
        if status == 0:
            stand_in.close()
        else:
            self._standing_in.append(stand_in)

    # --- orphans ------------------------------------------------------------------------------------------------

    def _stand_in(self) -> float | None:
        """Take the next step for each guardian that is dead. Returns the seconds until the next one is due."""
        dues = [stand_in.step() for stand_in in self._standing_in]
        self._standing_in = [stand_in for stand_in in self._standing_in if not stand_in.finished]
        return min((due for due in dues if due is not None), default=None)


def _slate() -> Slate:
    from servermgr.guardian.slate import Slate  # noqa: PLC0415  # only where orphans do not come to us

    return Slate()


def _wake_on_child() -> int:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler of ours nothing is written to the pipe
    return read_end
