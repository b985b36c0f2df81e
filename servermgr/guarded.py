"""A tree below a guardian, from the owner's end.

Many threads may wait for one tree. One of them at a time listens on the guardian's socket and tells the
others; when it leaves (its time is up, a Ctrl-C), another takes its place. So no thread of ours is needed.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

from servermgr import ledger, nursery, platform, request, sweeping
from servermgr._guarded_guardian import wait_end
from servermgr._guarded_heard import Heard
from servermgr.deadline import Deadline
from servermgr.errors import GuardianError
from servermgr.guardian import protocol
from servermgr.guardian.worker import UNKNOWN_STATUS
from servermgr.stopping import KILL_PATIENCE
from servermgr.tree import LaunchSpec, ProcessInfo, StopOutcome, infos, stop_all

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds for the command to be launched, on the slowest machine.
_LAUNCH_PATIENCE = 30.0
#: Seconds beyond its own time limits that a guardian has to end a tree, on the slowest machine.
_SLACK = 15.0
_alive: set[GuardedTree] = set()
_log = logging.getLogger("servermgr")


class GuardedTree(Heard):
    """A command launched below a guardian of its own.

    Args:
        spec: What to launch.
        name: The manager's name, for the ledger.
        ports: What it will listen on, for the ledger.

    On true return the command's exec has succeeded.

    Raises:
        LaunchError: It could not be started; nothing is left.
        GuardianError: No guardian could be had.
    """

    def __init__(self, spec: LaunchSpec, *, name: str = "", ports: tuple[str, ...] = ()) -> None:
        super().__init__(spec)
        self._lost = False
        self._overdue = Deadline(None)
        self._condition = threading.Condition()
        self._listening = False
        self._socket = nursery.bear(request.message(spec, name, ports), request.descriptors(spec))
        self._reader = protocol.Reader(self._socket)
        _alive.add(self)
        try:
            self._await_launch()
        except BaseException:
            self._close()
            raise
        if spec.story is not None:  # somebody has to listen while the owner does other things, until he is killed
            threading.Thread(target=self._wait, args=(lambda: self._outcome is not None, None), daemon=True).start()

    # --- what an owner asks -------------------------------------------------------------------------------------

    def wait_worker(self, timeout: float | None) -> bool:
        return self._wait(lambda: self.status is not None, timeout)

    def wait_known(self, timeout: float | None) -> bool:
        return self._wait(lambda: self.pid is not None or self.status is not None, timeout)

    def send_signal(self, number: int) -> None:
        self._say({"do": "signal", "signal": int(number)})

    def ask_stop(self, number: int, grace: float, *, confirm: bool = False) -> None:
        if self._outcome is not None and not self._outcome.survivors:
            return
        self._asked = False
        self._overdue = Deadline(grace + KILL_PATIENCE + _SLACK)
        if self._held is not None:  # a guardian that is stopped, with a nursery that is gone, hears nothing
            self._held.signal(platform.SIGCONT)
        if self._say({"do": "stop", "signal": int(number), "grace": grace, "confirm": confirm}) and confirm:
            self._wait(lambda: self._asked or self._outcome is not None, KILL_PATIENCE)

    def wait_gone(self, timeout: float | None) -> StopOutcome | None:
        limit = self._overdue.remaining() if timeout is None else timeout
        if not self._wait(lambda: self._outcome is not None, limit) and timeout is None:
            self._replace_guardian()
        if self._outcome is not None and not self._outcome.survivors:
            self._wait_guardian()
            self._close()
        return self._outcome

    def _replace_guardian(self) -> None:
        """It should have given up on survivors long ago: it hangs. The nursery, or we, do its work."""
        _log.error("%s: guardian %s does not finish its stop and is killed", self.spec.argv[0], self.guardian)
        if self._held is not None:
            self._held.signal(platform.SIGKILL)
        self._wait(lambda: self._outcome is not None, None)

    def processes(self) -> list[ProcessInfo]:
        if self.guardian is None or self._outcome is not None:
            return []
        seen = platform.descendants(self.guardian) if self._adopts else {}
        return infos(seen or self._ask_members())  # without /proc it is the guardian alone that sees them

    def _ask_members(self) -> dict[int, int]:
        with self._condition:
            self._members = None
        if self._say({"do": "list"}):
            self._wait(lambda: self._members is not None or self._outcome is not None, KILL_PATIENCE)
        return self._members or {}

    # --- listening ----------------------------------------------------------------------------------------------

    def _await_launch(self) -> None:
        answered = self._wait(
            lambda: self.guardian is not None or self._failure is not None or self._outcome is not None,
            _LAUNCH_PATIENCE,
        )
        if self._failure is not None:
            raise request.launch_error(self.spec, self._failure)
        if self._outcome is not None and self.guardian is None:  # the nursery had to speak and act in its place
            raise GuardianError(None, "the guardian was lost before the command was launched; nothing is left of it")
        if not answered:
            raise GuardianError(None, f"the guardian did not answer within {_LAUNCH_PATIENCE:.0f} s")

    def _wait(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Wait for a state. Raises GuardianError if the guardian was lost before the command was launched."""
        deadline = Deadline(timeout)
        with self._condition:
            while not reached():
                if self._lost:
                    self._rescue()
                    continue
                if self._listening:
                    if deadline.expired:
                        return reached()
                    self._condition.wait(deadline.remaining())
                elif not self._listen(deadline.remaining()) and deadline.expired:  # 0 takes what is there already
                    return reached()
        return True

    def _listen(self, timeout: float | None) -> bool:
        """Be the one who listens, once. Called with the condition held, which is released meanwhile."""
        self._listening = True
        self._condition.release()
        messages: list[protocol.Message] = []
        closed = False
        try:
            if platform.wait_readable([self._socket.fileno()], timeout):
                messages = self._reader.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except protocol.Closed:
            closed = True
        finally:
            self._condition.acquire()
            self._listening = False
            for message in messages:
                self._hear(message, self._reader.fds)
            if events := sum(message["is"] == "event" for message in messages):
                self._say({"do": "heard", "count": events})
            if closed and self._outcome is None and self._failure is None:
                self._lost = True
            self._condition.notify_all()
        return bool(messages) or closed

    def _rescue(self) -> None:
        """Guardian and nursery are both gone: end what can be found of the tree, and say so. With the lock held."""
        if self.guardian is None:
            raise GuardianError(None, "the guardian was lost before the command was launched")
        folder = ledger.directory()
        record = ledger.read(ledger.record_path(folder, self.spec.marker)) or ledger.sketch(self.spec, self.guardian)
        outcome, found = sweeping.end_leftovers(record)
        self.status = UNKNOWN_STATUS if self.status is None else self.status
        self._outcome = outcome._replace(status=self.status)
        if self._story is not None:
            self._story.over("gone: its guardian and helper were killed", survivors=bool(outcome.survivors))
        _log.error(
            "%s: guardian %d and its helper were killed; of the tree %d processes were found and ended",
            self.spec.argv[0],
            self.guardian,
            len(found),
        )

    # --- saying, closing ----------------------------------------------------------------------------------------

    def _say(self, message: protocol.Message) -> bool:
        try:
            protocol.send(self._socket, message)
        except (protocol.Closed, OSError):  # OSError: closed by us, the tree is gone
            return False
        return True

    def _wait_guardian(self) -> None:
        """The guardian's own end follows its last word at once; who has heard "gone" must find it gone, too."""
        with self._condition:  # another thread may close it meanwhile
            fd = -1 if self._held is None else self._held.end_event(self._socket.fileno())
        wait_end(fd)

    def _close(self) -> None:
        with self._condition:
            _alive.discard(self)
            self._close_descriptors()
        self.spec.output.close()

    def forget(self) -> None:
        """In a fork of the owner: let go of the tree, which is the parent's."""
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._socket.close()
        if self._held is not None:
            self._held.close()


def warm_up() -> None:
    """Begin what the first launch would have to wait for, and come back at once."""
    nursery.warm()


def settle() -> None:
    """Finish what `warm_up` has begun, where no launch follows."""
    nursery.settle()


def launch(spec: LaunchSpec, *, name: str, ports: tuple[str, ...]) -> GuardedTree:
    """Launch a command below a guardian; see `GuardedTree`."""
    return GuardedTree(spec, name=name, ports=ports)


def _forget_all() -> None:
    for tree in _alive:
        tree.forget()
    _alive.clear()


@atexit.register
def _stop_all() -> None:
    """At the end of the interpreter: leave nothing for those who come after, such as the next line of a script."""
    stop_all(_alive)


os.register_at_fork(after_in_child=_forget_all)
