"""The escape matrix as tables, made from its JSON alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.report import number, table

Document = dict[str, Any]

KINDS = {"escape": "escapes", "server": "real servers"}
ENDINGS = {"stop": "After a polite stop", "owner": "After the owner's SIGKILL"}
_NOTHING = "\N{EN DASH}"
_TEXT = """\
Each peer holds each tree. Then it is asked to stop it, or its program is killed by SIGKILL, and it is seen who of the
tree lives, {slack:g} s after the stop, or {mourning:g} s after the grace period that follows the owner's death.

| cell   | means |
|--------|-------|
| ok     | nobody is left, and no bystander got a signal: those have the same program and arguments as the tree's root |
| 3      | so many processes are left; a storm that forks without end counts as one |
| hang   | the stop did not return in 20 s |
| harmed | a bystander was signalled |
| dies   | the server dies of being held: it never answered |
| ok*    | the stop itself raised an error |
| \N{EN DASH}      | cannot be had here |

The grace period is {grace:g} s for everyone. One run for each cell, {jobs} cells side by side; orphans are reaped at
once, as by a good process 1. {made}
"""


def section(found: Document, picture: str = "") -> str:
    """Summary, a picture if there is one, both tables, and the footnotes."""
    made = f"Made with `{found['command']}` in {found['took'] / 60:.0f} min." if found["command"] else ""
    text = _TEXT.format(
        made=made, slack=found["mourning"] / 2, **{name: found[name] for name in ("grace", "mourning", "jobs")}
    )
    parts = ["## The escape matrix\n", text]
    parts += [summary(found), *([picture] if picture else [])]
    for ending, title in ENDINGS.items():
        if any(cell["ending"] == ending for cell in found["cells"]):
            parts += [f"### {title}\n", _table_of(found, ending)]
    parts += ["### How each was used\n", _footnotes(found)]
    return "\n".join(parts)


def summary(found: Document) -> str:
    """One line for each peer: how many trees it ended, how many processes it left."""
    columns = [(kind, ending) for ending in ENDINGS for kind in KINDS if any(_of(found, kind, ending))]
    heads = [f"{KINDS[kind]}, {'stop' if ending == 'stop' else 'owner killed'}: ok, left" for kind, ending in columns]
    lines = [["peer", *heads, "median stop (ms)"]]
    for peer in found["peers"]:
        counts = [score(found, peer["key"], kind, ending) for kind, ending in columns]
        lines.append([_named(peer), *map(_score_text, counts), number(median_stop(found, peer["key"]))])
    return table(lines)


def _named(peer: Document) -> str:
    return f"{peer['name']} {peer['version']}".strip()


def _of(found: Document, kind: str, ending: str, peer: str = "") -> list[Document]:
    return [
        cell
        for cell in found["cells"]
        if cell["ending"] == ending and cell["row"].startswith(kind + ":") and peer in ("", cell["peer"])
    ]


def score(found: Document, peer: str, kind: str, ending: str) -> tuple[int, int, int]:
    """Of a peer: cells that are ok, cells that count, processes left."""
    cells = [cell for cell in _of(found, kind, ending, peer) if cell["verdict"] not in ("impossible", "broken")]
    good = sum(cell["verdict"] == "ok" for cell in cells)
    return good, len(cells), sum(len(cell["left"]) for cell in cells)


def _score_text(counts: tuple[int, int, int]) -> str:
    good, every, left = counts
    return f"{good}/{every}, {left}" if every else _NOTHING


def median_stop(found: Document, peer: str) -> float | None:
    """Milliseconds of all its stops that returned."""
    seconds = [cell["seconds"] for cell in found["cells"] if cell["peer"] == peer and "seconds" in cell]
    return statistics.median(seconds) * 1000 if seconds else None


def text_of(cell: Document | None) -> str:
    """What stands in the table."""
    if cell is None or cell["verdict"] == "impossible":
        return _NOTHING
    words = {"ok": "ok", "left": str(len(cell["left"])), "hang": "hang", "harmed": "harmed", "unheld": "dies"}
    word = words.get(cell["verdict"], "?")
    return word + ("*" if cell["error"] and "seconds" in cell else "")


def grid(found: Document, ending: str) -> dict[tuple[str, str], Document]:
    """The cells of one table, by row and peer."""
    return {(cell["row"], cell["peer"]): cell for cell in found["cells"] if cell["ending"] == ending}


def _table_of(found: Document, ending: str) -> str:
    cells = grid(found, ending)
    lines = [["", *(f"{peer['name']}" for peer in found["peers"])]]
    for row in found["rows"]:
        words = [text_of(cells.get((row["key"], peer["key"]))) for peer in found["peers"]]
        lines.append([row["title"], *(f"**{word}**" if word in ("hang", "harmed", "dies") else word for word in words)])
    return table(lines)


def _footnotes(found: Document) -> str:
    notes = [f"- {_named(peer)}: {peer['how']}" for peer in found["peers"]]
    notes += [f"- {peer['name']} is missing: {peer['missing']}" for peer in found["peers"] if peer["missing"]]
    notes += [f"- {row['title']}: not here: {row['missing']}" for row in found["rows"] if row["missing"]]
    impossible = {cell["row"]: cell["error"] for cell in found["cells"] if cell["verdict"] == "impossible"}
    notes += [f"- {_title(found['rows'], key)}: not possible here: {error}" for key, error in impossible.items()]
    notes += [
        f"- {cell['peer']}, {_title(found['rows'], cell['row'])}, {cell['ending']}: no result: {_short(cell['error'])}"
        for cell in found["cells"]
        if cell["verdict"] == "broken"
    ]
    return "\n".join(notes) + "\n"


def _title(rows: Sequence[Document], key: str) -> str:
    return next(str(row["title"]) for row in rows if row["key"] == key)


def _short(text: str) -> str:
    return " ".join(text.split())[-200:]


def to_json(found: Document) -> str:
    """Everything, one cell on a line."""
    cells = ",\n  ".join(json.dumps(cell, ensure_ascii=False) for cell in found["cells"])
    rest = json.dumps({name: value for name, value in found.items() if name != "cells"}, indent=1, ensure_ascii=False)
    return rest.rstrip("}\n") + f',\n "cells": [\n  {cells}\n ]\n}}\n'
