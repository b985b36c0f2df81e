"""`python -m servermgr.pyro_ns`: one Pyro name server on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr.pyro_ns import Manager

if TYPE_CHECKING:
    import argparse
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
    """Run a name server until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve)


def _serve(options: argparse.Namespace) -> int:
    with contextlib.ExitStack() as stack:
        data_dir = options.datadir
        if data_dir is None:
            data_dir = stack.enter_context(cli.temporary("pyro_ns"))
        manager = Manager(options.host, options.port, data_dir, process_name=options.process_name, output=options.log)
        return cli.serve(manager, lambda: f"the Pyro name server is {manager.uri}", timeout=options.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "pyro_ns",
        "Run a Pyro5 name server until Ctrl-C, and leave nothing of it behind.",
        EXAMPLE,
        server="the name server",
    )
    cli.add_address(parser, 9090, everywhere=False)
    add = parser.add_argument
    add("--datadir", metavar="DIR", help="registrations are kept here (default: a temporary directory)")
    add("--process-name", metavar="TEXT", default="Pyro NameServer", help="what to show in ps (default: %(default)s)")
    cli.add_start(parser)
    return parser
