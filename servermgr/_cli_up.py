"""`servermgr up`: declared servers, started in the order of their needs, for one command or until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from servermgr import _cli_run, _cli_up_tables
from servermgr._cli_look import GOOD, STRONG, Look
from servermgr._cli_up_servers import Declared
from servermgr._sweeping_files import SCRATCH_PREFIX, share
from servermgr.errors import WorkerError
from servermgr.output import owner_stamp
from servermgr.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from servermgr._cli_look import Progress
    from servermgr._cli_up_tables import Table
    from servermgr.interface import ManagerInterface
    from servermgr.trace import Trace

EPILOG = """\
Servers are declared in pyproject.toml:

  [tool.servermgr.servers.db]
  kind = "postgres"                 # or a command; what else can be said is what its Manager takes

  [tool.servermgr.servers.app]
  command = "python -m app --port {port}"
  port = 0                          # a free one, for which {port} stands
  ready = "http://127.0.0.1:{port}/health"
  needs = ["db"]                    # started when db is ready, with DB_URL in its environment

Whoever is started after a server is ready, CMD above all, finds it by NAME_URL, NAME_HOST and NAME_PORT in the
environment. CMD is a step as in `servermgr run`. Without CMD the servers run until Ctrl-C. Ctrl-C once stops them
politely, twice at once.

examples:
  servermgr up -- pytest                         all that are declared, for one run of the tests
  servermgr up app                               app and what it needs, until Ctrl-C
  servermgr up --server 'redis-server --port {port}' --port 0 --ready tcp://127.0.0.1:{port} --name cache -- make

exit status: that of CMD; without CMD 0 after Ctrl-C
  1    a server could not be started, or ended by itself (without CMD); its log is named, and kept
  2    a declaration makes no sense
  124 to 127 as of `servermgr run`; 130 Ctrl-C while they were started
"""
_OF_SERVER = {"ready": "PROBE", "name": "NAME", "port": "N", "pidfile": "FILE"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `up`."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="the servers to start, with those they need (default: all declared)")
    add("--config", metavar="FILE", help="where they are declared (default: the next pyproject.toml from here upward)")
    add("--server", metavar="CMD", action=_Server, help="one more server, which is not declared; repeatable")
    add("--ready", metavar="PROBE", action=_OfServer, help="of the --server before it: when it is ready")
    add("--port", metavar="N", type=int, action=_OfServer, help="what {port} stands for; 0 is a free one")
    add("--name", metavar="NAME", action=_OfServer, help="its name (default: the command's)")
    add("--pidfile", metavar="FILE", action=_OfServer, help="where it writes its pid, if it makes itself a daemon")
    add("--timeout", type=_cli_run.seconds, metavar="S", help="end CMD after S seconds")
    _cli_run.add_grace(parser)
    add("--json", action="store_true", help="messages as JSON lines; without CMD the addresses as one JSON document")
    add("--trace", metavar="FILE", help="write what happened as a trace for ui.perfetto.dev")


class _Server(argparse.Action):
    """`--server` begins a server."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        namespace.server = [*(namespace.server or []), {"command": values}]


class _OfServer(argparse.Action):
    """`--ready` and the like say more of it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: object = None
    ) -> None:
        if not namespace.server:
            parser.error(f"{option} says something of the --server before it, and there is none")
        namespace.server[-1][self.dest] = values


def run(options: argparse.Namespace) -> int:
    """Start them, run the command, and stop them; returns the exit status."""
    look = Look(as_json=options.json)
    tables = _tables(options)
    with _Scratch() as scratch, _cli_run.tracing(options.trace) as trace:
        up = _Up(tables, scratch, look, options, trace)
        status = up.run()
    if up.outcome is not None:
        _cli_run.end_as(up.outcome)
    return status


def _tables(options: argparse.Namespace) -> list[Table]:
    declared = {} if options.server and not (options.names or options.config) else _cli_up_tables.find(options.config)
    added: dict[str, Table] = {}
    for entries in options.server or ():
        name = entries.pop("name", None) or os.path.basename(shlex.split(entries["command"])[0])
        if name in added or name in declared:
            raise ValueError(f"two servers are called {name!r}: give one of them a --name")
        added[name] = _cli_up_tables.Table(name, entries, os.getcwd(), f"--server {entries['command']!r}")
    names = [*options.names, *added] if options.names else []
    tables = _cli_up_tables.chosen(declared | added, names)
    if not tables:
        raise ValueError(
            "no server is declared: write [tool.servermgr.servers.NAME] into pyproject.toml, or give --server"
        )
    return tables


class _Scratch:
    """A directory for logs and data of this run. It stays where a server has failed: the error names the log in it."""

    def __init__(self) -> None:
        # Whose it is stands in the name, for a sweep: should all be killed at once who would have removed it.
        self.folder = tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{owner_stamp()}-")
        self._share = share(self.folder)
        os.chmod(self.folder, 0o711)  # noqa: S103  # started by root, the users of servers pass through it
        self._keep = False

    def keep_for(self, error: WorkerError) -> None:
        """The error names a log: if that is here, it is kept."""
        self._keep |= bool(error.log) and str(error.log).startswith(self.folder)

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, WorkerError):
            self.keep_for(error)
        if self._share is not None:
            self._share.close()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class _Up:
    """One run of it."""

    def __init__(
        self, tables: Sequence[Table], scratch: _Scratch, look: Look, options: argparse.Namespace, trace: Trace | None
    ) -> None:
        self._look = look
        self._options = options
        self._scratch = scratch
        self._trace = trace
        self._servers = [Declared(table, scratch.folder, self._ready) for table in tables]
        for server in self._servers:
            server.manager.trace = trace
            server.manager.scratch = scratch.folder
        needs: dict[ManagerInterface | str, Sequence[str]] = {
            table.name: table.needs for table in tables if table.needs
        }
        self._stack = Stack(*self._servers, needs=needs, name="up")
        self._progress: Progress | None = None
        self._polite = False
        self.outcome: Any = None

    def run(self) -> int:
        with self._interrupts():
            try:
                self._start()
                status = self._step() if self._options.command else self._serve()
            finally:
                self._polite = True  # from here on a Ctrl-C means: now
                self._stop()
        return status

    # --- Ctrl-C -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _interrupts(self) -> Iterator[None]:
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            if before[number] is not signal.SIG_IGN:  # what nohup has said holds
                signal.signal(number, self._interrupt)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._polite:
            self._polite = True
            raise KeyboardInterrupt
        # Not here: what is interrupted may be listening to the very guardian that is to be asked.
        threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        with contextlib.suppress(WorkerError):  # whoever waits for the stop hears of it, too
            self._stack.kill()

    # --- the way through ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        labels = [server.name for server in self._servers]
        if not self._look.as_json:
            self._look.say(f"starting {', '.join(labels)}")
        with self._look.waiting(*labels) as self._progress:
            self._stack.start(timeout=None)

    def _stop(self) -> None:
        with self._look.waiting("stopping"):
            self._stack.stop()

    def _ready(self, server: Declared, elapsed: float) -> None:
        url = server.addresses.get(next(iter(server.addresses), ""), "")
        if self._progress is not None:
            self._progress.done(server.name)
        at = f" at {url}" if url else ""
        facts = {"event": "ready", "name": server.name, "seconds": round(elapsed, 3), "addresses": server.addresses}
        self._look.say((server.name, STRONG), ": ", ("ready", GOOD), f" after {elapsed:.2f} s{at}", **facts)

    def _step(self) -> int:
        argv = self._options.command
        teller = _cli_run.Teller(self._look, argv, self._options.timeout)
        options = self._options
        limits = {"timeout": options.timeout or None, "grace": options.grace}
        self.outcome = _cli_run.step(argv, teller, **limits, trace=self._trace)
        for server in self._servers:
            failure = server.ended_by_itself()
            if failure is not None:
                self._look.error(failure)
                self._scratch.keep_for(failure)
        return teller.conclude(self.outcome)

    def _serve(self) -> int:
        addresses = {server.name: server.addresses for server in self._servers}
        if self._options.json:
            self._look.compact(addresses)
        else:
            for found in addresses.values():
                for name, value in found.items():
                    self._look.answer(f"{name}={shlex.quote(value)}")
            self._look.say("running; Ctrl-C stops all of it")
        try:
            outcome = self._stack.wait()
        except KeyboardInterrupt:
            return 0
        ended = self._stack.ended
        assert isinstance(ended, Declared)
        manager = ended.manager
        raise WorkerError(
            None, "ended by itself", name=ended.name, status=outcome.status,
            output=manager.output_tail(), log=manager.log_path,
        )  # fmt: skip
