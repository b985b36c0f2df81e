"""Results as tables. They are made from plain data, as it is written to JSON, so that a table can be made again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness import TIMES

Document = dict[str, Any]

HEAD = """\
# Results

Written by `python -m benchmarks`; do not edit.
"""
_EXPLANATION = """\
## Speed and scale

Every cell is the median and, in parentheses, the 95th percentile of n samples. The samples of a row were taken in
turns, one of each column in every round: trust the comparison, not the absolute figure. Bold: a goal that was missed.
"""
_NOTHING = _DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def results(document: Document) -> str:
    """A whole file, as Markdown."""
    return "\n".join([HEAD, body(document)])


def body(document: Document, pictures: Mapping[str, str] | None = None) -> str:
    """The run, as Markdown; a picture goes below the table of the measurement with its name."""
    parts = [_EXPLANATION, environment(document["environment"]), command(document)]
    for measurement in document["measurements"]:
        picture = (pictures or {}).get(measurement["name"], "")
        parts += [section(measurement), *([picture] if picture else [])]
    return "\n".join(parts)


def environment(facts: dict[str, str]) -> str:
    """The machine."""
    return table([["", ""], *([name, value] for name, value in facts.items())])


def command(document: Document) -> str:
    """How the figures can be had again."""
    return f"Made with `{document['command']}`.\n"


def section(measurement: Document) -> str:
    """The tables of one measurement: rows with the same columns and unit stand together."""
    parts = [f"### {measurement['title']}\n", f"{measurement['text']}\n"]
    parts += [_table_of(rows) for rows in _alike(measurement["rows"])]
    if measurement["load"]:
        parts.append(f"Load average before and after: {', '.join(measurement['load'])}.\n")
    return "\n".join(parts)


def _alike(rows: Sequence[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    for row in rows:
        if group and _shape(row) != _shape(group[0]):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _shape(row: Document) -> list[str]:
    return [row["unit"], *(column["name"] for column in row["columns"])]


def _table_of(rows: Sequence[Document]) -> str:
    columns = rows[0]["columns"]
    head = [f"case ({rows[0]['unit']})", "n", *(_heading(column) for column in columns), "ours / reference"]
    lines = [[*head, f"ours {_MINUS} reference", "goal"]]
    lines += [_line(row) for row in rows]
    notes = [f"{column['name']}: {column['missing']}\n" for column in columns if column["missing"]]
    missed = [goal["why"] for row in rows for goal in row["goals"] if goal.get("why")]
    return "\n".join([table(lines), *notes, *(f"Why a goal is missed: {why}\n" for why in dict.fromkeys(missed))])


def _heading(column: Document) -> str:
    return f"{column['name']} (reference)" if column["role"] == "reference" else str(column["name"])


def _line(row: Document) -> list[str]:
    counts = sorted({column["n"] for column in row["columns"] if column["n"]})
    return [
        row["case"],
        _DASH.join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))),
        *(_cell(column) for column in row["columns"]),
        _times(row["ratio"]),
        number(row["difference"]),
        "; ".join(_goal(goal) for goal in row["goals"]) or _NOTHING,
    ]


def _cell(column: Document) -> str:
    return f"{number(column['median'])} ({number(column['p95'])})" if column["n"] else _NOTHING


def _times(ratio: float | None) -> str:
    return _NOTHING if ratio is None else f"{number(ratio)} {TIMES}"


def _goal(goal: Document) -> str:
    if goal["met"]:
        return f"{goal['text']}: met ({number(goal['value'])})"
    return f"**{goal['text']}: missed ({number(goal['value'])})**"


def number(value: float | None) -> str:
    """Three digits that count, without an exponent."""
    if value is None:
        return _NOTHING
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}".replace("-", _MINUS)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a Markdown table that is readable as text, too; the first line is its head."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    head, *body = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    ]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([head, rule, *body]) + "\n"


def to_json(document: Document) -> str:
    """Everything, all samples included."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Document:
    """What `to_json` has written.

    Raises:
        ValueError: It is something else.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not {"environment", "command", "measurements"} <= document.keys():
        raise ValueError("these are no results of python -m benchmarks")
    return document
