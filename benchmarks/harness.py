"""How everything here is measured: contenders side by side, round by round, and goals that are checked.

A figure alone says little on a machine that others use, too. So each contender is sampled once in every round, in an
order that changes from round to round, and what is reported first is how ours compares with the reference. A further
peer is one more `Contender` in the list that is given to `compare`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TIMES = "\N{MULTIPLICATION SIGN}"

#: `ours` is what goals are about (the first of them), `reference` what it is compared with, a `peer` is shown beside.
Role = Literal["ours", "reference", "peer"]


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        rounds: Samples of each contender; costly cases take fewer, see `fewer`.
        kill_sizes: Sizes of the trees that are killed, in processes.
        tree_size: Size of the tree that is listed.
        unrelated: How many other processes the machine has meanwhile; the first is what the others are compared with.
        connections: How many TCP connections the machine has meanwhile, in the same way.
        delays: Seconds after which a server listens.
        servers: How many servers one owner has at once.
        idle: Seconds for which a guardian is watched.
    """

    rounds: int = 20
    kill_sizes: tuple[int, ...] = (10, 100, 1000)
    tree_size: int = 100
    unrelated: tuple[int, ...] = (0, 1000)
    connections: tuple[int, ...] = (10, 2000)
    delays: tuple[float, ...] = (0.03, 0.3)
    servers: int = 100
    idle: float = 10.0

    def fewer(self, divisor: int) -> int:
        """Rounds for a case that takes long: a part of them, but three where there are as many."""
        return max(self.rounds // divisor, min(self.rounds, 3))


QUICK = Plan(
    rounds=5, kill_sizes=(10, 100), unrelated=(0, 200), connections=(10, 500), delays=(0.03,), servers=20, idle=2.0
)
FULL = Plan()
LARGE = Plan(
    kill_sizes=(10, 100, 1000, 4000),
    unrelated=(0, 1000, 4000),
    connections=(10, 2000, 10000),
    delays=(0.03, 0.3, 3.0),
    idle=60.0,
)


@dataclass(frozen=True)
class Contender:
    """One way to do what is measured.

    Attributes:
        name: Heads its column.
        sample: Does it once and returns the seconds that count. Its argument is the number of the round, from 0 (the
            warm-up has 0, too).
        role: See `Role`.
        missing: Why it cannot be measured here; its column then stays empty. Empty if it can.
    """

    name: str
    sample: Callable[[int], float]
    role: Role = "peer"
    missing: str = ""


@dataclass
class Column:
    """All samples of one contender in one case, in the row's unit."""

    name: str
    role: Role
    samples: list[float] = field(default_factory=list)
    missing: str = ""

    @property
    def median(self) -> float:
        """Half of the samples are below; NaN without samples."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def p95(self) -> float:
        """The smallest sample that 95 % of them do not exceed (nearest rank); NaN without samples."""
        ordered = sorted(self.samples)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else math.nan


@dataclass
class Row:
    """One case: what was measured, for every contender.

    Attributes:
        case: What is special about it.
        columns: The contenders. The first with role `ours` is what goals are about.
        unit: Of every sample.
        goals: What was aimed at, checked.
    """

    case: str
    columns: list[Column]
    unit: str = "ms"
    goals: list[Verdict] = field(default_factory=list)

    def first(self, role: Role) -> Column | None:
        """The first column of a role that has samples."""
        return next((column for column in self.columns if column.role == role and column.samples), None)

    @property
    def ratio(self) -> float:
        """Our median by that of the reference; NaN without either, or where the reference is 0."""
        ours, reference = self.first("ours"), self.first("reference")
        return ours.median / reference.median if ours and reference and reference.median else math.nan

    @property
    def difference(self) -> float:
        """Our median less that of the reference; NaN without either."""
        ours, reference = self.first("ours"), self.first("reference")
        return ours.median - reference.median if ours and reference else math.nan

    def check(self, goals: Sequence[Goal]) -> Row:
        """Compare with goals; returns the row itself."""
        self.goals = [goal.verdict(self) for goal in goals if goal.applies(self)]
        return self

    def document(self) -> dict[str, Any]:
        """The row as plain data, for JSON."""
        return {
            "case": self.case,
            "unit": self.unit,
            "ratio": _number(self.ratio),
            "difference": _number(self.difference),
            "columns": [_column_document(column) for column in self.columns],
            "goals": [_goal_document(goal) for goal in self.goals],
        }


def _column_document(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "role": column.role,
        "missing": column.missing,
        "n": len(column.samples),
        "median": _number(column.median),
        "p95": _number(column.p95),
        "samples": column.samples,
    }


def _goal_document(goal: Verdict) -> dict[str, Any]:
    return {"text": goal.text, "value": _number(goal.value), "met": goal.met, "why": "" if goal.met else goal.why}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value  # JSON has no NaN


@dataclass(frozen=True)
class Verdict:
    """A goal and what became of it."""

    text: str
    value: float
    met: bool
    why: str = ""


@dataclass(frozen=True)
class Goal:
    """What our median should not exceed.

    Attributes:
        kind: `most`: the median itself; `more`: what it has more than the reference; `times`: its ratio to the
            reference; `flat`: its ratio to our median in another case, `base`; `faster`: how many times it goes into
            the median of the peer named by `than`, of which at least the limit is wanted.
        limit: The most that is fine, in the row's unit or as a ratio.
        base: The row of the other case.
        than: What the other case is called, or how the name of the peer begins.
        why: What stands in the way where it is missed, and where the floor is; for the reader of the table.
    """

    kind: Literal["most", "more", "times", "flat", "faster"]
    limit: float
    base: Row | None = None
    than: str = "the first case"
    why: str = ""

    def verdict(self, row: Row) -> Verdict:
        """Check a row."""
        value = self._value(row)
        met = value >= self.limit if self.kind == "faster" else value <= self.limit
        return Verdict(self._text(row), value, met, self.why)

    def applies(self, row: Row) -> bool:
        """Whether it can be judged: a peer may not be installed."""
        return self.kind != "faster" or self._peer(row) is not None

    def _peer(self, row: Row) -> Column | None:
        return next((column for column in row.columns if column.name.startswith(self.than) and column.samples), None)

    def _value(self, row: Row) -> float:
        ours = row.first("ours")
        if ours is None:
            return math.nan
        peer = self._peer(row)
        base = self.base.first("ours") if self.base else None
        return {
            "most": ours.median,
            "more": row.difference,
            "times": row.ratio,
            "flat": ours.median / base.median if base and base.median else math.nan,
            "faster": peer.median / ours.median if peer and ours.median else math.nan,
        }[self.kind]

    def _text(self, row: Row) -> str:
        return {
            "most": f"≤ {self.limit:g} {row.unit}",
            "more": f"≤ {self.limit:g} {row.unit} more",
            "times": f"≤ {self.limit:g} {TIMES}",
            "flat": f"≤ {self.limit:g} {TIMES} {self.than}",
            "faster": f"{self.limit:g} {TIMES} faster than {self.than}",
        }[self.kind]


@dataclass(frozen=True)
class Measurement:
    """A family of cases.

    Attributes:
        name: How it is asked for.
        title: Heads its table.
        text: What exactly is measured, for the reader of the table.
        measure: Does it; yields a row as soon as that is complete.
    """

    name: str
    title: str
    text: str
    measure: Callable[[Plan], Iterator[Row]]


def compare(
    case: str, contenders: Sequence[Contender], *, rounds: int, goals: Sequence[Goal] = (), warmup: int = 1
) -> Row:
    """Sample every contender in every round; `warmup` rounds before them are not counted."""
    columns = [Column(contender.name, contender.role, missing=contender.missing) for contender in contenders]
    pairs = [pair for pair in zip(contenders, columns, strict=True) if not pair[0].missing]
    for number in range(-warmup, rounds):
        # Who comes first finds the machine as the last of the round before has left it: everyone gets his turn.
        shift = number % max(1, len(pairs))
        for contender, column in pairs[shift:] + pairs[:shift]:
            milliseconds = contender.sample(max(0, number)) * 1000
            if number >= 0:
                column.samples.append(milliseconds)
    return Row(case, columns).check(goals)


def seconds(action: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
