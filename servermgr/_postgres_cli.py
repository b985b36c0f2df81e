"""`python -m servermgr.postgres`: one PostgreSQL on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr.postgres import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLE = """
examples:
  python -m servermgr.postgres --port 5433 --datadir ./db --initialize
  python -m servermgr.postgres --port 0 --fast -c work_mem=64MB

  The first keeps its data in ./db, which it makes at its first run. The second has a data directory of its own
  for as long as it runs, and does not wait for the disk: for tests. Both print the URL to connect to:

  psql 'postgresql://postgres@127.0.0.1:5433/postgres?passfile=...'
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run PostgreSQL until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve)


def _serve(options: argparse.Namespace) -> int:
    with _data_directory(options) as (db_dir, initialize):
        manager = _manager(options, db_dir, initialize)
        return cli.serve(manager, lambda: _ready(manager))


def _ready(manager: Manager) -> str:
    who = "" if manager.user is None else f" as the user {manager.user}"
    return f"PostgreSQL {manager.version} serves {manager.url}{who}"


@contextlib.contextmanager
def _data_directory(options: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    if options.datadir is not None:
        yield options.datadir, options.initialize
        return
    with cli.temporary("postgres", 0o711) as directory:
        yield os.path.join(directory, "db"), True


def _manager(options: argparse.Namespace, db_dir: str, initialize: bool) -> Manager:
    return Manager(
        None if options.no_tcp else options.host,
        options.port,
        db_dir,
        initialize,
        options.pg_version,
        user=options.user,
        superuser=options.superuser,
        fast=options.fast,
        options=dict(options.c),
    )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "postgres",
        "Run a PostgreSQL of your own until Ctrl-C, and leave nothing of it behind but its data.",
        EXAMPLE,
        server="PostgreSQL",
    )
    cli.add_address(parser, 5432)
    add = parser.add_argument
    add("--no-tcp", action="store_true", help="listen on the Unix socket only")
    add("--datadir", metavar="DIR", help="the data directory (default: a temporary one)")
    add("--initialize", action="store_true", help="make DIR where it is missing or empty")
    add("--pg-version", metavar="VERSION", default="", help="such as 15 (default: $POSTGRES_VERSION, or the newest)")
    add("--superuser", metavar="ROLE", default="postgres", help="the role to make and ask by (default: %(default)s)")
    add("--user", help="user to run as, when started by root (default: the owner of DIR, or postgres)")
    add("--fast", action="store_true", help="do not wait for the disk: for tests")
    cli.add_settings(parser)
    return parser
