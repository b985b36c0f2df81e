"""`python -m servermgr.redis`: one Redis on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr.redis import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLE = """
examples:
  python -m servermgr.redis --port 6380 --datadir ./cache -c appendonly=yes
  python -m servermgr.redis --port 0 --forget

  The first keeps its data in ./cache. The second has a directory of its own for as long as it runs, on a port
  that is free. Both print the URL to connect to:

  redis-cli -u redis://127.0.0.1:6380/0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run Redis until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve)


def _serve(options: argparse.Namespace) -> int:
    with _data_directory(options) as data_dir:
        manager = _manager(options, data_dir)
        return cli.serve(manager, lambda: _ready(manager))


def _ready(manager: Manager) -> str:
    who = "" if manager.user is None else f" as the user {manager.user}"
    return f"Redis serves {manager.url}{who}"


@contextlib.contextmanager
def _data_directory(options: argparse.Namespace) -> Iterator[str]:
    if options.datadir is not None:
        yield options.datadir
        return
    with cli.temporary("redis", 0o711) as directory:
        yield os.path.join(directory, "data")


def _manager(options: argparse.Namespace, data_dir: str) -> Manager:
    return Manager(
        options.host,
        options.port,
        data_dir,
        unix_socket=options.unix_socket,
        persist=not options.forget,
        options=dict(options.c),
        binary=options.binary,
        user=options.user,
    )


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "redis",
        "Run a Redis or Valkey of your own until Ctrl-C, and leave nothing of it behind but its data.",
        EXAMPLE,
        server="the server",
    )
    cli.add_address(parser, 6379)
    add = parser.add_argument
    add("--unix-socket", metavar="PATH", help="listen on a Unix socket, too")
    add("--datadir", metavar="DIR", help="configuration and data go here (default: a temporary directory)")
    add("--forget", action="store_true", help="save nothing")
    add("--binary", metavar="PROGRAM", help="the program (default: redis-server, else valkey-server)")
    add("--user", help="user to run as, when started by root (default: the owner of DIR, or redis)")
    cli.add_settings(parser)
    return parser
