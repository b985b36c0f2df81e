"""What the managers of web applications share: which server, where it listens, and how it is asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from servermgr import _web_health, _web_socket, base
from servermgr._python_program import Interpreter, not_installed
from servermgr._server_options import checked_port
from servermgr._server_state import refuse_second
from servermgr.addresses import endpoint, reached_at
from servermgr.errors import WorkerError
from servermgr.readiness import ATTEMPT_LIMIT
from servermgr.tree import CRASH_GRACE, GRACE_PERIOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from servermgr.output import Target

_CHILD = "_web_child.py"
#: Would make a server believe that it is one which another has restarted.
_NOT_INHERITED = ("RUN_MAIN", "GUNICORN_PID", "GUNICORN_FD", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Command(NamedTuple):
    """What to run.

    Attributes:
        server: `gunicorn`, `uvicorn` or `runserver`.
        target: `package.module` or `package.module:name`, whose module must be there.
        arguments: For the server.
    """

    server: str
    target: str
    arguments: list[str]


class WebManager(base.Manager):
    """A web application in a server of its own. A subclass says in `_command` what to run.

    Args:
        host: The interface to listen on, an address or a name; `""` is every one.
        port: The port; 0 for a free one, drawn at each start.
        name: The program's name.
        process_name: Text to show in `ps`; None leaves that to the server.
        env: The server's whole environment; None for this process's own at the time of `start`.
        cwd: The directory to start in; None for this process's own.
        pythonpath: Directories to look for modules in, after `cwd`, before those of `PYTHONPATH`.
        python: The interpreter; None for the one that runs this.
        workers: Number of worker processes; None leaves that to the server.
        server_args: More arguments for the server.
        health_path: What to ask for; see `health`.
        health_host: The Host header for that; None for the address itself.
        grace_period: Seconds from SIGTERM to SIGKILL; 0 kills at once.
        crash_grace: The same once this process has died.
        output: See `servermgr.base.Manager.spawn`.
        **kwargs: Kept in `kwargs`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        name: str,
        process_name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        pythonpath: Iterable[str | os.PathLike[str]] = (),
        python: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        server_args: Sequence[str] = (),
        health_path: str | None = None,
        health_host: str | None = None,
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        output: Target = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.host = host
        self.port = checked_port(port)
        self.process_name = process_name
        self.env = env
        self.cwd = cwd
        self.pythonpath = [os.fspath(folder) for folder in pythonpath]
        self.python = python
        self.workers = workers
        self.server_args = list(server_args)
        self.health_path = health_path
        self.health_host = health_host
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.output = output
        self._wanted_port = port

    # --- what a subclass says -----------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        """Variables for the server beside those of `env`."""
        return {}

    def _command(self, python: Interpreter, timeout: float | None) -> Command:
        raise NotImplementedError

    # --- the server ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the server is reached from this machine. With `port=0` it is known once it was started."""
        return f"http://{endpoint(*self._address())}/"

    def _address(self) -> tuple[str, int]:
        return reached_at(self.host), self.port

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start the server.

        Args:
            wait: Whether to return only when it answers.
            timeout: Seconds for that; see `ready_wait`.

        Raises:
            AddressInUseError: Somebody else listens on the address.
            LaunchError: The server or its interpreter is not installed, or cannot be started.
            WorkerExitedError: It ended at once, as it does when it cannot import the application; the error
                shows its last output.
            ReadyTimeoutError: It did not answer in time.
        """
        refuse_second(self)
        with self._named():
            python = Interpreter(
                self.python, env=self.env, cwd=self.cwd, pythonpath=self.pythonpath, without=_NOT_INHERITED
            )
            python.env.update(self._environment())
            command = self._command(python, timeout)
            argv = python.command(_CHILD, self.process_name, [command.server, command.target])
            (self._start_leased if command.server == "runserver" else self._start_handed)(python, argv, command)
        if wait:
            self.ready_wait(timeout)

    def _start_handed(self, python: Interpreter, argv: list[str], command: Command) -> None:
        """With a socket that listens already: between the choice of the port and the server nobody can take it."""
        with _web_socket.listen(self.host, self._wanted_port) as listener:
            self.port = listener.getsockname()[1]
            self._spawn(python, [*argv, *command.arguments], address=(self.host, self.port), sockets=[listener])

    def _start_leased(self, python: Interpreter, argv: list[str], command: Command) -> None:
        """With a port that it binds itself, since it can be handed none."""
        from servermgr.ports import drawn  # noqa: PLC0415  # only here it is needed

        with drawn(self.host, self._wanted_port) as lease:
            self.port = lease.port
            where = endpoint(self.host or "0.0.0.0", self.port)  # noqa: S104  # asked for
            address = (self.host, self.port)
            self._spawn(python, [*argv, where, *command.arguments], address=address, removes=lease.removes)

    def _spawn(self, python: Interpreter, argv: list[str], **options: Any) -> None:
        self.spawn(
            argv,
            env=python.env,
            cwd=python.cwd,
            grace_period=self.grace_period,
            crash_grace=self.crash_grace,
            output=self.output,
            **options,
        )

    def health(self) -> None:
        """Ask the application over HTTP.

        Without `health_path` any answer is good, an error's too: there is a server with the application loaded.
        With one, the status must be 200 to 399.

        Raises:
            WorkerError: It cannot be connected to, or does not answer so.
        """
        self._ask_within(ATTEMPT_LIMIT)

    def _ask_within(self, limit: float) -> None:
        if self.process is None:
            raise WorkerError(None, "is not running", name=self.name)
        address = self._address()
        host = self.health_host or endpoint(*address)
        try:
            _web_health.ask(address, self.url, self.health_path, host, limit)
        except WorkerError as error:
            error.name = self.name
            raise
        except OSError as error:
            raise WorkerError(error, f"{self.url} does not respond", name=self.name) from error


def choose(python: Interpreter, told: str | None, known: Sequence[str], *, fallback: str | None = None) -> str:
    """Which server to run.

    Args:
        python: Where it must be installed.
        told: By the caller; None for the first of `known` that is installed.
        known: Those that there are, best first.
        fallback: If none is installed; None raises.

    Raises:
        LaunchError: What is told, or every known one, is not installed.
        ValueError: There is no such server.
    """
    if told is not None:
        if told not in (*known, fallback):
            raise ValueError(f"server must be one of {', '.join(filter(None, (*known, fallback)))}, not {told!r}")
        if told != fallback:
            python.require(told, "web")
        return told
    missing = python.missing(*known)
    found = next((server for server in known if server not in missing), fallback)
    if found is None:
        raise not_installed(" and ".join(known), "web", python.executable)
    return found


def gunicorn(manager: WebManager, target: str, application: str) -> Command:
    """The command for gunicorn; the socket comes as systemd would hand it, announced in the environment."""
    arguments = [] if manager.process_name is None else ["--name", manager.process_name]
    return Command("gunicorn", target, [*arguments, *_workers(manager), *manager.server_args, application])


def uvicorn(manager: WebManager, target: str, application: str, *options: str) -> Command:
    """The command for uvicorn; the socket is its descriptor 3."""
    factory = ["--factory"] if application.endswith("()") else []
    arguments = ["--fd", "3", *options, *factory, *_workers(manager), *manager.server_args]
    return Command("uvicorn", target, [*arguments, application.removesuffix("()")])


def _workers(manager: WebManager) -> list[str]:
    return [] if manager.workers is None else ["--workers", str(manager.workers)]
