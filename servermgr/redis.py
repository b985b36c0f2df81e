"""Redis, or Valkey, as a managed server.

::

    cache = Manager("127.0.0.1", 0, "/srv/app/cache")
    with cache:
        redis.Redis.from_url(cache.url).set("key", "value")

Alone: `python -m servermgr.redis --help`.
"""

from __future__ import annotations

import os
import signal
import urllib.parse
from typing import TYPE_CHECKING

import servermgr.base
from servermgr import _redis_config as config
from servermgr import _redis_data_dir as folder
from servermgr._redis_program import complaint, find
from servermgr._redis_wire import ReplyError, Session
from servermgr._server_complaint import explained
from servermgr._server_options import checked_host, checked_port
from servermgr._server_state import refuse_second, running
from servermgr.addresses import reached_at
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from servermgr._redis_config import Value
    from servermgr._redis_wire import Reply
    from servermgr.output import Target

__all__ = ["Manager", "ReplyError"]

#: Seconds for one health check, and for one command.
HEALTH_TIMEOUT = 5.0
COMMAND_TIMEOUT = 60.0


class Manager(servermgr.base.Manager):
    """A Redis with a configuration of its own, which nothing on the system adds to.

    Below data_dir it keeps `redis.conf` (mode 0600), `redis.pid`, its data, and as a daemon `redis.log`. One
    directory serves one server at a time.

    `stop` sends SIGTERM, by which the server saves its data and ends, as by the command SHUTDOWN.

    Without a password every user of this machine may connect over TCP, as Redis has it; other machines it then
    refuses by itself. The Unix socket is closed to all but the server's own user and root.

    Args:
        host: The interface to listen on, an address or a name; `""` is every one; None: no TCP at all, but a
            Unix socket.
        port: The port; 0 draws a free one at each start.
        data_dir: Directory for configuration and data. Made if it is missing, its parents are not.
        *args: As for `servermgr.base.Manager`: the name.
        foreground: Whether the server stays the process that is started, instead of a daemon with a pidfile.
        unix_socket: A path for a Unix socket; True for `redis.sock` in data_dir; None for none, if there is a host.
        password: What clients have to give; None for nothing.
        persist: Whether to save the data, now and then and at the end; if False everything is forgotten.
        options: More settings of `redis.conf`, a bool as yes or no, a sequence as several words:
            `{"appendonly": True, "save": (60, 1)}`.
        binary: The program, a path or a name; None looks for `redis-server`, then for `valkey-server`.
        user: When started by root, the user to run as. None: the owner of data_dir; for a new one `redis`,
            `valkey` or `nobody`, but root where those may not get there.
        output: As for `spawn`; None: a private log of the run, for a daemon `redis.log`, which is kept. For a daemon
            it can only be a path, at which that user can write.
        grace_period: Seconds from SIGTERM to SIGKILL; 0 kills at once.
        crash_grace: The same once this process has died.
        **kwargs: As for `servermgr.base.Manager`.

    Attributes:
        port: The port; one that is drawn is known once the server is started, and 0 before and without TCP.
        user: The user whom the server runs as, once started; None for the caller himself.
        unix_socket: The path of its socket, or None.

    Raises:
        ValueError: An argument cannot be what it is meant to be.
    """

    def __init__(
        self,
        host: str | None,
        port: int,
        data_dir: str | os.PathLike[str],
        *args: Any,
        foreground: bool = True,
        unix_socket: str | os.PathLike[str] | bool | None = None,
        password: str | None = None,
        persist: bool = True,
        options: Mapping[str, Value] | None = None,
        binary: str | os.PathLike[str] | None = None,
        user: str | None = None,
        output: Target = None,
        grace_period: float = 10.0,
        crash_grace: float = 3.0,
        **kwargs: Any,
    ) -> None:
        if not args:
            kwargs.setdefault("name", "redis (socket)" if host is None else f"redis {host or '*'}:{port}")
        super().__init__(*args, **kwargs)
        if not os.fspath(data_dir):
            raise ValueError("data_dir is empty")
        if not foreground and not (output is None or isinstance(output, (str, os.PathLike))):
            raise ValueError("a daemon writes its log by itself: output must be a path")
        self.host = checked_host(host)
        self.data_dir = os.path.realpath(data_dir)
        self.foreground = foreground
        self.unix_socket = self._socket_path(unix_socket)
        self.password = password
        self.persist = persist
        self.options = config.checked_options(options or {})
        self.binary = binary
        self.output = output
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.user = user
        self._asked_user = user
        self._asked_port = checked_port(port)
        self.port = 0 if host is None else port
        config.quote(password or "")

    def _socket_path(self, given: str | os.PathLike[str] | bool | None) -> str | None:
        if isinstance(given, bool) or given is None:
            if not given and self.host is not None:
                return None
            given = os.path.join(self.data_dir, folder.SOCKET)
        return config.checked_socket(os.path.abspath(given))

    # --- where it is --------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """`redis://…`, or `unix://…` where there is no TCP; with the password, if there is one."""
        if self.host is None:
            return self.socket_url
        host = reached_at(self.host)
        return f"redis://{self._credentials()}{f'[{host}]' if ':' in host else host}:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """`unix://…`.

        Raises:
            WorkerError: It has no Unix socket.
        """
        if self.unix_socket is None:
            raise WorkerError(None, "it has no Unix socket: pass unix_socket=True", name=self.name)
        return f"unix://{self._credentials()}{urllib.parse.quote(self.unix_socket)}?db=0"

    def _credentials(self) -> str:
        return "" if self.password is None else f":{urllib.parse.quote(self.password, safe='')}@"

    def _where(self) -> str | tuple[str, int]:
        if self.unix_socket is not None:
            return self.unix_socket
        return reached_at(self.host or ""), self.port

    # --- starting -----------------------------------------------------------------------------------------------

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Write the configuration and start the server on it.

        Args:
            wait: Whether to return only when it answers, with its data loaded.
            timeout: Seconds for that; see `ready_wait`.

        Raises:
            LaunchError: There is no such program, or the directory cannot be used.
            AddressInUseError: Somebody else listens.
            WorkerError: A server runs on the directory already.
        """
        refuse_second(self)
        super().stop()  # ends the wait for one that was not waited for; nothing to do after any other
        with self._named():
            self._start()
        if wait:
            self.ready_wait(timeout)

    def _start(self) -> None:
        if self.host is None:
            self._launch(())
            return
        from servermgr import ports  # noqa: PLC0415

        with ports.drawn(self.host, self._asked_port) as lease:
            self.port = lease.port
            servermgr.base.address_free_check(self.host, self.port)  # before a directory is made for nothing
            self._launch(lease.removes)

    def _launch(self, removes: Sequence[str]) -> None:
        program = find(self.binary)
        runner = folder.runner(self.data_dir, self._asked_user)
        folder.prepare(self.data_dir, runner)
        output = self.output
        if output is None and not self.foreground:
            output = folder.log_file(self.data_dir, runner)
        pidfile = os.path.join(self.data_dir, folder.PIDFILE)
        path = os.path.join(self.data_dir, folder.CONFIG)
        runner.write(path, self._configuration(pidfile, output))
        self.user = runner.name
        self.spawn(
            runner.acting([program, path], self.data_dir),
            env={**os.environ, **runner.environment()},
            cwd=self.data_dir,
            pidfile=None if self.foreground else pidfile,
            stop_signal=signal.SIGTERM,
            grace_period=self.grace_period,
            crash_grace=self.crash_grace,
            # The pidfile in any case: a daemon may fail so soon after it has written it that nobody saw it live.
            removes=[*removes, pidfile, *filter(None, [self.unix_socket])],
            output=output,
            address=None if self.host is None else (self.host, self.port),
        )

    def _configuration(self, pidfile: str, output: Target) -> bytes:
        settings: dict[str, Value] = {"port": self.port, "dir": self.data_dir, "pidfile": pidfile}
        if self.host:  # without it the server listens everywhere, by IPv6 as far as there is one
            settings["bind"] = self.host
        if self.unix_socket is not None:
            settings |= {"unixsocket": self.unix_socket, "unixsocketperm": 700}
        settings["daemonize"] = not self.foreground
        settings["logfile"] = "" if self.foreground or not isinstance(output, (str, os.PathLike)) else os.fspath(output)
        if self.password is not None:
            settings["requirepass"] = self.password
        if not self.persist:
            settings |= {"save": "", "appendonly": False}
        return config.render({**settings, **self.options})

    # --- ready --------------------------------------------------------------------------------------------------

    def ready_wait(self, timeout: float | None = 10.0, verbose: bool = False) -> None:
        """As `servermgr.base.Manager.ready_wait`; an error also says what the server itself said last."""
        with explained(complaint):
            super().ready_wait(timeout, verbose)

    def health(self) -> None:
        """Ask it by PING. One that is loading its data yet is not well.

        Raises:
            WorkerError: It does not answer, or nothing runs.
        """
        with self._named():
            self._ask_within(HEALTH_TIMEOUT)

    def _ask_within(self, limit: float) -> None:
        running(self)
        answer = self._ask(limit, "PING")
        if answer != "PONG":
            raise WorkerError(None, f"it answers {answer!r}")

    def command(self, *words: object) -> Reply:
        """Run one command, such as `command("SET", "key", "value")`. For more than that take a real client.

        Returns:
            What it answers: text, a number, None, or a list of these.

        Raises:
            ReplyError: It refuses the command.
            WorkerError: It does not answer.
        """
        with self._named():
            return self._ask(COMMAND_TIMEOUT, *words)

    def _ask(self, limit: float, *words: object) -> Reply:
        try:
            with Session(self._where(), self.password, limit) as session:
                return session.ask(*words)
        except OSError as error:
            raise WorkerError(error, "it does not answer") from error


if __name__ == "__main__":
    from servermgr._redis_cli import main

    raise SystemExit(main())
