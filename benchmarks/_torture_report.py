"""What a fault campaign has seen, as counts and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import environment
from benchmarks._torture_plan import MOMENTS, VICTIMS, Result


@dataclass
class Tally:
    """All that was seen.

    Attributes:
        seed: Of the campaign.
        results: One for each trial.
        harmed: What was done to bystanders.
        records: Records that were left after a sweep.
        files: Temporary files that were left.
        strays: Processes that were left at the end of all.
        sweeps: How many sweeps there were.
        swept: How many processes they have ended, by evidence.
        faults: Sweeps that failed.
        seconds: How long it all took.
    """

    seed: int
    results: list[Result] = field(default_factory=list)
    harmed: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    sweeps: int = 0
    swept: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """What has to be nothing, each with how much of it there was."""
        return {
            "survivors without any sweep": sum(len(result.unswept) for result in self.results),
            "survivors after the sweep": sum(len(result.after) for result in self.results),
            "innocents harmed": len(self.harmed),
            "ledger records left": len(self.records),
            "temporary files left": len(self.files),
            "strays at the end": len(self.strays),
            "other faults": len(self.faults) + sum(len(result.faults) for result in self.results),
        }

    @property
    def failed(self) -> bool:
        """Whether anything is not nothing."""
        return any(self.counts().values())

    def select(self, who: str, moment: str | None = None) -> list[Result]:
        """The trials of these deaths."""
        return [result for result in self.results if result.plan.who == who and moment in (None, result.plan.moment)]

    def document(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "results"}
        unprovable = sum(len(result.unprovable) for result in self.results)
        results = [result.document() for result in self.results]
        return {**plain, "counts": self.counts(), "unprovable": unprovable, "trials": results}


def nonzero(counts: dict[str, int]) -> str:
    """What there was, in one line."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "all clean"


def failure(result: Result) -> str:
    """A trial and what was wrong with it."""
    lists = {"without a sweep": result.unswept, "after the sweep": result.after, "fault": result.faults}
    return "\n".join([str(result.plan), *(f"    {name}: {text}" for name, texts in lists.items() for text in texts)])


def report(tally: Tally) -> str:
    """The counts as text: who by moment, then what has to be nothing."""
    lines = [f"{name}: {value}" for name, value in {"seed": tally.seed, **environment.describe()}.items()]
    trees = sum(len(result.plan.trees) for result in tally.results)
    processes = sum(result.processes for result in tally.results)
    lines += [
        "",
        f"{len(tally.results)} trials, {trees} trees, {processes} processes registered, {tally.sweeps} sweeps,"
        f" {tally.seconds:.0f} s",
        f"ended by a sweep: {', '.join(f'{n} by {evidence}' for evidence, n in sorted(tally.swept.items())) or 'none'}",
        "",
        "trials (of them with somebody left for the sweep), by who died and when",
        _row("", [*MOMENTS, "all", "median s"]),
    ]
    for who in VICTIMS:
        cells = [_cell(tally.select(who, moment)) for moment in MOMENTS]
        lines.append(_row(who, [*cells, _cell(tally.select(who)), _median(tally.select(who))]))
    lines += ["", *(f"{name}: {count}" for name, count in tally.counts().items())]
    unprovable = [text for result in tally.results for text in result.unprovable]
    lines += [f"left alone by the sweep, for nothing proves that they are ours: {len(unprovable)}"]
    lines += [f"deaths that met nobody, for nobody was born yet or all had gone: {_vain(tally.results)}"]
    failed = [result for result in tally.results if result.failed]
    lines += ["", *map(failure, failed)] if failed else []
    told = {"harmed": tally.harmed, "record": tally.records, "file": tally.files, "stray": tally.strays}
    lines += [f"{name}: {text}" for name, texts in {**told, "fault": tally.faults}.items() for text in texts]
    return "\n".join(lines)


def _vain(results: Sequence[Result]) -> int:
    return sum(result.struck == 0 for result in results)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:24}" + "".join(f"{cell:>18}" for cell in cells)


def _cell(results: Sequence[Result]) -> str:
    return f"{len(results)} ({sum(bool(result.before) for result in results)})"


def _median(results: Sequence[Result]) -> str:
    ordered = sorted(result.seconds for result in results)
    return f"{ordered[len(ordered) // 2]:.2f}" if ordered else ""
