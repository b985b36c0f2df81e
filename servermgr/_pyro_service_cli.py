"""`python -m servermgr.pyro_service`: one Pyro service on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from servermgr._server_cli import EXIT_STATUSES, failed, serve
from servermgr.errors import WorkerError
from servermgr.probes import checked_address
from servermgr.pyro_service import Manager

if TYPE_CHECKING:
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
    """Run a service until Ctrl-C or SIGTERM.

    Args:
        argv: The arguments; None for those of the command line.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        ns_host, ns_port = checked_address(f"pyro://{options.ns}", port=9090)
        manager = Manager(
            options.name, options.service, ns_host, ns_port, options.process_name, host=options.host, cwd=options.cwd,
            pythonpath=options.pythonpath, python=options.python, output=options.log,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    try:
        return serve(manager, lambda: f"{options.service} is {manager.uri}", timeout=options.timeout)
    except WorkerError as error:
        return failed(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servermgr.pyro_service",
        description="Serve an object over Pyro5 until Ctrl-C, and leave nothing of it behind.",
        epilog=EXAMPLE + EXIT_STATUSES.format(server="the service"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", help="what to register it as")
    add("service", help="package.module:name, an object or a class")
    add("--ns", metavar="HOST:PORT", default="127.0.0.1:9090", help="the name server (default: %(default)s)")
    add("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s)")
    add("--cwd", metavar="DIR", help="start in DIR, and look for modules there first (default: here)")
    add("--pythonpath", metavar="DIR", action="append", default=[], help="look for modules in DIR, too; repeatable")
    add("--python", metavar="PYTHON", help="the interpreter of another environment (default: this one)")
    add("--process-name", metavar="TEXT", default="Pyro Service", help="what to show in ps (default: %(default)s)")
    add("--timeout", type=float, metavar="SECONDS", default=10.0, help="for it to be ready (default: %(default)g)")
    add("--log", metavar="FILE", help="append its output to FILE (default: shown only if it fails)")
    return parser
