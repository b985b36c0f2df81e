"""Doing something with several managers side by side, each in a thread of its own that ends before its time is over."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from servermgr._stack_failures import attempt, named
from servermgr.deadline import Deadline, pace
from servermgr.errors import SurvivorsError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from graphlib import TopologicalSorter

    from servermgr._stack_plan import Plan

_CANCELLED = -1


class Together:
    """One act on each manager of a stack.

    Args:
        plan: Whose managers.
        act: Called with the number of a manager.

    Attributes:
        over: Set by the stack when nothing of this goes on any more.
    """

    def __init__(self, plan: Plan, act: Callable[[int], object]) -> None:
        self._plan = plan
        self._act = act
        self._threads: dict[int, threading.Thread] = {}
        self._ended: queue.SimpleQueue[tuple[int, BaseException | None]] = queue.SimpleQueue()
        self._runner = threading.current_thread()
        self._cancelled = False
        self.over = threading.Event()

    def run(self, sorter: TopologicalSorter[int]) -> None:
        """Act on each manager when those before it are done. The first failure is raised; then call `abandon`."""
        while sorter.is_active():
            for number in sorter.get_ready():
                self._begin(number)
            number, failure = self._next()
            if failure is not None:
                raise failure
            sorter.done(number)

    def run_until_first(self) -> tuple[int, BaseException | None]:
        """Act on all at once, and return the number of the first that is done, and its failure. Then call `finish`."""
        for number in range(len(self._plan.managers)):
            self._begin(number)
        return self._next()

    def cancel(self) -> None:
        """Have `run` raise. Fit for another thread, and for a signal handler."""
        self._cancelled = True
        self._ended.put((_CANCELLED, WorkerError(None, "stopped before it was ready")))

    def involves_this_thread(self) -> bool:
        """Whether the calling thread would wait for itself if it waited for `over`."""
        return threading.current_thread() in (self._runner, *self._threads.values())

    def abandon(self) -> list[BaseException]:
        """Stop those that are under way, until their threads have ended.

        Returns:
            What else has failed, but not what is only the consequence of being stopped.
        """
        further = self._survivors() if self._cancelled else self._collect()
        under_way = dict(self._threads)
        for number in under_way:  # all are asked before one is waited for
            manager = self._plan.managers[number]
            attempt(lambda: manager.stop(wait=False), manager)  # noqa: B023  # called now
        for number, thread in under_way.items():
            failure = self._stop_until_ended(number, thread)
            further += [] if failure is None else [failure]
        return further + self._survivors()

    def finish(self) -> list[BaseException]:
        """Wait for the threads that are left, all managers being stopped. Returns who could not be ended."""
        for thread in self._threads.values():
            if thread.ident is not None:  # else a Ctrl-C came before it was started
                thread.join()
        return self._survivors()

    def _survivors(self) -> list[BaseException]:
        """Failures that are not only the consequence of being stopped: of two who wait for an end, one hears of it."""
        return [failure for failure in self._collect() if isinstance(failure, SurvivorsError)]

    def _stop_until_ended(self, number: int, thread: threading.Thread) -> BaseException | None:
        """A stop may come before there is anything to stop (it is writing its configuration), so one is not enough."""
        manager = self._plan.managers[number]
        deadline = Deadline(None)
        failure = None
        while thread.is_alive():
            _, refused = attempt(manager.stop, manager)
            _, interrupted = attempt(lambda: thread.join(pace(deadline.elapsed)), manager)
            failure = interrupted or refused or failure
            if failure is not None and not isinstance(failure, Exception):
                break  # a Ctrl-C: whatever hangs there, nobody wants to wait for it
        return failure

    def _collect(self) -> list[BaseException]:
        """The failures of those who have ended meanwhile."""
        failures = []
        while not self._ended.empty():
            _, failure = self._next()
            failures += [] if failure is None else [failure]
        return failures

    def _next(self) -> tuple[int, BaseException | None]:
        number, failure = self._ended.get()
        if number == _CANCELLED:
            return number, failure
        self._threads.pop(number).join()
        return number, failure and named(failure, self._plan.managers[number])

    def _begin(self, number: int) -> None:
        name = f"servermgr: {self._plan.name(number)}"
        thread = threading.Thread(target=self._perform, args=(number,), name=name, daemon=True)
        self._threads[number] = thread
        thread.start()

    def _perform(self, number: int) -> None:
        failure = None
        try:
            self._act(number)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised in the thread of the caller
            failure = error
        self._ended.put((number, failure))
