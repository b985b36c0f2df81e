"""A tree that was started by other means and handed over: a `Popen` or a `multiprocessing.Process`.

There is no guardian between owner and worker, so less can be promised: the tree is what descends from the
worker, what was seen to descend from it since the adoption, and what is in its session or group where it
leads one of its own. A daemon that forks twice and clears all traces can leave it, and nobody ends it when
the owner is killed. `Manager.spawn` promises both.

On Windows the worker is put into a job object: whoever it starts from then on is held, and ends with the owner.
Whom it had started before is held if its parent lived at the adoption. Nobody of them can be asked to go there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, TypeAlias

from servermgr import platform
from servermgr.deadline import Deadline, sleep
from servermgr.errors import WorkerError
from servermgr.pinned import LONGEST_WAIT, Pinned, outcome_of, pin
from servermgr.stopping import Stopping
from servermgr.tree import ProcessInfo, StopOutcome, infos

if TYPE_CHECKING:
    import multiprocessing.process
    from collections.abc import Iterable

    from servermgr._trace_story import Story
    from servermgr.guardian.events import Events
    from servermgr.identity import Held

Adoptable: TypeAlias = "subprocess.Popen[bytes] | subprocess.Popen[str] | multiprocessing.process.BaseProcess"

_SHORTEST = 0.001
_JOIN_SLICE = 0.25


def _is_multiprocessing(process: object) -> bool:
    # Whoever has such a process has loaded its module; whoever has none need not wait for it.
    module = sys.modules.get("multiprocessing.process")
    return module is not None and isinstance(process, module.BaseProcess)


class AdoptedTree(Pinned):
    """The tree of a process that this process has started itself.

    Args:
        process: A `subprocess.Popen` or a started `multiprocessing.Process`. It stays the caller's: its
            status is collected through its own methods only, so whoever else waits for it gets it, too.
        story: Where what can be known of it goes (who was seen, what they were sent, and that they are gone, each when
            this process looks); None for no trace.

    Raises:
        WorkerError: It is neither, or has not been started.
    """

    def __init__(self, process: Adoptable, story: Story | None = None) -> None:
        super().__init__()
        if not (isinstance(process, subprocess.Popen) or _is_multiprocessing(process)):
            raise WorkerError(
                None, f"process must be a subprocess.Popen or a multiprocessing.Process, not {type(process).__name__}"
            )
        if process.pid is None:
            raise WorkerError(None, "the multiprocessing.Process has not been started: call its start() first")
        self.process = process
        self._pid = process.pid
        self._lock = threading.RLock()
        self._outcome: StopOutcome | None = None
        self._stopping: Stopping | None = None
        self._ending = False
        stat = platform.read_stat(self._pid)
        self._leads_group = stat is not None and stat.pgrp == self._pid
        self._leads_session = stat is not None and stat.session == self._pid
        self._story = story
        self._told_end = False
        self._events = None if story is None else _events(story, self._pid)
        self._containment = platform.enclose(self._pid)
        self.listing()

    # --- Tree ---------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def status(self) -> int | None:
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return self.process.exitcode

    def wait_worker(self, timeout: float | None) -> bool:
        if isinstance(self.process, subprocess.Popen):
            self._wait_popen(self.process, timeout)
        else:
            self._join(self.process, Deadline(timeout))
        return self.status is not None

    def _join(self, process: multiprocessing.process.BaseProcess, deadline: Deadline) -> None:
        # In pieces: on Windows no Ctrl-C is heard in the middle of one.
        while self.status is None:
            process.join(deadline.within(_JOIN_SLICE))
            if deadline.expired:
                return

    def wait_known(self, timeout: float | None) -> bool:
        return True  # from the start

    def send_signal(self, number: int) -> None:
        if self._events is not None and self.status is None:
            self._events.signalled(self._pid, number)
        if isinstance(self.process, subprocess.Popen):
            self.process.send_signal(number)
        elif self.status is None:
            os.kill(self._pid, number)  # not reaped, so the number is its own

    def ask_stop(self, number: int, grace: float, *, confirm: bool = False) -> None:  # with or without
        with self._lock:
            if self._stopping is None:
                self._ending = True  # the session is read while the worker lives: afterwards it may be nobody's
                self.listing()
                self._stopping = Stopping(self, number, grace)
            else:
                self._stopping.hurry(grace)

    def wait_gone(self, timeout: float | None) -> StopOutcome | None:
        deadline = Deadline(timeout)
        while self._outcome is None:
            due = self._step()
            if self._outcome is not None or deadline.expired:
                break
            self.wait_event(deadline.within(LONGEST_WAIT if due is None else min(due, LONGEST_WAIT)))
        return self._outcome

    def processes(self) -> list[ProcessInfo]:
        if self._outcome is not None:
            return []
        alive = set(self.listing())
        parents = platform.descendants(self._pid)
        return infos({pid: parents.get(pid, 0) for pid in alive})

    # --- members, for `Stopping` --------------------------------------------------------------------------------

    def worker(self) -> int | None:
        return self._pid if self.status is None else None

    def listing(self) -> Iterable[int]:
        with self._lock:
            found = super().listing()
            self._tell_of(found)
            return found

    def _tell_of(self, found: Iterable[int]) -> None:
        if self._events is None:
            return
        status = self.status
        if status is not None and not self._told_end:
            self._told_end = True
            self._events.exited(self._pid, status)
        self._events.look(found)

    def signal(self, pid: int, number: int) -> None:
        if self._events is not None:
            self._events.signalled(pid, number)
        super().signal(pid, number)

    def _kill(self, held: Held) -> None:
        if self._events is not None:
            self._events.signalled(held.pid, platform.SIGKILL)
        super()._kill(held)

    def find(self) -> Iterable[Held]:
        roots = self.known()
        if self.status is None:  # not reaped, so the number is its own
            roots.append(self._pid)
            worker = pin(self._pid)
            yield from [] if worker is None else [worker]
        yield from self._contained()
        yield from self.descendants_of(roots)
        if self._ending:  # a pass over the machine, so only when it is needed
            yield from self._of_session()

    def _contained(self) -> Iterable[Held]:
        if self._containment is None:
            return
        for pid in self._containment.pids():
            held = pin(pid)
            if held is not None and held.pid in self._containment.pids():
                yield held
            elif held is not None:
                held.close()

    def close(self) -> None:
        super().close()
        if self._containment is not None:
            self._containment.release()  # whoever is let go of lives on
            self._containment.close()
            self._containment = None

    def _of_session(self) -> Iterable[Held]:
        """Who is in a session or group that the worker led: orphans of it, which no parent link shows.

        Only while the worker is not reaped (our `Popen` object decides that) or one of those we know is in it:
        until then the number cannot mean another session.
        """
        if not (self._leads_group or self._leads_session) or not self._session_is_ours():
            return
        for pid in platform.all_pids():
            held = pin(pid) if self._is_in_session(pid) else None
            if held is not None and self._is_in_session(pid):
                yield held
            elif held is not None:
                held.close()

    def _session_is_ours(self) -> bool:
        return self.status is None or any(self._is_in_session(pid) for pid in self.known())

    def _is_in_session(self, pid: int) -> bool:
        stat = platform.read_stat(pid)
        if stat is None:
            return False
        return (self._leads_session and stat.session == self._pid) or (self._leads_group and stat.pgrp == self._pid)

    def empty(self) -> bool:
        return self.status is not None and super().empty()

    # --- waiting ------------------------------------------------------------------------------------------------

    def _step(self) -> float | None:
        with self._lock:
            if self._stopping is None:
                self._notice_end()
                return None
            due = self._stopping.step()
            if self._stopping.finished and self._outcome is None:
                self._outcome = outcome_of(self._stopping, self.status)
                self._end_story(self._outcome)
                self.close()
            return due

    def _notice_end(self) -> None:
        """It may have ended by itself and left nobody: then there is nothing to stop."""
        if self._outcome is None and (self.empty() or self.empty()):  # one reading is no proof
            self._outcome = StopOutcome(status=self.status)
            self._end_story(self._outcome)
            self.close()

    def _end_story(self, outcome: StopOutcome) -> None:
        if self._story is not None:
            self._tell_of(self.known())
            self._story.over(survivors=bool(outcome.survivors))

    def _wait_popen(self, process: subprocess.Popen[bytes] | subprocess.Popen[str], timeout: float | None) -> None:
        if process.poll() is not None:
            return
        held = self._held.get(self._pid)
        if timeout is None and self._containment is None:
            process.wait()  # on Windows no Ctrl-C would be heard
        elif held is not None and held.pidfd >= 0:
            platform.wait_readable([held.pidfd], timeout)  # Popen.wait(timeout) would notice up to 50 ms late
        else:
            self._wait_slowly(timeout)

    def _wait_slowly(self, timeout: float | None) -> None:
        deadline, pause = Deadline(timeout), _SHORTEST
        while self.status is None and not deadline.expired:
            sleep(deadline.within(pause))
            pause = min(LONGEST_WAIT, pause * 1.5)


def _events(story: Story, pid: int) -> Events:
    from servermgr.guardian.events import Events  # noqa: PLC0415  # only where there is a trace

    events = Events(story.hear)
    events.spawned(pid, "adopted")
    return events
