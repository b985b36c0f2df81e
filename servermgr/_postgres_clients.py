"""What a client needs of a managed PostgreSQL: where it is, and databases to work in."""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
from typing import TYPE_CHECKING

from servermgr import _postgres_dsn as dsns
from servermgr import _postgres_settings as settings
from servermgr import base
from servermgr._postgres_cluster import PASSFILE
from servermgr._postgres_dsn import Database
from servermgr._postgres_wire import AuthenticationError, Session, SqlError, identifier
from servermgr.addresses import reached_at
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servermgr._postgres_wire import Row

#: The database that every cluster has for administration.
MAINTENANCE = "postgres"
#: Seconds for one administrative statement.
STATEMENT_TIMEOUT = 60.0


class ForClients(base.Manager):
    """The clients' side of `servermgr.postgres.Manager`, which see for its attributes."""

    host: str | None
    db_dir: str
    superuser: str
    socket_dir: str
    fast: bool
    _port: int
    _major: int

    @property
    def port(self) -> int:
        """The port; one that is drawn is known once the server is started, and 0 before."""
        return self._port

    @property
    def url(self) -> str:
        """`postgresql://…` for the superuser and the database `postgres`."""
        return dsns.url(self._where(MAINTENANCE, None, False))

    def dsn(self, dbname: str = MAINTENANCE, user: str | None = None, *, socket: bool = False) -> str:
        """A connection string for psycopg, psql, and all that is built on libpq.

        Args:
            dbname: The database.
            user: The role; None is the superuser.
            socket: Whether to connect over the Unix socket, which needs no password and takes less time, and
                is open to the server's own user and root only. Without TCP it is the only way.
        """
        return dsns.keywords(self._where(dbname, user, socket))

    def _where(self, dbname: str, user: str | None, socket: bool) -> dict[str, str]:
        if not self._port or (socket and not self.socket_dir):
            raise WorkerError(None, "where it listens is known once it is started", name=self.name)
        over_tcp = self.host is not None and not socket
        host = reached_at(self.host or "") if over_tcp else self.socket_dir
        where = {"host": host, "port": str(self._port), "dbname": dbname, "user": user or self.superuser}
        passfile = os.path.join(self.db_dir, PASSFILE)
        if over_tcp and os.path.exists(passfile):
            where["passfile"] = passfile
        return where

    def _socket(self) -> str:
        return os.path.join(self.socket_dir, settings.socket_name(self._port))

    def query(self, sql: str, dbname: str = MAINTENANCE) -> list[Row]:
        """Run one statement as the superuser, for setting things up. For more than that take a real client.

        Args:
            sql: The statement, sent as it is.
            dbname: The database to run it in.

        Returns:
            The rows, each value as the text that PostgreSQL has for it, or None.

        Raises:
            SqlError: The server refuses it; its `code` says why.
            WorkerError: It does not answer; or it asks for a password, and psycopg is not installed.
        """
        with self._named():
            try:
                with Session(self._socket(), self.superuser, dbname, STATEMENT_TIMEOUT) as session:
                    return session.query(sql)
            except AuthenticationError as error:
                return self._query_by_client(sql, dbname, error)
            except OSError as error:
                raise WorkerError(error, "it does not answer") from error

    def _query_by_client(self, sql: str, dbname: str, refusal: AuthenticationError) -> list[Row]:
        """For a cluster that was made elsewhere, and has rules of its own: libpq knows all ways to say who one is."""
        try:
            psycopg = importlib.import_module("psycopg")
        except ImportError:
            text = f"{refusal.text}; for that a client is needed: pip install 'servermgr[postgres]'"
            raise WorkerError(refusal, text) from refusal
        try:
            with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
                found = connection.execute(sql)
                rows = found.fetchall() if found.description else []
        except psycopg.Error as error:
            code = getattr(error, "sqlstate", None) or refusal.code
            raise SqlError(error, str(error).strip(), code=code) from error
        return [tuple(None if value is None else str(value) for value in row) for row in rows]

    def create_database(self, name: str, template: str | None = None) -> Database:
        """Make a database.

        Args:
            name: Its name.
            template: The database to copy, which nobody may be connected to meanwhile; None for an empty one.

        Raises:
            SqlError: There is one of that name, or no such template, or somebody uses the template.
        """
        how = "" if template is None else f" TEMPLATE {identifier(template)}"
        if self.fast and self._major >= 15:
            # Before 15 the only way. It needs two checkpoints, which cost nothing where the disk is not waited for,
            # and saves writing the whole database to the log, too.
            how += " STRATEGY file_copy"
        self.query(f"CREATE DATABASE {identifier(name)}{how}")
        where = self._where(name, None, False)
        return Database(name, dsns.keywords(where), dsns.url(where))

    def drop_database(self, name: str) -> None:
        """Remove a database, if there is one of that name; whoever is connected to it is sent away."""
        self.query(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")

    @contextlib.contextmanager
    def database(self, template: str | None = None) -> Iterator[Database]:
        """A database of one's own for as long as the block lasts.

        Args:
            template: As for `create_database`.
        """
        made = self.create_database(f"servermgr_{secrets.token_hex(8)}", template)
        try:
            yield made
        finally:
            if self.process is not None:
                self.drop_database(made.name)
