"""`python -m servermgr.postgres`: one PostgreSQL on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from servermgr._server_cli import EXIT_STATUSES, failed, serve
from servermgr.errors import WorkerError
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
    """Run PostgreSQL until Ctrl-C or SIGTERM.

    Args:
        argv: The arguments; None for those of the command line.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        with _data_directory(options) as (db_dir, initialize):
            manager = _manager(options, db_dir, initialize)
            return serve(manager, lambda: _ready(manager))
    except ValueError as error:
        parser.error(str(error))
    except WorkerError as error:
        return failed(error)


def _ready(manager: Manager) -> str:
    who = "" if manager.user is None else f" as the user {manager.user}"
    return f"PostgreSQL {manager.version} serves {manager.url}{who}"


@contextlib.contextmanager
def _data_directory(options: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    if options.datadir is not None:
        yield options.datadir, options.initialize
        return
    with tempfile.TemporaryDirectory(prefix="servermgr-postgres-", ignore_cleanup_errors=True) as directory:
        os.chmod(directory, 0o711)  # noqa: S103  # started by root, the server's user passes through it
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


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servermgr.postgres",
        description="Run a PostgreSQL of your own until Ctrl-C, and leave nothing of it behind but its data.",
        epilog=EXAMPLE + EXIT_STATUSES.format(server="PostgreSQL"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="interface to listen on; '' is every one (default: %(default)s)")
    add("--port", type=int, default=5432, help="port to listen on; 0 draws a free one (default: %(default)s)")
    add("--no-tcp", action="store_true", help="listen on the Unix socket only")
    add("--datadir", metavar="DIR", help="the data directory (default: a temporary one)")
    add("--initialize", action="store_true", help="make DIR where it is missing or empty")
    add("--pg-version", metavar="VERSION", default="", help="such as 15 (default: $POSTGRES_VERSION, or the newest)")
    add("--superuser", metavar="ROLE", default="postgres", help="the role to make and ask by (default: %(default)s)")
    add("--user", help="user to run as, when started by root (default: the owner of DIR, or postgres)")
    add("--fast", action="store_true", help="do not wait for the disk: for tests")
    add("-c", metavar="NAME=VALUE", type=_setting, action="append", default=[], help="a setting; repeatable")
    return parser
