"""Where the time of a start and of a kill goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks.harness import Column, Measurement, Plan, Row
from benchmarks.processes import answer, module

#: What ends with which stamp of `programs/phases.py`, in the order of time.
START = (
    ("the owner: log, record, order", "ordered"),
    ("the order's way to the guardian", "taken"),
    ("the record is written", "recorded"),
    ("the command's exec", "executed"),
    ("the worker is recorded", "answered"),
    ("the answer's way back", "done"),
)
KILL = (
    ("the order's way to the guardian", "heard"),
    ("until the first is killed", "killed"),
    ("until the last is reaped", "reaped"),
    ("the outcome is told", "told"),
    ("record and log are removed", "leaves"),
    ("the guardian's own end, and back", "done"),
)


def measure(plan: Plan) -> Iterator[Row]:
    """A later start, and the kills of the smaller trees."""
    yield _row("start of a command", ["start", plan.rounds], START)
    for sessions in (False, True):
        for size in plan.kill_sizes[:2]:
            case = f"kill of {size} processes, {'each its own session' if sessions else 'one session'}"
            yield _row(case, ["kill", plan.rounds, size, *(["--sessions"] if sessions else [])], KILL)


def _row(case: str, arguments: list[object], phases: tuple[tuple[str, str], ...]) -> Row:
    total = Column("in all", "ours")
    columns = [Column(name, "peer") for name, _ in phases]
    for stamps in json.loads(answer(module("phases", *arguments))):
        before = stamps["asked"]
        for column, (_, step) in zip(columns, phases, strict=True):
            column.samples.append((stamps[step] - before) / 1e6)
            before = stamps[step]
        total.samples.append((stamps["done"] - stamps["asked"]) / 1e6)
    return Row(case, [total, *columns])


MEASUREMENT = Measurement(
    "phases",
    "Where the time goes",
    "Starts of a command other than the first, and kills as above, of this package alone, with the moments of their "
    "steps taken down in the guardian. The first and the last phase are the time of two processes and of the wake-up "
    "between them; the end of the guardian is the kernel's work of giving its memory back.",
    measure,
)
