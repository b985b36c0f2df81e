"""The options that the command lines of web applications share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from servermgr import _server_cli as cli

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
    cli.add_address(parser, 8000)
    add = parser.add_argument
    add("--server", help=f"{servers} (default: the best that is installed)")
    add("--workers", type=int, metavar="N", help="worker processes (default: the server's)")
    cli.add_interpreter(parser)
    add("--process-name", metavar="TEXT", help="what to show in ps")
    add("--health-path", metavar="PATH", help="ready when GET PATH is answered with 200 to 399 (default: any answer)")
    cli.add_start(parser)


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
