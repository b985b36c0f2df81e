"""Asking whether an address is in use, on a machine with many connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare, seconds
from benchmarks.processes import connected, crowd, free_port
from servermgr import address_in_use

IN_A_ROW = 10
#: Walked through, it takes the place of all else in the processor's caches.
JUNK, LINE = bytearray(64 * 2**20), 64


def measure(plan: Plan) -> Iterator[Row]:
    """Each number of connections, each of the first two numbers of other processes: more tell the same."""
    first: Row | None = None
    for processes in plan.unrelated[:2]:
        with crowd(processes):
            for connections in plan.connections:
                with connected(connections):
                    row = _compare(f"{connections:,} connections, {processes:,} other processes", plan.fewer(2))
                first = first or row
                yield row.check([Goal("most", 1.0), Goal("flat", 1.5, first)])


def _compare(case: str, rounds: int) -> Row:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        used, free = listener.getsockname()[1], free_port()
        if not (_psutil(used) and address_in_use("127.0.0.1", used)):
            raise RuntimeError("a listener was not seen")
        if _psutil(free) or address_in_use("127.0.0.1", free):
            raise RuntimeError("a listener was seen where there is none")
    contenders = [
        Contender("servermgr: address_in_use()", lambda _: _ask(free, IN_A_ROW), "ours"),
        Contender("the same, caches emptied before", lambda _: _cold(free)),
        Contender("psutil: net_connections()", lambda _: seconds(lambda: _psutil(free)), "reference"),
    ]
    return compare(case, contenders, rounds=rounds)


def _ask(port: int, times: int) -> float:
    """Seconds for one question of so many in a row."""
    return seconds(lambda: [address_in_use("127.0.0.1", port) for _ in range(times)]) / times


def _cold(port: int) -> float:
    for place in range(0, len(JUNK), LINE):
        JUNK[place] = 1
    return _ask(port, 1)


def _psutil(port: int) -> bool:
    listening = [found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    return any(found.laddr and found.laddr[1] == port for found in listening)


MEASUREMENT = Measurement(
    "address",
    "Asking whether an address is in use",
    "A free port of 127.0.0.1. Both ends of each connection are held by other processes of this machine. Before each "
    "case both sides are asked about a free port and a used one, and must agree. Timed is one of ten in a row, "
    "and beside it one of a program that has done other things meanwhile. Right behind psutil's listing it would be a "
    "measure of that: the more connections there are, the less of the kernel's tables it leaves in the caches.",
    measure,
)
