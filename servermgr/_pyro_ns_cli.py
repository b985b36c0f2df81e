"""`python -m servermgr.pyro_ns`: one Pyro name server on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from typing import TYPE_CHECKING

from servermgr._server_cli import EXIT_STATUSES, failed, serve
from servermgr.errors import WorkerError
from servermgr.pyro_ns import Manager

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = """
example:
  python -m servermgr.pyro_ns --port 9090 --datadir ./names

  runs a name server for this machine, which finds its registrations in ./names when it is started again. A client
  reaches it by Pyro5.api.locate_ns("127.0.0.1", 9090); python -m servermgr.pyro_service registers an object.

  Pyro asks nobody for a password: with a --host other than the loopback interface everybody on the network can
  register and remove names.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a name server until Ctrl-C or SIGTERM.

    Args:
        argv: The arguments; None for those of the command line.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        data_dir = options.datadir
        if data_dir is None:
            data_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="servermgr-pyro_ns-"))
        try:
            manager = Manager(
                options.host, options.port, data_dir, process_name=options.process_name, output=options.log
            )
        except ValueError as error:
            parser.error(str(error))
        try:
            return serve(manager, lambda: f"the Pyro name server is {manager.uri}", timeout=options.timeout)
        except WorkerError as error:
            return failed(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servermgr.pyro_ns",
        description="Run a Pyro5 name server until Ctrl-C, and leave nothing of it behind.",
        epilog=EXAMPLE + EXIT_STATUSES.format(server="the name server"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s)")
    add("--port", type=int, default=9090, help="port to listen on; 0 takes a free one (default: %(default)s)")
    add("--datadir", metavar="DIR", help="registrations are kept here (default: a temporary directory)")
    add("--process-name", metavar="TEXT", default="Pyro NameServer", help="what to show in ps (default: %(default)s)")
    add("--timeout", type=float, metavar="SECONDS", default=10.0, help="for it to be ready (default: %(default)g)")
    add("--log", metavar="FILE", help="append its output to FILE (default: shown only if it fails)")
    return parser
