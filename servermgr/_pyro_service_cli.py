"""`python -m servermgr.pyro_service`: one Pyro service on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr.probes import checked_address
from servermgr.pyro_service import Manager

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE = """
example:
  python -m servermgr.pyro_service adder mypackage.sums:Adder --ns 127.0.0.1:9090

  makes an Adder of mypackage/sums.py below this directory and registers it as "adder" with the name server that
  python -m servermgr.pyro_ns --port 9090 runs. Then, from anywhere on this machine:

  Pyro5.api.Proxy("PYRONAME:adder@127.0.0.1:9090").add(1, 2)

  All public methods can be called, or those alone that are marked with Pyro's @expose, if there are any. Pyro asks
  nobody for a password: with a --host other than the loopback interface everybody on the network can call them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a service until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve)


def _serve(options: argparse.Namespace) -> int:
    ns_host, ns_port = checked_address(f"pyro://{options.ns}", port=9090)
    manager = Manager(
        options.name, options.service, ns_host, ns_port, options.process_name, host=options.host, cwd=options.cwd,
        pythonpath=options.pythonpath, python=options.python, output=options.log,
    )  # fmt: skip
    return cli.serve(manager, lambda: f"{options.service} is {manager.uri}", timeout=options.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "pyro_service",
        "Serve an object over Pyro5 until Ctrl-C, and leave nothing of it behind.",
        EXAMPLE,
        server="the service",
    )
    add = parser.add_argument
    add("name", help="what to register it as")
    add("service", help="package.module:name, an object or a class")
    add("--ns", metavar="HOST:PORT", default="127.0.0.1:9090", help="the name server (default: %(default)s)")
    add("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s)")
    cli.add_interpreter(parser)
    add("--process-name", metavar="TEXT", default="Pyro Service", help="what to show in ps (default: %(default)s)")
    cli.add_start(parser)
    return parser
