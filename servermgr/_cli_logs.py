"""`servermgr logs`: what a server has written, and with -f what it writes."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO

from servermgr import _cli_trees
from servermgr._cli_look import Look
from servermgr.deadline import sleep
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from servermgr.ledger import Record

EPILOG = """\
examples:
  servermgr logs db                all of it
  servermgr logs db -n 20          the last 20 lines
  servermgr logs db -f             what comes, until Ctrl-C or the end of the server

exit status: 0; 1 there is no such server, or its output does not go to a file
"""
_CHUNK = 65536
_PAUSE = 0.1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `logs`."""
    parser.add_argument("name", metavar="NAME", help="the server's name as `ps` shows it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    parser.add_argument("-n", "--lines", type=_count, metavar="N", help="only the last N lines (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line")


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def run(options: argparse.Namespace) -> int:
    """Show it."""
    look = Look(as_json=options.json)
    record = _cli_trees.named(options.name)[-1]  # of several the youngest
    with _opened(record) as file, contextlib.suppress(KeyboardInterrupt):
        _skip(file, options.lines)
        for line in _lines(file, record if options.follow else None):
            text = line.decode(errors="replace").removesuffix("\r")  # Windows' line end is ours to write, too
            if options.json:
                look.compact({"name": record.name, "line": text})
            else:
                look.answer(text)
    return 0


def _opened(record: Record) -> BinaryIO:
    if record.log is None:
        raise WorkerError(None, "its output does not go to a file that servermgr knows of", name=record.name)
    try:
        return open(record.log, "rb")
    except OSError as error:
        raise WorkerError(error, f"its log cannot be read: {record.log}", name=record.name) from error


def _skip(file: BinaryIO, lines: int | None) -> None:
    """Go to where the last lines begin: from the end, for a log may be long."""
    if lines is None:
        return
    position = size = file.seek(0, os.SEEK_END)
    wanted, tail = lines, b""
    while position > 0 and tail.rstrip(b"\n").count(b"\n") < wanted:
        position = max(0, position - _CHUNK)
        file.seek(position)
        tail = file.read(size - position)
    kept = tail.splitlines(keepends=True)[-lines:] if lines else []
    file.seek(size - sum(map(len, kept)))


def _lines(file: BinaryIO, followed: Record | None) -> Iterator[bytes]:
    rest = b""
    last = False
    while True:
        chunk = file.read(_CHUNK)
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if chunk:
            continue
        if followed is None or last:
            break
        # Asked before the next look, and not after it: what is written between the two would be lost.
        last = not (followed.guardian.is_alive() and os.path.exists(followed.path))  # the record goes with the tree
        sleep(0.0 if last else _PAUSE)
    if rest:
        yield rest
