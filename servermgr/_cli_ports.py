"""`servermgr ports`: who listens on an address, and from which tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servermgr import _cli_trees, addresses, sweeping
from servermgr._cli_look import BAD, FAINT, GOOD, STRONG, Look

if TYPE_CHECKING:
    import argparse

    from servermgr.ledger import Record

EPILOG = """\
An address is HOST:PORT, [IPV6]:PORT, or :PORT or PORT for every address of this machine.

examples:
  servermgr ports 127.0.0.1:5432
  servermgr ports 8080

exit status: 0 somebody listens; 1 nobody does; 2 that is no address
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ports`."""
    parser.add_argument("address", metavar="HOST:PORT", help="the address")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace) -> int:
    """Say it."""
    host, port = parse_address(options.address)
    holders = addresses.holders(host, port)
    trees = _trees() if holders else {}
    found = [(holder, trees.get(holder.pid or 0)) for holder in holders]
    look = Look(as_json=options.json)
    if options.json:
        look.data([_data(holder, record) for holder, record in found])
    elif not found:
        look.answer((f"nobody listens on {addresses.endpoint(host, port)}", GOOD))
    for holder, record in found if not options.json else ():
        look.answer(str(holder), (", of no tree of servermgr", FAINT) if record is None else "", *_named(record))
    return 0 if found else 1


def _named(record: Record | None) -> list[Any]:
    if record is None:
        return []
    left = [(" (left over: `servermgr sweep` ends it)", BAD)] if sweeping.is_left_over(record) else []
    return [", of the server ", (record.name, STRONG), f" (owner {record.owner.pid})", *left]


def _data(holder: addresses.Holder, record: Record | None) -> dict[str, Any]:
    names = ("address", "pid", "name", "user", "uid")
    tree = None if record is None else {"name": record.name, "owner": record.owner.pid, "argv": list(record.argv)}
    return {name: getattr(holder, name) for name in names} | {"tree": tree}


def _trees() -> dict[int, Record]:
    """The record of each process of a recorded tree; of trees within trees the innermost."""
    found: dict[int, tuple[int, Record]] = {}
    for record in sweeping.recorded():
        members = _cli_trees.processes(record)
        for info in members:
            if info.pid not in found or len(members) < found[info.pid][0]:
                found[info.pid] = (len(members), record)
    return {pid: record for pid, (_, record) in found.items()}


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of what a person writes.

    Raises:
        ValueError: It is none.
    """
    host, _, number = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address is written in brackets, as [::1]:80")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise ValueError(f"{text!r} is no address: HOST:PORT is meant, with a port from 1 to 65535")
    return ("" if host == "*" else host), int(number)
