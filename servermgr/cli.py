"""The command line: `servermgr`, also `python -m servermgr`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING

from servermgr import sweeping
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servermgr.ledger import Record
    from servermgr.sweeping import SweptTree

_EPILOG = """\
examples:
  python -m servermgr ps                 what runs, and what dead programs have left
  python -m servermgr sweep --dry-run    what a sweep would end, and by which evidence
  python -m servermgr sweep              end what dead programs have left
  python -m servermgr stop my-server     end the server of that name, whoever started it

exit status: 0 done; 1 something could not be ended, or there is no such server; 2 wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except WorkerError as error:
        print(f"servermgr: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="servermgr",
        description="Servers that were started with servermgr: which run, which were left behind, and their end.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(commands, "ps", _ps, "list the recorded servers, live and left over")
    sweep = _add(commands, "sweep", _sweep, "end what dead programs have left behind")
    sweep.add_argument("--dry-run", action="store_true", help="only say what would be ended, and why")
    stop = _add(commands, "stop", _stop, "end a recorded server, politely first")
    stop.add_argument("name", help="the server's name, as `ps` shows it")
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: object, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.set_defaults(run=run)
    return parser


# ---- commands ----------------------------------------------------------------------------------------------------


def _ps(options: argparse.Namespace) -> int:
    records = sweeping.recorded()
    if options.json:
        _print_json([_record_data(record) for record in records])
        return 0
    for record in records:
        data = _record_data(record)
        print(f"{data['state']:9} {record.name:20} worker {data['worker'] or '?':>7}  {data['age']:7.0f} s  ", end="")
        print(" ".join(record.ports), shlex.join(record.argv), sep="  ")
    if not records:
        print("no server is running or left over")
    return 0


def _record_data(record: Record) -> dict[str, object]:
    return {
        "name": record.name,
        "state": _state(record),
        "worker": None if record.worker is None else record.worker.pid,
        "guardian": record.guardian.pid,
        "owner": record.owner.pid,
        "age": max(0.0, time.monotonic() - record.started),
        "ports": record.ports,
        "argv": record.argv,
        "pidfile": record.pidfile,
        "log": record.log,
    }


def _state(record: Record) -> str:
    if sweeping.is_left_over(record):
        return "left over"
    return "live" if record.owner.is_alive() else "kept"


def _sweep(options: argparse.Namespace) -> int:
    return _tell(sweeping.sweep(dry_run=options.dry_run), options)


def _stop(options: argparse.Namespace) -> int:
    return _tell(sweeping.stop(options.name), options)


def _tell(trees: list[SweptTree], options: argparse.Namespace) -> int:
    if options.json:
        _print_json([tree._asdict() | {"processes": [found._asdict() for found in tree.processes]} for tree in trees])
    else:
        for tree in trees:
            print(f"{tree.name}: {tree.verdict} ({tree.seconds:.2f} s): {shlex.join(tree.argv)}")
            for found in tree.processes:
                print(f"    {found.pid} {found.name}: {found.done} (claimed by {found.evidence})")
        if not trees:
            print("nothing is left over")
    return 1 if any(tree.verdict == "survivors" for tree in trees) else 0


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2))
