"""`python -m servermgr.redis`: one Redis on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from servermgr._server_cli import EXIT_STATUSES, failed, serve
from servermgr.errors import WorkerError
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
    """Run Redis until Ctrl-C or SIGTERM.

    Args:
        argv: The arguments; None for those of the command line.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        with _data_directory(options) as data_dir:
            manager = _manager(options, data_dir)
            return serve(manager, lambda: _ready(manager))
    except ValueError as error:
        parser.error(str(error))
    except WorkerError as error:
        return failed(error)


def _ready(manager: Manager) -> str:
    who = "" if manager.user is None else f" as the user {manager.user}"
    return f"Redis serves {manager.url}{who}"


@contextlib.contextmanager
def _data_directory(options: argparse.Namespace) -> Iterator[str]:
    if options.datadir is not None:
        yield options.datadir
        return
    with tempfile.TemporaryDirectory(prefix="servermgr-redis-", ignore_cleanup_errors=True) as directory:
        os.chmod(directory, 0o711)  # noqa: S103  # started by root, the server's user passes through it
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


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servermgr.redis",
        description="Run a Redis or Valkey of your own until Ctrl-C, and leave nothing of it behind but its data.",
        epilog=EXAMPLE + EXIT_STATUSES.format(server="the server"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="interface to listen on; '' is every one (default: %(default)s)")
    add("--port", type=int, default=6379, help="port to listen on; 0 draws a free one (default: %(default)s)")
    add("--unix-socket", metavar="PATH", help="listen on a Unix socket, too")
    add("--datadir", metavar="DIR", help="configuration and data go here (default: a temporary directory)")
    add("--forget", action="store_true", help="save nothing")
    add("--binary", metavar="PROGRAM", help="the program (default: redis-server, else valkey-server)")
    add("--user", help="user to run as, when started by root (default: the owner of DIR, or redis)")
    add("-c", metavar="NAME=VALUE", type=_setting, action="append", default=[], help="a setting; repeatable")
    return parser
