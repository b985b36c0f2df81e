"""Several managers as one: started together in the order of their needs, and stopped in reverse.

::

    with Stack(db, cache, app, needs={app: [db, cache]}):
        ...

starts `db` and `cache` side by side and `app` when both are ready; at the end `app` is stopped, then the two others.
"""

from __future__ import annotations

import threading
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from servermgr._stack_failures import attempt, raise_first
from servermgr._stack_plan import Plan, name_of
from servermgr._stack_together import Together
from servermgr.deadline import Deadline, pace
from servermgr.errors import WorkerError
from servermgr.interface import ManagerInterface
from servermgr.tree import StopOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr._stack_plan import Needs
    from servermgr.trace import Traced

__all__ = ["Stack"]


class Stack(ManagerInterface):
    """Several managers that are started and stopped as one; itself a manager, so that it can be part of another.

    Managers are started in parallel, except that one which needs others waits until those are ready. The order of
    the arguments means nothing: say by `needs` what has to come first. They are stopped the other way round: none
    before all that need it are gone, and those that no longer hold each other up in parallel.

    Either all of them run or none: when one cannot be started, those that are starting are stopped, then those that
    run, and its own error is raised, which says by name which one it was, why, and its last output. What else failed
    meanwhile is in `error.details["further"]`. The same holds for a Ctrl-C.

    No thread of a stack outlives the call that made it.

    Args:
        *managers: The managers, none of them running yet.
        needs: Whom a manager needs, as `{app: [db, cache], proxy: app}`: managers, or their names where those are
            unique. None: nobody needs anyone.
        name: Shown in errors and listings.
        trace: Where what happens to those managers is written that have no trace of their own: the path of a file, or a
            `trace.Trace`; None for nowhere.

    Attributes:
        managers: The managers, as given.
        name: As given.
        ended: After `wait`, the manager whose worker was the first to end.

    Raises:
        TypeError: An argument is no manager.
        ValueError: One manager twice, `needs` that names none of them, or needs that go round in a circle.
    """

    def __init__(
        self, *managers: ManagerInterface, needs: Needs | None = None, name: str = "stack", trace: Traced = None
    ) -> None:
        self._plan = Plan(managers, needs)
        self.managers = self._plan.managers
        self.name = name
        self.ended: ManagerInterface | None = None
        self._busy = threading.Lock()
        self._current: Together | None = None
        self._trace: Traced = None
        self.trace = trace

    @property
    def trace(self) -> Traced:
        """As given, or assigned: it counts from the next start."""
        return self._trace

    @trace.setter
    def trace(self, trace: Traced) -> None:
        for manager in self.managers:
            if hasattr(manager, "trace") and manager.trace is self._trace:  # it has had ours, or none
                manager.trace = trace
        self._trace = trace

    # --- beginning ----------------------------------------------------------------------------------------------

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start all of them.

        Args:
            wait: Whether to return only when all are ready. If False, those that others need are waited for all the
                same.
            timeout: Seconds for each of them to become ready, from its own start on; None waits for ever.

        Raises:
            WorkerError: The first failure; nothing is left running.
        """

        def act(number: int) -> None:
            self.managers[number].start(wait or self._plan.is_needed(number), timeout)

        self._all_or_none(act, self._plan.upward(), refuse_running=True)

    def ready_wait(self, timeout: float | None = 10.0) -> None:
        """Wait until all of them are ready. When one is not, all are stopped, and its error is raised.

        Args:
            timeout: Seconds; None waits for ever, 0 asks once.
        """
        at_once = TopologicalSorter(dict.fromkeys(range(len(self.managers)), ()))
        at_once.prepare()
        self._all_or_none(lambda number: self.managers[number].ready_wait(timeout), at_once)

    def _all_or_none(
        self, act: Callable[[int], None], sorter: TopologicalSorter[int], *, refuse_running: bool = False
    ) -> None:
        if not self._busy.acquire(blocking=False):
            raise WorkerError(None, "is being started already", name=self.name)
        together = Together(self._plan, act)
        try:
            if refuse_running:
                self._refuse_running()
            self._current = together
            self._run(together, sorter)
        finally:
            self._current = None
            together.over.set()
            self._busy.release()

    def _run(self, together: Together, sorter: TopologicalSorter[int]) -> None:
        _, failure = attempt(lambda: together.run(sorter), self)
        if failure is not None:  # also a Ctrl-C leaves nothing behind
            further = together.abandon()
            further += self._stop_each()[1]
            raise_first([failure, *further])

    def _refuse_running(self) -> None:
        """What runs already is not ours to end when another one fails, so it must not be ours to start either."""
        for manager in self.managers:
            if getattr(manager, "process", None) is not None:
                raise WorkerError(None, "runs already: stop it before the stack is started", name=name_of(manager))

    # --- looking ------------------------------------------------------------------------------------------------

    def health(self) -> object:
        """Ask each of them once.

        Returns:
            False if one of them says so, which means "not yet".

        Raises:
            WorkerError: The first that does not respond.
        """
        answers = [self._ask(manager) for manager in self.managers]
        return False if any(answer is False for answer in answers) else None

    def _ask(self, manager: ManagerInterface) -> object:
        answer, failure = attempt(manager.health, manager)
        if isinstance(failure, WorkerError) and isinstance(failure.exception, NotImplementedError):
            # Nothing to ask: a worker that runs is all that there is to know.
            stopped = getattr(manager, "process", True) is None
            failure = WorkerError(None, "it does not run", name=name_of(manager)) if stopped else None
        if failure is not None:
            raise failure
        return answer

    # --- the end ------------------------------------------------------------------------------------------------

    def stop(self, wait: bool = True) -> StopOutcome:
        """Stop all of them, none before those that need it are gone; one that fails does not keep the others alive.

        Fit for any thread, also while they are being started, which then fails. A Ctrl-C kills the one that is
        waited for, and is raised when all are gone.

        Args:
            wait: If False, all are asked at once, and may end in any order.

        Returns:
            The outcomes of all in one; `status` is None.

        Raises:
            WorkerError: The first failure, when all have been stopped; others are in its `details["further"]`.
        """
        deadline = Deadline(None)
        current = self._current
        if current is not None:
            current.cancel()
            if wait and not current.involves_this_thread():
                current.over.wait()
        outcomes, failures = self._stop_each(wait)
        if failures:
            raise_first(failures)
        return _summary(outcomes, deadline.elapsed)

    def kill(self) -> StopOutcome:
        """Kill all of them now, side by side and in no order; see `base.Manager.kill`.

        Fit for any thread, also while they are being started, which then fails.

        Returns:
            As `stop`.

        Raises:
            WorkerError: As `stop`.
        """
        deadline = Deadline(None)
        current = self._current
        if current is not None:
            current.cancel()
        while True:
            outcomes, failures = self._kill_each()
            # One that was not there yet (it was writing its configuration) would be asked politely now.
            if current is None or current.involves_this_thread() or current.over.wait(pace(deadline.elapsed)):
                break
        if failures:
            raise_first(failures)
        return _summary(outcomes, deadline.elapsed)

    def _kill_each(self) -> tuple[list[StopOutcome], list[BaseException]]:
        outcomes: list[StopOutcome] = []
        killing = Together(self._plan, lambda number: outcomes.append(self.managers[number].kill()))
        if not self.managers:
            return [], []
        first, interrupt = attempt(killing.run_until_first, self)
        found = [first and first[1], interrupt, *killing.finish()]
        return outcomes, [failure for failure in found if failure is not None]

    def wait(self) -> StopOutcome:
        """Wait until the worker of one of them ends, whichever it is, then stop the others.

        A Ctrl-C stops all of them and is raised when they are gone.

        Returns:
            As `stop`; `status` is that of the worker that ended first, and `ended` is its manager.
        """
        if not self.managers:
            return StopOutcome()
        deadline = Deadline(None)
        found: dict[int, StopOutcome] = {}
        waiting = Together(self._plan, lambda number: found.update({number: self.managers[number].wait()}))
        first, interrupt = attempt(waiting.run_until_first, self)
        outcomes, failures = self._stop_each()
        failures += waiting.finish()
        number, failure = first or (0, interrupt)
        if failure is not None or failures:
            raise_first([failed for failed in (failure, *failures) if failed is not None])
        self.ended = self.managers[number]
        status = getattr(found[number], "status", None)
        return _summary([*found.values(), *outcomes], deadline.elapsed)._replace(status=status)

    def _stop_each(self, wait: bool = True) -> tuple[list[StopOutcome], list[BaseException]]:
        outcomes: list[StopOutcome] = []
        failures: list[BaseException] = []
        for tier in self._plan.downward():
            managers = [self.managers[number] for number in tier]
            rounds = ([False] if len(managers) > 1 else []) + [True] if wait else [False]
            for waits in rounds:  # each is asked before one is waited for, so that they end side by side
                for manager in managers:
                    outcome, failure = attempt(lambda: manager.stop(wait=waits), manager)  # noqa: B023  # called now
                    if waits == wait or not isinstance(failure, (Exception, type(None))):
                        outcomes += [outcome] if outcome is not None else []
                        failures += [failure] if failure is not None else []
        return outcomes, failures

    def __repr__(self) -> str:
        names = ", ".join(self._plan.name(number) for number in range(len(self.managers)))
        return f"<{type(self).__module__}.{type(self).__qualname__} {self.name!r}: {names}>"


def _summary(outcomes: list[StopOutcome], seconds: float) -> StopOutcome:
    # One stop may have been waited for twice; and a manager written against the old documentation returns nothing.
    known = {id(outcome): outcome for outcome in outcomes if isinstance(outcome, StopOutcome)}
    outcomes = list(known.values())
    return StopOutcome(
        tuple(ended for outcome in outcomes for ended in outcome.polite),
        tuple(ended for outcome in outcomes for ended in outcome.killed),
        tuple(alive for outcome in outcomes for alive in outcome.survivors),
        None,
        seconds,
        all(outcome.finished for outcome in outcomes),
    )
