"""The guardian's main loop: one tree, from launch to the last process.

It blocks in one poll(2) without a time limit unless something is due, so an idle guardian never wakes.
"""

from __future__ import annotations

import _socket
import os
import select
import signal

from servermgr import platform
from servermgr.deadline import Deadline, milliseconds
from servermgr.guardian import protocol
from servermgr.guardian.brood import Brood
from servermgr.guardian.events import Events
from servermgr.guardian.launch import LaunchFailed, launch
from servermgr.guardian.outbox import Messages, Outbox
from servermgr.guardian.owner import OwnerWatch
from servermgr.guardian.record import Record, unlink
from servermgr.guardian.scratch import Scratch
from servermgr.guardian.worker import Worker
from servermgr.stopping import Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from servermgr.guardian.slate import Slate

#: Seconds for the owner to take the last events, before he is told that all is done.
_EVENTS_PATIENCE = 1.0
#: Seconds for an owner who has closed our socket to be dead.
_DEATH_PATIENCE = 5.0


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
        self._messages = Messages(self._owner)
        self._worker = Worker(spec["pidfile"])
        self._outbox = Outbox(self._owner) if spec["trace"] else None
        self._events = None if self._outbox is None else Events(self._outbox.put)
        self._adopts = slate is None
        self._brood = self._gather(slate)
        self._brood.cgroup = spec["cgroup"]
        self._record = Record(spec["record"], spec["draft"])
        self._scratch = Scratch(spec["scratch"]) if spec["scratch"] else None
        self._session = 0
        self._stopping: Stopping | None = None
        self._told_done = False
        self._term = self._orphaned = False
        self._commands: list[protocol.Message] = []

    def _gather(self, slate: Slate | None) -> Brood:
        if slate is None:
            return Brood(lambda: self._worker.pid, self._on_exit, self._events)
        from servermgr.guardian.flock import Flock  # noqa: PLC0415  # where it is not needed it costs no memory

        pidfile = self._spec["pidfile"] is not None
        marker = self._spec["marker"]
        return Flock(lambda: self._worker.pid, self._on_exit, marker, slate, self._events, awaits_pidfile=pidfile)

    def watch(self) -> None:
        """Hold the tree until nobody of it is left."""
        try:
            self._hold()
        except BaseException as error:  # a fault of ours: the owner must hear of it, for he is the second net
            self._messages.put({"is": "crashed", "text": f"{type(error).__name__}: {error}"})
            self._messages.send()
            raise

    def _hold(self) -> None:
        self._prepare()
        if not self._launch():
            return
        poll = self._watched()
        due: float | None = 0.0
        while not (self._told_done and self._brood.empty()):
            ready = {fd for fd, _ in poll.poll(milliseconds(due))}
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
            self._messages.send()
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
        before = platform.start_now()
        try:
            pid = launch(self._spec, self._command_fds)
        except LaunchFailed as failure:
            self._brood.reap()  # the launcher was the only child: now it shows that there is none
            self._clean_up_files()
            self._messages.put({"is": "failed", "stage": failure.stage, "errno": failure.number})
            self._messages.send()
            return False
        start = before if before == platform.start_now() else 0  # as a rule no tick has passed
        for fd in self._command_fds:
            os.close(fd)
        self._session = pid
        self._worker.launched(pid)
        self._brood.launched(pid)
        self._record.write(pid, pid, start=start)
        self._tell_launched(pid)
        return True

    def _tell_launched(self, pid: int) -> None:
        own = platform.open_pidfd(os.getpid())
        if self._events is not None:
            self._events.say("guardian", os.getpid())
            self._events.spawned(pid)
        message = {"is": "launched", "pid": pid, "guardian": os.getpid(), "unrecorded": self._record.failure}
        message |= {"adopts": self._adopts, "start": self._record.start}
        self._messages.put(message)
        self._messages.send((own,) if own >= 0 else ())
        if own >= 0:
            os.close(own)

    # --- what may happen ----------------------------------------------------------------------------------------

    def _hear_owner(self) -> bool:
        """Obey the owner; False once he is gone or has become another program."""
        alive = self._receive()
        self._obey()
        return alive

    def _receive(self) -> bool:
        try:
            commands = self._reader.receive(_socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except protocol.Closed:
            return False
        for command in commands:
            if command["do"] == "heard" and self._outbox is not None:
                self._outbox.heard(command["count"])
            else:
                self._commands.append(command)
        return True

    def _obey(self) -> None:
        while self._commands:
            command = self._commands.pop(0)
            if command["do"] == "stop":
                self._stop(command["signal"], command["grace"])
                if command["confirm"]:
                    self._messages.put({"is": "asked"})
            elif command["do"] == "list":
                self._messages.put({"is": "members", "parents": self._brood.members()})
            elif command["do"] == "signal" and self._worker.pid is not None:
                self._signal_worker(command["signal"])

    def _signal_worker(self, number: int) -> None:
        try:
            self._brood.signal(self._worker.pid or 0, number)
        except PermissionError:
            pass  # the owner sees that the worker lives on

    def _owner_gone(self) -> None:
        self._orphaned = True
        if not self._spec["keep"]:
            self._stop(self._spec["stop_signal"], self._spec["crash_grace"])

    def _on_exit(self, pid: int, status: int) -> None:
        self._worker.child_ended(pid, status)

    # --- what is due --------------------------------------------------------------------------------------------

    def _advance(self) -> float | None:
        """Take every step that is due; returns the seconds until the next one, None for no limit."""
        self._brood.reap()
        self._obey()
        if self._term:  # from `servermgr stop`, or anyone else who means the server
            self._term = False
            self._stop(self._spec["stop_signal"], self._spec["grace_period"])
        dues = [self._brood.watch(), self._watch.due(), self._follow_worker(), self._step_stop(), self._step_events()]
        if self._brood.empty() and not self._told_done:
            self._follow_worker()  # who was not our child is seen to have ended with the last look, and not before
            self._tell_done()
        return min((due for due in dues if due is not None), default=None)

    def _follow_worker(self) -> float | None:
        for message in self._worker.follow(self._brood):
            if message["is"] == "worker":  # first the record: what the owner knows, a sweep must know
                self._record.write(message["pid"], self._session)
                if self._events is not None:
                    self._events.say("worker", message["pid"])
            self._messages.put(message)
        return self._worker.pause(self._brood.glance)

    def _step_events(self) -> float | None:
        if self._events is None:
            return None
        return self._events.step(self._brood.members)

    def _stop(self, number: int, grace: float) -> None:
        if self._events is not None:
            self._events.look(self._brood.listing())  # whoever is ended now has been seen
            self._events.say("stop", os.getpid(), grace=grace)
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
        self._send_last_events()
        self._messages.put(message)

    def _send_last_events(self) -> None:
        """Send what is kept as the owner hears it; what else he says meanwhile waits until that is done."""
        if self._outbox is None:
            return
        self._messages.send()
        limit = Deadline(_EVENTS_PATIENCE)
        poll = select.poll()
        poll.register(self._owner.fileno(), select.POLLIN)
        while not (self._outbox.is_empty or limit.expired):
            poll.poll(milliseconds(limit.remaining()))
            if not self._receive():
                return

    # --- the end ------------------------------------------------------------------------------------------------

    def _clean_up_files(self) -> None:
        if self._brood.empty():
            self._worker.remove_pidfile()
            self._record.remove()
            for path in self._spec["remove"]:
                unlink(path)

    def _clean_up(self) -> None:
        self._clean_up_files()
        self._owner.close()
        if self._scratch is not None:  # behind the socket: an owner who waits has not to wait for this
            self._leave_scratch(self._scratch)

    def _leave_scratch(self, scratch: Scratch) -> None:
        if self._orphaned and self._watch.fd >= 0:
            # Who dies closes his descriptors one after the other, and the socket perhaps long before his share.
            platform.wait_readable([self._watch.fd], _DEATH_PATIENCE)
        scratch.leave()
