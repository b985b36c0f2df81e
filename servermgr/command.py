"""Any command as a managed server."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from servermgr import base
from servermgr.errors import LaunchError, WorkerError
from servermgr.probe_forms import ProbeLike, make_probe
from servermgr.readiness import ATTEMPT_LIMIT
from servermgr.tree import CRASH_GRACE, GRACE_PERIOD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servermgr.output import Target


class CommandManager(base.Manager):
    """Runs a command, holds its process tree, and removes all of it.

    Args:
        argv: The command and its arguments: a list of words, never a shell line.
        name: Shown in errors and logs; None for the command's own.
        env: The whole environment, as in `subprocess`; None for this process's own at the time of `start`.
        cwd: The directory to start in; None for this process's own.
        ready: A probe, its string form (`tcp://host:port`, `http://…`, `unix:///path`, `log:regex`,
            `pidfile:/path`, `cmd:command line`; see `servermgr.probe_forms`), or a callable that returns true when
            the server is ready. None: the server is ready as soon as it runs. With a TCP or HTTP probe the
            port must be free before the start, and its listener must belong to the tree.
        pidfile: Where a daemonizing server writes its pid; None for one that stays in the foreground.
        stop_signal: The polite signal, as a number or a name (`"INT"`, `"SIGINT"`); None for SIGTERM.
        grace_period: Seconds from the polite signal to the forced one; 0 kills at once.
        crash_grace: The same once this process has died.
        keep: Whether the server outlives this process, to be ended later by `servermgr.stop(name)`.
        output: None for a private file of the run; a path, which is appended to and kept; an open file or
            descriptor; or `subprocess.DEVNULL`.

    Raises:
        ValueError: A probe or a signal that does not exist.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ready: ProbeLike = None,
        pidfile: str | os.PathLike[str] | None = None,
        stop_signal: int | str | None = None,
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        keep: bool = False,
        output: Target = None,
    ) -> None:
        if isinstance(argv, (str, bytes)) or not argv:
            raise LaunchError(None, f"argv must be a list of words, such as ['nginx', '-c', 'x.conf'], not {argv!r}")
        super().__init__(name or os.path.basename(os.fspath(argv[0])))
        self.argv = [os.fspath(word) for word in argv]
        self.env = env
        self.cwd = cwd
        self.probe = make_probe(ready)
        self.pidfile = pidfile
        self.stop_signal = None if stop_signal is None else signal_number(stop_signal)
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.keep = keep
        self.output = output
        self._question: Callable[[float], None] | None = None

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start the command.

        Args:
            wait: Whether to return only when the server is ready.
            timeout: Seconds for that; None waits for ever.

        Raises:
            AddressInUseError, LaunchError: See `Manager.spawn`.
            ReadyTimeoutError, WorkerExitedError: See `Manager.ready_wait`; nothing is left running.
        """
        self.spawn(
            self.argv,
            env=self.env,
            cwd=self.cwd,
            pidfile=self.pidfile,
            stop_signal=self.stop_signal,
            grace_period=self.grace_period,
            crash_grace=self.crash_grace,
            keep=self.keep,
            output=self.output,
            address=None if self.probe is None else self.probe.address,
        )
        try:
            self._question = self._bind()
        except BaseException:  # a probe that cannot be asked of this run: our caller gets no server then
            self.stop()
            raise
        if wait:
            self.ready_wait(timeout)

    def _bind(self) -> Callable[[float], None] | None:
        spec = self._holding.spec
        return None if self.probe is None or spec is None else self.probe.bind(spec)

    def health(self) -> object:
        """Ask the probe once; without one, look whether the worker runs.

        Raises:
            WorkerError: It does not respond, or nothing runs.
        """
        return self._ask_within(ATTEMPT_LIMIT)

    def _ask_within(self, limit: float) -> object:
        process = self.process
        if process is None or process.poll() is not None:
            raise WorkerError(None, "it does not run", name=self.name)
        if self._question is None:
            return None
        try:
            return self._question(limit)
        except OSError as error:
            if isinstance(error, WorkerError):
                raise
            raise WorkerError(error, "it does not answer", name=self.name, pid=process.pid) from error


def signal_number(given: int | str) -> int:
    """The number of a signal given as number or name, with or without `SIG`.

    Raises:
        ValueError: There is no such signal here.
    """
    try:
        if isinstance(given, int):
            return int(signal.Signals(given))
        return int(signal.Signals["SIG" + given.upper().removeprefix("SIG")])
    except (KeyError, ValueError):
        names = ", ".join(known.name.removeprefix("SIG") for known in signal.Signals)
        raise ValueError(f"no such signal: {given!r}; there are {names}") from None
