"""The guardian's main loop: one tree, from launch to the last process.

It blocks in one poll(2) without a time limit unless something is due, so an idle guardian never wakes.
"""

from __future__ import annotations

import _socket
import os
import select
import signal

from servermgr import platform
from servermgr.guardian import protocol
from servermgr.guardian.brood import Brood
from servermgr.guardian.launch import LaunchFailed, launch
from servermgr.guardian.owner import OwnerWatch
from servermgr.guardian.record import Record, unlink
from servermgr.guardian.worker import Worker
from servermgr.stopping import Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from servermgr.guardian.slate import Slate

#: Milliseconds of one poll at most.
_LONGEST_POLL = 86_400_000.0


class Warden:
    """Launches the command of a spec, holds its tree, and ends with it.

    Args:
        spec: See `tree.LaunchSpec`.
        fds: Our socket to the owner, the owner's pidfd where the spec says that there is one, and what the
            command gets as 0, 1, 2, 3, ….
        wake: Readable when a child has changed its state.
        slate: Where it is written down who is in the tree; None where orphans come to us, and that needs no writing.
    """

    def __init__(self, spec: protocol.Message, fds: list[int], wake: int, slate: Slate | None) -> None:
        self._spec = spec
        self._owner = _socket.socket(fileno=fds[0])
        own = 2 if spec["owner_pidfd"] else 1
        self._watch = OwnerWatch(fds[1] if own > 1 else -1, spec["owner"])
        self._command_fds = fds[own:]
        self._wake = wake
        self._reader = protocol.Reader(self._owner)
        self._worker = Worker(spec["pidfile"])
        self._adopts = slate is None
        self._brood = self._gather(slate)
        self._record = Record(spec["record"], spec["draft"])
        self._session = 0
        self._stopping: Stopping | None = None
        self._told_done = False
        self._term = False

    def _gather(self, slate: Slate | None) -> Brood:
        if slate is None:
            return Brood(lambda: self._worker.pid, self._on_exit)
        from servermgr.guardian.flock import Flock  # noqa: PLC0415  # where it is not needed it costs no memory

        pidfile = self._spec["pidfile"] is not None
        return Flock(lambda: self._worker.pid, self._on_exit, self._spec["marker"], slate, awaits_pidfile=pidfile)

    def watch(self) -> None:
        """Hold the tree until nobody of it is left."""
        try:
            self._hold()
        except BaseException as error:
            # A fault of ours: the owner must hear of it, for he is the second net.
            self._tell({"is": "crashed", "text": f"{type(error).__name__}: {error}"})
            raise

    def _hold(self) -> None:
        self._prepare()
        if not self._launch():
            return
        poll = self._watched()
        due: float | None = 0.0
        while not (self._told_done and self._brood.empty()):
            ready = {fd for fd, _ in poll.poll(None if due is None else _milliseconds(due))}
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._owner.fileno() in ready and not self._hear_owner():
                poll.unregister(self._owner.fileno())
                self._owner_gone()
            fd = self._watch.fd
            if self._watch.ended(ready):
                if fd >= 0:
                    poll.unregister(fd)
                self._owner_gone()
            due = self._advance()
        self._clean_up()

    def _prepare(self) -> None:
        platform.become_subreaper()
        platform.set_process_name("servermgr-guard")
        self._owner.settimeout(5.0)  # an owner that is stopped must not hold us up for ever
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, *_: object) -> None:
        self._term = True  # whoever asks the guardian to end gets what he wants: the tree first, then it

    def _watched(self) -> select.poll:
        poll = select.poll()
        for fd in (self._wake, self._owner.fileno(), self._watch.fd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        return poll

    # --- launch -------------------------------------------------------------------------------------------------

    def _launch(self) -> bool:
        self._record.write(0, 0)
        try:
            pid = launch(self._spec, self._command_fds)
        except LaunchFailed as failure:
            self._brood.reap()  # the launcher was the only child: now it shows that there is none
            self._clean_up_files()
            self._tell({"is": "failed", "stage": failure.stage, "errno": failure.number})
            return False
        for fd in self._command_fds:
            os.close(fd)
        self._worker.launched(pid)
        self._brood.launched(pid)
        self._session = pid
        self._record.write(pid, pid)
        self._tell_launched(pid)
        return True

    def _tell_launched(self, pid: int) -> None:
        own = platform.open_pidfd(os.getpid())
        message = {"is": "launched", "pid": pid, "guardian": os.getpid(), "unrecorded": self._record.failure}
        message |= {"adopts": self._adopts, "start": self._record.start}
        self._tell(message, (own,) if own >= 0 else ())
        if own >= 0:
            os.close(own)

    # --- what may happen ----------------------------------------------------------------------------------------

    def _hear_owner(self) -> bool:
        """Obey the owner; False once he is gone or has become another program."""
        try:
            commands = self._reader.receive(_socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except protocol.Closed:
            return False
        for command in commands:
            if command["do"] == "stop":
                self._stop(command["signal"], command["grace"])
                self._tell({"is": "asked"})
            elif command["do"] == "list":
                self._tell({"is": "members", "parents": self._brood.members()})
            elif command["do"] == "signal" and self._worker.pid is not None:
                self._signal_worker(command["signal"])
        return True

    def _signal_worker(self, number: int) -> None:
        try:
            self._brood.signal(self._worker.pid or 0, number)
        except PermissionError:
            pass  # the owner sees that the worker lives on

    def _owner_gone(self) -> None:
        if not self._spec["keep"]:
            self._stop(self._spec["stop_signal"], self._spec["crash_grace"])

    def _on_exit(self, pid: int, status: int) -> None:
        self._worker.child_ended(pid, status)

    # --- what is due --------------------------------------------------------------------------------------------

    def _advance(self) -> float | None:
        """Take every step that is due; returns the seconds until the next one, None for no limit."""
        self._brood.reap()
        if self._term:  # from `servermgr stop`, or anyone else who means the server
            self._term = False
            self._stop(self._spec["stop_signal"], self._spec["grace_period"])
        dues = [self._brood.watch(), self._watch.due(), self._follow_worker(), self._step_stop()]
        if self._brood.empty() and not self._told_done:
            self._follow_worker()  # who was not our child is seen to have ended with the last look, and not before
            self._tell_done()
        return min((due for due in dues if due is not None), default=None)

    def _follow_worker(self) -> float | None:
        for message in self._worker.follow(self._brood):
            if message["is"] == "worker":  # first the record: what the owner knows, a sweep must know
                self._record.write(message["pid"], self._session)
            self._tell(message)
        return self._worker.pause(self._brood.glance)

    def _stop(self, number: int, grace: float) -> None:
        if self._stopping is None or self._stopping.finished:
            self._follow_worker()  # the pidfile may name another process by now
            self._brood.ending()
            self._stopping = Stopping(self._brood, number, grace)
            self._told_done = False
        else:
            self._stopping.hurry(grace)

    def _step_stop(self) -> float | None:
        if self._stopping is None or self._stopping.finished:
            return None
        due = self._stopping.step()
        if self._stopping.finished:
            self._follow_worker()
            self._tell_done()
        return due

    def _tell_done(self) -> None:
        self._told_done = True
        nothing: protocol.Message = {"is": "done", "polite": [], "killed": [], "survivors": [], "seconds": 0.0}
        message = nothing if self._stopping is None else self._stopping.report()
        message["status"] = self._worker.status
        message["note"] = ""
        self._clean_up_files()
        self._tell(message)

    # --- the end ------------------------------------------------------------------------------------------------

    def _tell(self, message: protocol.Message, fds: tuple[int, ...] = ()) -> None:
        try:
            protocol.send(self._owner, message, fds)
        except (protocol.Closed, TimeoutError):
            pass  # nobody hears it any more; the tree is ended all the same

    def _clean_up_files(self) -> None:
        if self._brood.empty():
            self._worker.remove_pidfile()
            self._record.remove()
            for path in self._spec["remove"]:
                unlink(path)

    def _clean_up(self) -> None:
        self._clean_up_files()
        self._owner.close()


def _milliseconds(seconds: float) -> float:
    # poll(2) counts in whole milliseconds and rounds down: half a one would be a spin. And it takes no more than some
    # weeks, while a grace period may be endless: then the next step is to look at the clock again.
    return min(max(1.0, seconds * 1000.0), _LONGEST_POLL) if seconds > 0 else 0.0
