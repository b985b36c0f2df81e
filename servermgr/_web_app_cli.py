"""`python -m servermgr.web_app`: one WSGI or ASGI application on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from servermgr._server_cli import EXIT_STATUSES, failed, serve
from servermgr._web_options import add_options, manager_options, parse
from servermgr.errors import WorkerError
from servermgr.web_app import Manager

if TYPE_CHECKING:
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
    """Run an application until Ctrl-C or SIGTERM.

    Args:
        argv: The arguments; None for those of the command line.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parse(parser, argv)
    try:
        manager = Manager(
            options.host, options.port, options.application, interface=options.interface, **manager_options(options)
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        return serve(manager, lambda: f"{options.application} is served at {manager.url}", timeout=options.timeout)
    except WorkerError as error:
        return failed(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servermgr.web_app",
        usage="%(prog)s APPLICATION [OPTION…] [-- ARGUMENT…]",
        description="Run a WSGI or ASGI application until Ctrl-C, and leave nothing of it behind.",
        epilog=EXAMPLE + EXIT_STATUSES.format(server="the application"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("application", help="package.module:name, or package.module:factory()")
    parser.add_argument("--interface", choices=["wsgi", "asgi"], help="(default: looked up in the application)")
    add_options(parser, "gunicorn or uvicorn")
    return parser
