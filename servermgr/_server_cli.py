"""What the command lines of the servers share: options, a run until Ctrl-C or SIGTERM, and words for what happened."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from servermgr.base import Manager

#: For the `--help` of a server's program, `server` being put in.
EXIT_STATUSES = """
exit status:
  0  stopped by Ctrl-C or SIGTERM, and nothing is left running
  1  {server} could not be started, or ended by itself
  2  the arguments cannot be used
"""


# ---- options --------------------------------------------------------------------------------------------------


def parser(module: str, description: str, example: str, *, server: str, **options: Any) -> argparse.ArgumentParser:
    """The parser of a server's program, without its options.

    Args:
        module: The server's, below `servermgr`.
        description: What the program does.
        example: How it is used; shown below the options, before `EXIT_STATUSES`.
        server: What the server is called there.
        **options: More for the parser.
    """
    return argparse.ArgumentParser(
        prog=f"python -m servermgr.{module}",
        description=description,
        epilog=example + EXIT_STATUSES.format(server=server),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )


def add_address(to: argparse.ArgumentParser, port: int, *, everywhere: bool = True) -> None:
    """Add `--host` and `--port`.

    Args:
        to: The parser.
        port: The default.
        everywhere: Whether an empty host is every interface.
    """
    empty = "; '' is every one" if everywhere else ""
    to.add_argument("--host", default="127.0.0.1", help=f"interface to listen on{empty} (default: %(default)s)")
    to.add_argument("--port", type=int, default=port, help="port to listen on; 0 is a free one (default: %(default)s)")


def add_interpreter(to: argparse.ArgumentParser) -> None:
    """Add `--cwd`, `--pythonpath` and `--python`."""
    add = to.add_argument
    add("--cwd", metavar="DIR", help="start in DIR, and look for modules there first (default: here)")
    add("--pythonpath", metavar="DIR", action="append", default=[], help="look for modules in DIR, too; repeatable")
    add("--python", metavar="PYTHON", help="the interpreter of another environment (default: this one)")


def add_start(to: argparse.ArgumentParser) -> None:
    """Add `--timeout` and `--log`."""
    add = to.add_argument
    add("--timeout", type=float, metavar="SECONDS", default=10.0, help="for it to be ready (default: %(default)g)")
    add("--log", metavar="FILE", help="append the server's output to FILE (default: shown only if it fails)")


def add_settings(to: argparse.ArgumentParser) -> None:
    """Add `-c`, for settings of the server."""
    form = "NAME=VALUE"
    to.add_argument("-c", metavar=form, type=pair(form), action="append", default=[], help="a setting; repeatable")


def pair(form: str) -> Callable[[str], tuple[str, str]]:
    """The type of an argument such as `NAME=VALUE`, which is what `form` says; neither half may be empty."""

    def split(text: str) -> tuple[str, str]:
        left, equals, right = text.partition("=")
        if not (left and equals and right):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}")
        return left, right

    return split


@contextlib.contextmanager
def temporary(server: str, mode: int = 0o700) -> Iterator[str]:
    """A directory for as long as the block runs.

    Args:
        server: Whose, for its name.
        mode: 0o711 lets the user pass through it whom root starts the server as, 0o755 also look into it.
    """
    with tempfile.TemporaryDirectory(prefix=f"servermgr-{server}-", ignore_cleanup_errors=True) as directory:
        os.chmod(directory, mode)
        yield directory


# ---- the run --------------------------------------------------------------------------------------------------


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    work: Callable[[argparse.Namespace], int],
    parse: Callable[[argparse.ArgumentParser, Sequence[str] | None], argparse.Namespace] | None = None,
) -> int:
    """Do what the arguments ask for, and say what is wrong with them or with the server.

    Args:
        parser: Knows the arguments.
        argv: The arguments; None for those of the command line.
        work: Makes the manager and has it serve.
        parse: Reads the arguments; None leaves that to the parser.

    Returns:
        The exit status.
    """
    options = parser.parse_args(argv) if parse is None else parse(parser, argv)
    try:
        return work(options)
    except WorkerError as error:
        # Some are about a value. With a status it is the server that has refused it; else the arguments are to blame.
        if isinstance(error, ValueError) and error.status is None:
            parser.error(str(error))
        sys.stderr.write(f"error: {error}\n")
        return 1
    except ValueError as error:
        parser.error(str(error))


def serve(manager: Manager, ready: Callable[[], str], *, timeout: float | None = 10.0) -> int:
    """Run a server until Ctrl-C or SIGTERM. On true return nothing of it is left.

    Args:
        manager: Whose server to run.
        ready: Called once it is ready; what it returns is printed as one line.
        timeout: Seconds for it to become ready; None waits for ever.

    Returns:
        The exit status, 0.

    Raises:
        WorkerError: It could not be started, or ended by itself.
    """
    # As Ctrl-C, so that whoever stops this program stops the server in the same, tidy way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        manager.start(timeout=timeout)
        sys.stdout.write(f"{ready()} (Ctrl-C stops it)\n")
        sys.stdout.flush()
        outcome = manager.wait()
    except KeyboardInterrupt:
        manager.stop()  # has nothing left to do, unless the interrupt came between two lines above
        return 0
    log = manager.log_path
    kept = log if log is not None and os.path.exists(log) else None  # a private one is gone with the tree
    raise WorkerError(
        None, "ended by itself", name=manager.name, status=outcome.status, output=manager.output_tail(), log=kept
    )
