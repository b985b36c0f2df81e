"""What a manager holds: one tree at a time, from its launch or adoption to its end.

A manager's state is kept here, apart from `base.Manager`, so that a subclass has that class's whole
namespace to itself.
"""

from __future__ import annotations

import os
import shlex
import threading
from typing import TYPE_CHECKING

from servermgr import readiness
from servermgr._trace_story import Story
from servermgr.addresses import address_free_check, endpoint
from servermgr.adopted import Adoptable, AdoptedTree
from servermgr.errors import SurvivorsError, WorkerError, WorkerExitedError
from servermgr.launching import launch, warmed_up
from servermgr.output import Output
from servermgr.process import WorkerProcess
from servermgr.sweeping import sweep_once
from servermgr.trace import Traced, trace_of
from servermgr.tree import LaunchSpec, StopOutcome, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from servermgr.output import Target


class Holding:
    """The tree of one manager, if there is one.

    Attributes:
        tree: The tree, or None.
        process: The worker's process object; None while nothing runs and once a stop has been asked for.
        spec: What was launched; None for an adopted process.
        address: What the server must listen on, as told to `spawn`.
        output: Where the worker's output goes, or went last.
        stopping: Whether a stop has been asked for and is not finished.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self.lock = threading.RLock()
        self.tree: Tree | None = None
        self.process: Adoptable | WorkerProcess | None = None
        self.spec: LaunchSpec | None = None
        self.address: tuple[str, int] | None = None
        self.output: Output | None = None
        self.stopping = False
        self._story: Story | None = None

    def live(self) -> Tree | None:
        """The tree; None if there is none, or it belongs to the process that this one was forked from."""
        self._notice_fork()
        return self.tree

    def _notice_fork(self) -> None:
        """In a fork of the owner, forget the tree, and the lock that another thread of the parent may have held."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self.lock = threading.RLock()
            self.tree = self.process = self.spec = None
            self.stopping = False

    # --- beginning ----------------------------------------------------------------------------------------------

    def adopt(self, process: Adoptable | None, *, name: str, trace: Traced) -> None:
        """Take a process that was started by other means, with its tree; None lets go of what is held."""
        self._notice_fork()
        with self.lock:
            if process is not None:
                self._settle()
            elif isinstance(self.tree, AdoptedTree):
                self.tree.close()
            self.address = self.output = self.spec = None
            self._story = None if process is None else _story(trace, name)
            self.tree = None if process is None else AdoptedTree(process, self._story)
            self.process = process
            self.stopping = False

    def spawn(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        name: str,
        target: Target,
        address: tuple[str, int] | None,
        prepare: Callable[[LaunchSpec], None],
        trace: Traced,
        **options: Any,
    ) -> WorkerProcess:
        """Launch a command; see `base.Manager.spawn`. `options` are those of `LaunchSpec`.

        `prepare` is called with it before the launch.
        """
        self._notice_fork()
        with self.lock:
            self._settle()
            with warmed_up():
                sweep_once()
                if address is not None and not options["sockets"]:  # else it is our own socket that listens there
                    address_free_check(*address)
                output = Output(target, name=name)
                try:
                    story = _story(trace, name, shlex.join(map(str, argv)), launches=options["pidfile"] is not None)
                    spec = LaunchSpec(argv, output=output, story=story, **options)
                    prepare(spec)
                    tree = launch(spec, name=name, ports=() if address is None else (endpoint(*address),))
                except BaseException:
                    output.close()
                    raise
            output.launched()
            process = WorkerProcess(tree, spec.argv)
            self.tree, self.process, self.spec, self.address, self.output = tree, process, spec, address, output
            self._story = story
            self.stopping = False
        return process

    def _settle(self) -> None:
        """Refuse a second start; finish a stop that was not waited for."""
        tree = self.live()
        if tree is None:
            return
        if tree.wait_gone(0.0) is None and not self.stopping:
            raise WorkerError(None, "a process is running already: stop it first", pid=tree.pid)
        self._conclude(tree)

    # --- ready --------------------------------------------------------------------------------------------------

    def await_ready(
        self, tree: Tree, timeout: float | None, *, name: str, ask: Callable[[float], object], verbose: bool
    ) -> None:
        """Wait until `ask` is content; see `base.Manager.ready_wait`. Ends nothing itself."""
        pidfile = None if self.spec is None else self.spec.pidfile
        say = readiness.say_on_stderr if verbose else None
        readiness.Wait(tree, name=name, ask=ask, address=self.address, pidfile=pidfile, say=say).until_ready(timeout)
        if self._story is not None:
            self._story.ready(tree.pid)

    def complete(self, error: WorkerError, outcome: StopOutcome) -> None:
        """Add to an error what is known only once the tree has ended."""
        if isinstance(error, WorkerExitedError) and error.status is None:
            error.status = outcome.status
        if self.output is not None:
            error.output = self.output.tail()
            error.log = None if self.output.removes else self.output.path

    # --- ending -------------------------------------------------------------------------------------------------

    def stop(self, number: int, grace: float, *, wait: bool) -> StopOutcome:
        """End the tree; see `base.Manager.stop`."""
        self._notice_fork()
        with self.lock:
            tree = self.tree
            if tree is None:
                return StopOutcome()
            self.stopping = True
            self.process = None if not wait else self.process
        try:
            tree.ask_stop(number, grace, confirm=not wait)
            if not wait:
                return StopOutcome(finished=False)
            tree.wait_gone(None)
        except KeyboardInterrupt:
            tree.ask_stop(number, 0.0)  # asked twice: now
            self._conclude(tree)
            raise
        return self._conclude(tree)

    def wait(self, number: int, grace: float) -> StopOutcome:
        """Wait for the worker to end by itself, then end the rest; see `base.Manager.wait`."""
        tree = self.live()
        if tree is None:
            return StopOutcome()
        if not self.stopping:
            try:
                tree.wait_worker(None)
            except KeyboardInterrupt:
                self.stop(number, grace, wait=True)
                raise
        if self.tree is not tree:  # another thread has ended it meanwhile
            return tree.wait_gone(0.0) or StopOutcome()
        return self.stop(number, grace, wait=True)

    def _conclude(self, tree: Tree) -> StopOutcome:
        """Wait for the last word, let go of the tree, and say who lives on."""
        outcome = tree.wait_gone(None) or StopOutcome()
        with self.lock:
            if self.tree is tree:
                self.tree = self.process = None
                self.stopping = False
        if outcome.survivors:
            names = "; ".join(map(str, outcome.survivors))
            text = f"{len(outcome.survivors)} of its processes live on: {names}"
            raise SurvivorsError(None, text, outcome=outcome, survivors=outcome.survivors)
        return outcome


def _story(traced: Traced, name: str, command: str = "", *, launches: bool = False) -> Story | None:
    trace = trace_of(traced)
    return None if trace is None else Story(trace, name, command, launches=launches)
