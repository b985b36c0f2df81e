"""The options that the command lines of web applications share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any


def add_options(parser: argparse.ArgumentParser, servers: str) -> None:
    """Add them to a parser.

    Args:
        parser: The parser.
        servers: What `--server` may be, for its help.
    """
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="interface to listen on; '' is every one (default: %(default)s)")
    add("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: %(default)s)")
    add("--server", help=f"{servers} (default: the best that is installed)")
    add("--workers", type=int, metavar="N", help="worker processes (default: the server's)")
    add("--cwd", metavar="DIR", help="start in DIR, and look for modules there first (default: here)")
    add("--pythonpath", metavar="DIR", action="append", default=[], help="look for modules in DIR, too; repeatable")
    add("--python", metavar="PYTHON", help="the interpreter of another environment (default: this one)")
    add("--process-name", metavar="TEXT", help="what to show in ps")
    add("--health-path", metavar="PATH", help="ready when GET PATH is answered with 200 to 399 (default: any answer)")
    add("--timeout", type=float, metavar="SECONDS", default=10.0, help="for it to be ready (default: %(default)g)")
    add("--log", metavar="FILE", help="append the server's output to FILE (default: shown only if it fails)")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with what follows `--` as `server_args`.

    Args:
        parser: The parser.
        argv: The arguments; None for those of the command line.
    """
    # Not the parser's to do: with options in between it does not tell the one positional argument from the rest.
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.server_args = arguments[end + 1 :]
    return options


def manager_options(options: argparse.Namespace) -> dict[str, Any]:
    """What a manager takes of them, as keyword arguments."""
    names = ("server", "workers", "cwd", "pythonpath", "python", "process_name", "health_path", "server_args")
    return {name: getattr(options, name) for name in names} | {"output": options.log}
