"""`python -m servermgr.web_app`: one WSGI or ASGI application on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr._web_options import add_options, manager_options, parse
from servermgr.web_app import Manager

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE = """
example:
  python -m servermgr.web_app mysite.app:application --port 8000 --workers 4

  imports `application` from mysite/app.py below this directory and serves it at http://127.0.0.1:8000/, in
  gunicorn if it is WSGI, in uvicorn if it is ASGI. A callable that makes the application is written with ():
  'mysite.app:create()'. What follows -- is for the server:

  python -m servermgr.web_app mysite.app:application --interface wsgi -- --threads 8
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run an application until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve, parse)


def _serve(options: argparse.Namespace) -> int:
    manager = Manager(
        options.host, options.port, options.application, interface=options.interface, **manager_options(options)
    )
    return cli.serve(manager, lambda: f"{options.application} is served at {manager.url}", timeout=options.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "web_app",
        "Run a WSGI or ASGI application until Ctrl-C, and leave nothing of it behind.",
        EXAMPLE,
        server="the application",
        usage="%(prog)s APPLICATION [OPTION…] [-- ARGUMENT…]",
    )
    parser.add_argument("application", help="package.module:name, or package.module:factory()")
    parser.add_argument("--interface", choices=["wsgi", "asgi"], help="(default: looked up in the application)")
    add_options(parser, "gunicorn or uvicorn")
    return parser
