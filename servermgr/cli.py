"""The command line: `servermgr`, also `python -m servermgr`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import NoReturn

    Subparsers = argparse._SubParsersAction["Parser"]

_EPILOG = """\
`servermgr COMMAND --help` tells more, with examples. Each command can answer in JSON (--json).

exit status: 0 done; 1 it could not be done; 2 wrong usage; `run` and `up … -- CMD` have that of CMD
"""


class Command(NamedTuple):
    """One command.

    Attributes:
        module: Where it lives; loaded when it is asked for.
        text: What it does, in a line.
        usage_status: The exit status of wrong usage.
    """

    module: str
    text: str
    usage_status: int = 2


COMMANDS = {
    "run": Command("servermgr._cli_run", "run one command, so that nothing of it outlives it", 125),
    "up": Command("servermgr._cli_up", "start servers, run a command with their addresses, and stop them"),
    "ps": Command("servermgr._cli_ps", "list the servers and their processes, live and left over"),
    "stop": Command("servermgr._cli_stop", "end a server, whoever started it, politely first"),
    "logs": Command("servermgr._cli_logs", "show what a server has written"),
    "sweep": Command("servermgr._cli_sweep", "end what dead programs have left behind"),
    "ports": Command("servermgr._cli_ports", "say who listens on an address, and from which tree"),
    "doctor": Command("servermgr._cli_doctor", "try what this machine guarantees, and say what is missing"),
    "completions": Command("servermgr._cli_completions", "print the completions for a shell"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows `--` is a command, whose options are none of ours.
    end = words.index("--") if "--" in words else len(words)
    options, unknown = make_parser(words[:1]).parse_known_args(words[:end])
    if unknown:  # argparse would have the whole program complain, not the command
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.command = words[end + 1 :]
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    from servermgr._cli_look import Look  # noqa: PLC0415  # not for --help
    from servermgr.errors import WorkerError  # noqa: PLC0415

    usage_status = COMMANDS[options.called].usage_status
    try:
        return int(options.module.run(options))
    except WorkerError as error:
        Look(as_json=options.json).error(error)
        return usage_status if options.called == "run" else 1
    except ValueError as error:
        Look(as_json=options.json).error(error)
        return usage_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as SIGPIPE ends other programs, when the reader of a pipe has seen enough
        sys.stdout = None  # it would be flushed at the end, and complain
        return 141


class Parser(argparse.ArgumentParser):
    """Exits with the command's own status for wrong usage."""

    usage_status = 2

    def error(self, message: str) -> NoReturn:
        """As argparse does it."""
        self.print_usage(sys.stderr)
        self.exit(self.usage_status, f"{self.prog}: error: {message}\n")


def make_parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the arguments of the wanted commands; loading those of all would take its time."""
    parser = Parser(
        prog="servermgr",
        description="Start servers, see them, end them, and leave nothing of them behind.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from servermgr import __version__  # noqa: PLC0415

    parser.add_argument("--version", action="version", version=f"servermgr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for name, command in COMMANDS.items():
        module = importlib.import_module(command.module) if name in wanted else None
        _add(commands, name, command, module)
    return parser


def _add(commands: Subparsers, name: str, command: Command, module: ModuleType | None) -> None:
    parser = commands.add_parser(
        name,
        help=command.text,
        description=command.text[0].upper() + command.text[1:] + ".",
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(called=name, module=module, parser=parser)
    parser.usage_status = command.usage_status
    if module is not None:
        module.configure(parser)
