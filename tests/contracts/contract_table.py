"""The contract table: how it is written into the documentation, and read back to be checked.

A cell says `held`, `no` (not claimed), or `?` (nobody could tell yet: another system). A cell that a run cannot tell is
kept as it stands in the file, so that each system fills in its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from contract_backends import BACKENDS, Cell
from contract_scenarios import SCENARIOS, WAYS

from servermgr.platform import abilities

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMITTED = Path(__file__).resolve().parent.parent.parent / "docs" / "contract.md"
COMMAND = "python -m pytest tests/contracts --contract-table docs/contract.md"
HELD, NO, UNKNOWN, VOID = "held", "no", "?", "(none)"
COLUMNS = [(backend, way) for backend in BACKENDS for way in WAYS]

HEAD = f"""<!-- Written by `{COMMAND}`: change that, not this. -->

# The contract

One list of scenarios, run on real processes against every backend, for a server that a manager has launched (`spawn`),
for an adopted `subprocess.Popen`, and for an adopted `multiprocessing.Process`. **held**: claimed, and seen to hold.
**no**: not claimed. **{UNKNOWN}**: no run on such a system has been entered here yet. **{VOID}**: of no meaning there.
Each scenario has a negative control: without servermgr, or without its guardian, the leak is seen.

`linux` is what Linux uses. `posix` is what macOS and the BSDs use; it was run on Linux with everything switched off
that other systems do not have (`SERVERMGR_PLATFORM=posix`: no pidfd, no subreaper, no /proc, ps(1) alone), so what it
does with kqueue(2) (the owner's death, as an event) and with FreeBSD's procctl(2) (a reaper, which holds `daemons` and
`storms` as well) was not run. `windows` was run under Wine 8.0 with CPython 3.11, by `scripts/test-wine`: an emulation,
so no proof for Windows itself. See `docs/windows-and-wine.md`.
"""


def write(path: Path, outcomes: Iterable[tuple[Cell, str]]) -> None:
    """Write the file, with the outcomes of a run and, where it has none, what stood there."""
    found = dict(outcomes)
    before = read(path) if path.exists() else {}
    lines = [HEAD, *_table({**before, **{cell: _word(text) for cell, text in found.items()}})]
    lines += _meanings()
    escapes = _escapes(found, _section(path)) or _section(path)
    path.write_text("\n".join([*lines, "", *escapes]) + "\n", encoding="utf-8", newline="\n")


def _word(outcome: str) -> str:
    return HELD if outcome == HELD else NO


def _table(words: dict[Cell, str]) -> list[str]:
    names = {"spawned": "launched"}
    head = [f"{backend}: {names.get(way, way)}" for backend, way in COLUMNS]
    lines = [f"| scenario | ability | {' | '.join(head)} |", f"|---|---|{'---|' * len(head)}"]
    for name, scenario in SCENARIOS.items():
        row = [
            VOID if scenario.spawned_only and way != WAYS[0] else words.get(Cell(name, backend, way), UNKNOWN)
            for backend, way in COLUMNS
        ]
        lines.append(f"| {name} | {scenario.ability} | {' | '.join(row)} |")
    return lines


def _meanings() -> list[str]:
    lines = ["", "| ability | means |", "|---|---|"]
    return lines + [f"| {ability} | {meaning} |" for ability, meaning in abilities.MEANING.items()]


ESCAPES = "## What gets away where it is not claimed"


def _escapes(found: dict[Cell, str], before: list[str]) -> list[str]:
    """What the run saw of scenarios that are not claimed, in its own words; of other cells, what stood there."""
    seen = {cell: text for cell, text in found.items() if text != HELD}
    if not any(":" in text for text in seen.values()):
        return []
    lines = [
        ESCAPES,
        "",
        "As the run that wrote this file saw it; who is left is named by its role in the scenario.",
        "",
    ]
    lines += ["| scenario | backend | way | seen |", "|---|---|---|---|"]
    rows = [line for line in "\n".join(before).splitlines() if line.startswith("| ") and line.count("|") == 5]
    kept = [row for row in rows[1:] if Cell(*row.strip("| ").split(" | ")[:3]) not in found]
    new = [f"| {c.scenario} | {c.backend} | {c.way} | {t.partition(': ')[2]} |" for c, t in seen.items()]
    return lines + sorted(kept + new, key=_place)


def _place(row: str) -> tuple[int, int, int]:
    scenario, backend, way = row.strip("| ").split(" | ")[:3]
    return list(SCENARIOS).index(scenario), list(BACKENDS).index(backend), WAYS.index(way)


def _section(path: Path) -> list[str]:
    """The section on escapes as it stands, for a run that did not look at them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    _, heading, rest = text.partition(ESCAPES)
    return [heading + rest.rstrip("\n")] if heading else []


def read(path: Path) -> dict[Cell, str]:
    """The cells of the file that say something."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = [word.strip() for word in re.split(r"\s*\|\s*", line.strip("| "))]
        if len(words) != 2 + len(COLUMNS) or words[0] not in SCENARIOS:
            continue
        cells = zip(COLUMNS, words[2:], strict=True)
        found |= {Cell(words[0], *column): word for column, word in cells if word in (HELD, NO)}
    return found
