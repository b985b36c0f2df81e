"""Any command as a managed server."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

from servermgr import base, ports
from servermgr._server_options import checked_port
from servermgr._server_state import running
from servermgr.errors import LaunchError, WorkerError
from servermgr.probe_forms import ProbeLike, make_probe
from servermgr.readiness import ATTEMPT_LIMIT
from servermgr.tree import CRASH_GRACE, GRACE_PERIOD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servermgr.output import Target
    from servermgr.probes import Probe
    from servermgr.trace import Traced
    from servermgr.tree import LaunchSpec


#: Written with one pair of braces it is the port's number, with two it is itself. No other brace means anything.
_PLACEHOLDER = re.compile(r"\{\{port\}\}|\{port\}")


class CommandManager(base.Manager):
    """Runs a command, holds its process tree, and removes all of it.

    With `port`, the text `{port}` stands for its number in the words of the command, in the values of `env`, and in
    `ready`, where that is a string form::

        CommandManager(["redis-server", "--port", "{port}"], port=0, ready="tcp://127.0.0.1:{port}")

    `{{port}}` is then written for the text `{port}` itself (a shell's `${port}` is `${{port}}`); other braces, as
    in JSON, are left as they are. Without `port` nothing is replaced at all.

    Args:
        argv: The command and its arguments: a list of words, never a shell line.
        name: Shown in errors and logs; None for the command's own.
        env: The whole environment, as in `subprocess`; None for this process's own at the time of `start`.
        cwd: The directory to start in; None for this process's own.
        ready: A probe, its string form (`tcp://host:port`, `http://…`, `unix:///path`, `log:regex`,
            `pidfile:/path`, `cmd:command line`; see `servermgr.probe_forms`), or a callable that returns true when
            the server is ready. None: the server is ready as soon as it runs. With a TCP or HTTP probe the
            port must be free before the start, and its listener must belong to the tree.
        port: What `{port}` stands for; 0 for a port that is free on every address of this machine, drawn anew at
            each start and freed with the tree (see `servermgr.ports`); None: `{port}` means nothing.
        pidfile: Where a daemonizing server writes its pid; None for one that stays in the foreground.
        stop_signal: The polite signal, as a number or a name (`"INT"`, `"SIGINT"`); None for SIGTERM.
        grace_period: Seconds from the polite signal to the forced one; 0 kills at once.
        crash_grace: The same once this process has died.
        keep: Whether the server outlives this process, to be ended later by `servermgr.stop(name)`.
        output: None for a private file of the run; a path, which is appended to and kept; an open file or
            descriptor; or `subprocess.DEVNULL`.
        trace: The path of a file for a trace, or a `trace.Trace`; None for none. See `servermgr.trace`.

    Attributes:
        port: As given; with `port=0` known once the command was started, 0 before.

    Raises:
        ValueError: A probe, a signal or a port that does not exist, or `port=0` and neither the command nor `env`
            is told the port.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ready: ProbeLike = None,
        port: int | None = None,
        pidfile: str | os.PathLike[str] | None = None,
        stop_signal: int | str | None = None,
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        keep: bool = False,
        output: Target = None,
        trace: Traced = None,
    ) -> None:
        if isinstance(argv, (str, bytes)) or not argv:
            raise LaunchError(None, f"argv must be a list of words, such as ['nginx', '-c', 'x.conf'], not {argv!r}")
        super().__init__(name or os.path.basename(os.fspath(argv[0])), trace=trace)
        self.argv = [os.fspath(word) for word in argv]
        self.env = env
        self.cwd = cwd
        self.port = self._wanted_port = None if port is None else checked_port(port)
        self._ready = ready
        self.probe = self._make_probe()
        self.pidfile = pidfile
        self.stop_signal = None if stop_signal is None else signal_number(stop_signal)
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.keep = keep
        self.output = output
        self._question: Callable[[float], None] | None = None
        if port == 0 and not any(map(_names_port, [*self.argv, *(env or {}).values()])):
            raise ValueError("port=0: write {port} where the command or its environment has to name the port")

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start the command.

        Args:
            wait: Whether to return only when the server is ready.
            timeout: Seconds for that; None waits for ever.

        Raises:
            AddressInUseError, LaunchError: See `Manager.spawn`.
            ReadyTimeoutError, WorkerExitedError: See `Manager.ready_wait`; nothing is left running.
        """
        if self._wanted_port == 0:
            with self._named(), ports.drawn("", 0) as lease:
                self.port = lease.port
                self.probe = self._make_probe()
                self._launch(lease.removes)
        else:
            self._launch()
        if wait:
            self.ready_wait(timeout)

    def _launch(self, removes: Sequence[str] = ()) -> None:
        self.spawn(
            [self._filled(word) for word in self.argv],
            env=None if self.env is None else {name: self._filled(value) for name, value in self.env.items()},
            cwd=self.cwd,
            pidfile=self.pidfile,
            stop_signal=self.stop_signal,
            grace_period=self.grace_period,
            crash_grace=self.crash_grace,
            keep=self.keep,
            output=self.output,
            address=self._address(),
            removes=removes,
        )

    def _filled(self, text: str) -> str:
        if self.port is None or not isinstance(text, str):  # what is no text is refused where it is launched
            return text
        return _PLACEHOLDER.sub(lambda found: "{port}" if found[0] == "{{port}}" else str(self.port), text)

    def _make_probe(self) -> Probe | None:
        if self.port is None or not isinstance(self._ready, str):
            return make_probe(self._ready)
        # Before a port is drawn any number will do: to say now, and not at the start, what is wrong with it.
        return make_probe(_PLACEHOLDER.sub("1", self._ready) if self.port == 0 else self._filled(self._ready))

    def _address(self) -> tuple[str, int] | None:
        """What must be free before the start, and the tree's afterwards."""
        if self.probe is not None and self.probe.address is not None:
            return self.probe.address
        return ("", self.port) if self._wanted_port == 0 and self.port else None

    def _prepare(self, spec: LaunchSpec) -> None:
        # Before the launch: a probe of a log notes where it ends now, and a quick server may write at once.
        self._question = None if self.probe is None else self.probe.bind(spec)

    def health(self) -> object:
        """Ask the probe once; without one, look whether the worker runs.

        Raises:
            WorkerError: It does not respond, or nothing runs.
        """
        return self._ask_within(ATTEMPT_LIMIT)

    def _ask_within(self, limit: float) -> object:
        process = running(self)
        if self._question is None:
            return None
        try:
            return self._question(limit)
        except OSError as error:
            if isinstance(error, WorkerError):
                raise
            raise WorkerError(error, "it does not answer", name=self.name, pid=process.pid) from error


def _names_port(text: str) -> bool:
    return isinstance(text, str) and "{port}" in _PLACEHOLDER.findall(text)


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
