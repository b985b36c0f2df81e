"""The base of all managers.

The names of this module are those documented since 2010 and stay valid: `ManagerInterface`, `Manager`,
`WorkerError`, `address_in_use`, `address_free_check`. A subclass says how its server is started and asked::

    class Manager(servermgr.base.Manager):
        def start(self, wait=True, timeout=10.0):
            self.spawn(["my-server", "--port", "8080"], address=("127.0.0.1", 8080))
            if wait:
                self.ready_wait(timeout)

        def health(self):
            if not answers():
                raise WorkerError(None, "no answer")
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from servermgr.addresses import address_free_check, address_in_use
from servermgr.errors import (
    AddressInUseError,
    GuardianError,
    LaunchError,
    ReadyTimeoutError,
    SurvivorsError,
    WorkerError,
    WorkerExitedError,
)
from servermgr.holding import Holding
from servermgr.interface import ManagerInterface
from servermgr.process import WorkerProcess
from servermgr.tree import CRASH_GRACE, GRACE_PERIOD, ProcessInfo, StopOutcome

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from servermgr.adopted import Adoptable
    from servermgr.output import Target
    from servermgr.trace import Traced
    from servermgr.tree import LaunchSpec

__all__ = [
    "AddressInUseError",
    "GuardianError",
    "LaunchError",
    "Manager",
    "ManagerInterface",
    "ProcessInfo",
    "ReadyTimeoutError",
    "StopOutcome",
    "SurvivorsError",
    "WorkerError",
    "WorkerExitedError",
    "WorkerProcess",
    "address_free_check",
    "address_in_use",
]


class Manager(ManagerInterface):
    """Owns one server: its worker and all that descends from it.

    How its server is started and asked, a subclass says in `start` and `health`. A manager can be started again
    after it was stopped. Its methods may be called from any thread.

    In a fork of the process that started the server, the manager reads as one that was never started: the
    fork neither stops the server nor keeps it alive.

    Args:
        name: Shown in errors, logs and listings.
        trace: Where what happens is written: the path of a file, or a `trace.Trace`, which several managers may share;
            None for nowhere. It counts from the next start; see `servermgr.trace`.
        **kwargs: Kept in `kwargs`.
    """

    #: The polite signal for the worker of an adopted process; `spawn` has an argument for it.
    stop_signal: int | None = None
    #: Seconds from the polite signal to the forced one, for an adopted process.
    grace_period: float = GRACE_PERIOD
    #: A directory that goes, with all in it, with the last tree that shares it, unless this program lives; None: none.
    scratch: str | os.PathLike[str] | None = None

    def __init__(self, name: str = "<unnamed>", *, trace: Traced = None, **kwargs: Any) -> None:
        self.name = name
        self.trace = trace
        self.kwargs = kwargs
        self._holding = Holding()

    # --- the worker ---------------------------------------------------------------------------------------------

    @property
    def process(self) -> Any:
        """The worker's process object; None before `start` and after `stop` and `wait`.

        After `spawn` a `WorkerProcess`, which reads like a `Popen`. Assigning a `subprocess.Popen` or a
        started `multiprocessing.Process` adopts it with its tree: `stop` and `wait` end all that descends
        from it, but no guardian holds it, so a daemon below it may get away, and nobody ends it when this
        process is killed. Assigning None lets go of it without ending anything.
        """
        return None if self._holding.live() is None else self._holding.process

    @process.setter
    def process(self, process: Adoptable | None) -> None:
        with self._named():
            self._holding.adopt(process, name=self.name, trace=self.trace)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors that pass through here say whose they are."""
        try:
            yield
        except WorkerError as error:
            error.name = error.name or self.name
            raise

    def spawn(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        pidfile: str | os.PathLike[str] | None = None,
        stop_signal: int | None = None,
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        keep: bool = False,
        removes: Sequence[str | os.PathLike[str]] = (),
        sockets: Sequence[socket.socket] = (),
        output: Target = None,
        address: tuple[str, int] | None = None,
    ) -> WorkerProcess:
        """Start a command below a guardian, for a subclass's `start`.

        On true return the command's exec has succeeded; it need not be ready. Its tree is held: nobody of it
        is left after `stop`, after `wait`, or after the end of this process, however that comes.

        Args:
            argv: The command and its arguments; a list of words, never a shell line.
            env: The whole environment, as in `subprocess`; None for this process's own.
            cwd: The directory to start in; None for this process's own.
            pidfile: Where a daemonizing server writes its pid. The worker is then the process that it names,
                once that is found in the tree. None: the command stays in the foreground.
            stop_signal: The polite signal; None for SIGTERM.
            grace_period: Seconds from the polite signal to the forced one; 0 kills at once.
            crash_grace: The same when this process dies without `stop`.
            keep: Whether the server outlives this process, to be ended later by `servermgr.stop(name)`.
            removes: Files that the guardian removes once the tree is gone.
            sockets: Listening sockets that the command takes over, as its descriptors 3, 4, …, announced by
                `LISTEN_FDS` and `LISTEN_PID` (sd_listen_fds(3)). Close yours when this has returned.
            output: None for a private file of the run; a path, which is appended to and kept; an open file
                or descriptor; or `subprocess.DEVNULL`.
            address: Host and port that the server will listen on: must be free now, and once the server is
                ready its listener must belong to the tree.

        Raises:
            AddressInUseError: Somebody listens on `address`.
            LaunchError: The command could not be started.
            WorkerError: A process is running already.
        """
        with self._named():
            return self._holding.spawn(
                argv,
                name=self.name,
                target=output,
                address=address,
                prepare=self._prepare,
                trace=self.trace,
                scratch=self.scratch,
                env=env,
                cwd=cwd,
                pidfile=pidfile,
                stop_signal=stop_signal,
                grace_period=grace_period,
                crash_grace=crash_grace,
                keep=keep,
                removes=removes,
                sockets=sockets,
            )

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def log_path(self) -> str | None:
        """The file with the worker's output; None where it goes elsewhere. A private one goes with the tree."""
        output = self._holding.output
        return None if output is None else output.path

    def output_tail(self, lines: int = 20) -> list[str]:
        """The last lines of the worker's output, also after it has ended."""
        output = self._holding.output
        return [] if output is None else output.tail(lines)

    def processes(self) -> list[ProcessInfo]:
        """Who lives in the tree at this moment, parents before their children; empty when nothing runs."""
        tree = self._holding.live()
        return [] if tree is None else tree.processes()

    # --- ready --------------------------------------------------------------------------------------------------

    def _prepare(self, spec: LaunchSpec) -> None:
        """Called before each launch, with what will be launched."""

    def _ask_within(self, limit: float) -> object:
        return self.health()

    def ready_wait(self, timeout: float | None = 10.0, verbose: bool = False) -> None:
        """Wait until `health` is content.

        On true return the worker has answered; where `spawn` was told an address, the listener on it belongs
        to the tree. On any error nothing of the tree is left running. The end of the worker ends the wait at
        once. A subclass without `health` is taken to be ready while its worker runs.

        Args:
            timeout: Seconds; None waits for ever, 0 asks once.
            verbose: Whether to say on standard error what is waited for, on a long wait.

        Raises:
            WorkerError: There is no worker.
            ReadyTimeoutError: It did not become ready in time; the cause is what `health` said last.
            WorkerExitedError: It ended, or its tree did.
            AddressInUseError: Somebody else answers on the address.
        """
        tree = self._holding.live()
        if tree is None:
            raise WorkerError(None, "there is no process to wait for: start it first", name=self.name)
        try:
            self._holding.await_ready(tree, timeout, name=self.name, ask=self._ask_within, verbose=verbose)
        except WorkerError as error:
            error.name = self.name
            self._holding.complete(error, self.stop())
            raise error from error.exception
        except BaseException:  # Ctrl-C, or a fault in a subclass's health(): not our error, but nothing may be left
            self.stop()
            raise

    # --- the end ------------------------------------------------------------------------------------------------

    def stop(self, wait: bool = True) -> StopOutcome:
        """End the tree: ask the worker, then whoever remains, then kill, all within one grace period.

        On true return with `wait` nobody of the tree is left. Calling it again, from any thread, is fine.
        A Ctrl-C during the wait kills at once, and is raised when the tree is gone.

        Args:
            wait: If False, return after the first signal; the guardian does the rest, the forced signal
                included, also if this process ends meanwhile.

        Returns:
            Who went politely, who was killed, the worker's status, the seconds it took.

        Raises:
            SurvivorsError: Some live still, for example since this user may not signal them.
        """
        with self._named():
            return self._holding.stop(*self._manners(), wait=wait)

    def kill(self) -> StopOutcome:
        """End the whole tree now: kill, reap, verify. Nobody is asked first; `process.kill()` means the worker alone.

        Fit for any thread, also while another one is within `start`, `stop` or `wait`: the rest of a grace period is
        cut off, and that thread goes on as when the server has ended. A signal handler rather starts a thread for it.

        Returns, Raises: See `stop`; `polite` is who went before, having been asked by one.
        """
        with self._named():
            return self._holding.stop(self._manners()[0], 0.0, wait=True)

    def wait(self) -> StopOutcome:
        """Wait for the worker to end by itself, then end what is left of its tree.

        For a daemonizing server the worker is the daemon, not its launcher. A Ctrl-C ends the tree politely
        and is raised when it is gone; a second one kills.

        Returns:
            How the rest of the tree ended, and the worker's status. At once, when nothing runs.

        Raises:
            SurvivorsError: See `stop`.
        """
        with self._named():
            return self._holding.wait(*self._manners())

    def _manners(self) -> tuple[int, float]:
        """How to end what is held: the polite signal, and the seconds until the forced one."""
        spec = self._holding.spec
        if spec is not None:
            return spec.stop_signal, spec.grace_period
        return int(self.stop_signal or signal.SIGTERM), self.grace_period

    def __repr__(self) -> str:
        process = self.process
        state = "not running" if process is None else f"pid {process.pid}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {self.name!r}: {state}>"
