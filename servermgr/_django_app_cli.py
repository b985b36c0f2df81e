"""`python -m servermgr.django_app`: one Django application on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr._web_options import add_options, manager_options, parse
from servermgr.django_app import Manager

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE = """
example:
  python -m servermgr.django_app mysite.settings --cwd /srv/mysite --port 8000 --workers 4

  runs the project whose settings are in /srv/mysite/mysite/settings.py at http://127.0.0.1:8000/ in gunicorn, or
  in uvicorn or Django's runserver where that is not installed. To be told of each request, and to work on the
  sources: --server runserver --log requests.log. What follows -- is for the server:

  python -m servermgr.django_app mysite.settings --server gunicorn -- --threads 8
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a Django application until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve, parse)


def _serve(options: argparse.Namespace) -> int:
    manager = Manager(
        options.host, options.port, options.settings, reload=not options.noreload, **manager_options(options)
    )
    return cli.serve(manager, lambda: f"{options.settings} is served at {manager.url}", timeout=options.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "django_app",
        "Run a Django application until Ctrl-C, and leave nothing of it behind.",
        EXAMPLE,
        server="the application",
        usage="%(prog)s SETTINGS [OPTION…] [-- ARGUMENT…]",
    )
    parser.add_argument("settings", help="name of the settings module, as mysite.settings")
    parser.add_argument("--noreload", action="store_true", help="runserver does not watch the source files")
    add_options(parser, "gunicorn, uvicorn or runserver")
    return parser
