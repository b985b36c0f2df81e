"""The figures of the README, made from the JSON of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import _matrix_report as matrix
from benchmarks.report import number, table

Document = dict[str, Any]

_DASH = "\N{EN DASH}"
_MATRIX = """\
How many of {escapes} hostile trees and {servers} set-ups of real servers (nginx, Redis, memcached, HAProxy, PostgreSQL,
gunicorn) each one ends with nobody left, and how many processes it leaves:
"""
_SPEED = """\
Medians in milliseconds, all columns of a line in one run:
"""


@dataclass(frozen=True)
class Line:
    """One figure: a row of a measurement.

    Attributes:
        measurement: Its name.
        case: The case begins with it.
        title: What the README calls it.
    """

    measurement: str
    case: str
    title: str


LINES = (
    Line("stop", "sleep(1)", "`stop()` of a server that exits at once"),
    Line("readiness", "listens 30 ", "noticing that a server listens"),
    Line("kill", "100 processes, one", "killing 100 processes that ignore SIGTERM"),
    Line("kill", "1000 processes, each", "killing 1,000, each in its own session"),
    Line("address", "2,000 connections, 1,000", "`address_in_use` beside 2,000 connections, 1,000 processes"),
    Line("crash", "a server of one", "owner's SIGKILL until its server is gone"),
)


def block(results: Document | None, found: Document | None) -> str:
    """Everything between the markers."""
    return "\n".join([*(_matrix(found) if found else ()), *(_speed(results) if results else ())])


def _matrix(found: Document) -> Iterator[str]:
    kinds = [row["key"].partition(":")[0] for row in found["rows"]]
    yield _MATRIX.format(escapes=kinds.count("escape"), servers=kinds.count("server"))
    yield matrix.summary(found)


def _speed(results: Document) -> Iterator[str]:
    yield _SPEED
    lines = [["", "servermgr", "reference", "", "others"]]
    for line in LINES:
        row = _find(results, line)
        if row is not None:
            lines.append([line.title, *_cells(row)])
    yield table(lines)


def _find(results: Document, line: Line) -> Document | None:
    for measurement in results["measurements"]:
        if measurement["name"] == line.measurement:
            found: Sequence[Document] = measurement["rows"]
            return next((row for row in found if row["case"].startswith(line.case)), None)
    return None


def _cells(row: Document) -> list[str]:
    columns = row["columns"]
    ours = next(column for column in columns if column["role"] == "ours")
    reference = next(column for column in columns if column["role"] == "reference")
    others = [column for column in columns if column["role"] == "peer" and column["n"]]
    return [
        number(ours["median"]),
        number(reference["median"]),
        reference["name"],
        "; ".join(f"{column['name']}: {number(column['median'])}" for column in others) or _DASH,
    ]
