"""The plots, made from the JSON of the runs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import _matrix_report as matrix
from benchmarks.report import number
from benchmarks.svg import Drawing, Point

Document = dict[str, Any]

#: Told apart by those who see few colours, too (after Okabe and Ito); ours comes first.
COLOURS = ("#0072b2", "#555555", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
INK, FAINT, GRID = "#1f2328", "#656d76", "#d8dee4"
#: Fill, ink of a cell, by verdict.
CELLS = {
    "ok": ("#d7f0dd", "#116329"),
    "left": ("#ffd8a8", "#7a3d00"),
    "unheld": ("#f6c9c4", "#82071e"),
    "hang": ("#d8c7f0", "#4b2a86"),
    "harmed": ("#b42318", "#ffffff"),
}
NO_CELL = ("#f0f2f4", "#8c959f")

# ---- kill time by size ----------------------------------------------------------------------------------------

WIDTH, HEIGHT = 470.0, 360.0
LEFT, TOP, RIGHT, BOTTOM = 64.0, 64.0, 150.0, 48.0


def kill(results: Document) -> str:
    """Time to kill a tree, by its size: a panel for each kind of tree, both axes by powers of ten."""
    rows = next(found["rows"] for found in results["measurements"] if found["name"] == "kill")
    kinds = list(dict.fromkeys(_kind(row) for row in rows))
    drawing = Drawing(WIDTH * len(kinds), HEIGHT, "Time to kill a tree of processes, by its size")
    values = [column["median"] for row in rows for column in row["columns"] if column["median"]]
    sizes = [_size(row) for row in rows]
    for place, kind in enumerate(kinds):
        panel = _Panel(drawing, place * WIDTH, (min(sizes), max(sizes)), (min(values), max(values)))
        panel.frame(f"{kind}")
        panel.lines([row for row in rows if _kind(row) == kind])
    drawing.text((14, 22), "Killing a tree that ignores SIGTERM: until nobody is left", size=15, bold=True)
    return drawing.done()


def _kind(row: Document) -> str:
    return str(row["case"].partition(", ")[2])


def _size(row: Document) -> int:
    return int(row["case"].split()[0].replace(",", ""))


class _Panel:
    def __init__(self, drawing: Drawing, left: float, sizes: tuple[int, int], values: tuple[float, float]) -> None:
        self._drawing = drawing
        self._left = left
        right, top, bottom = left + WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
        self._x = _logarithmic(*sizes, left + LEFT, right)
        self._y = _logarithmic(10 ** math.floor(math.log10(values[0])), values[1] * 1.2, bottom, top)
        self._sizes, self._values = sizes, values
        self._box = (left + LEFT, top, right, bottom)

    def frame(self, title: str) -> None:
        """Title, grid and axes."""
        drawing, (left, top, right, bottom) = self._drawing, self._box
        drawing.text((left, top - 14), title, size=13, bold=True)
        for value in _powers(self._values[0] / 10, self._values[1] * 1.2):
            y = self._y(value)
            if top <= y <= bottom + 0.5:
                drawing.line([(left, y), (right, y)], GRID)
                drawing.text((left - 8, y + 4), f"{value:g} ms", size=11, colour=FAINT, anchor="end")
        for size in self._ticks():
            drawing.line([(self._x(size), bottom), (self._x(size), bottom + 4)], FAINT)
            drawing.text((self._x(size), bottom + 18), f"{size:,}", size=11, colour=FAINT, anchor="middle")
        drawing.text(((left + right) / 2, bottom + 36), "processes", size=11, colour=FAINT, anchor="middle")
        drawing.line([(left, bottom), (right, bottom)], FAINT)

    def _ticks(self) -> list[int]:
        ticks = [int(value) for value in _powers(*self._sizes)]
        return ticks if self._sizes[1] in ticks else [*ticks, self._sizes[1]]

    def lines(self, rows: Sequence[Document]) -> None:
        """A line for each contender, named at its end."""
        names = [column["name"] for column in rows[0]["columns"]]
        ends: list[tuple[float, str, str]] = []
        for place, name in enumerate(names):
            found = [(_size(row), row["columns"][place]["median"]) for row in rows if row["columns"][place]["median"]]
            if not found:
                continue
            colour = COLOURS[place % len(COLOURS)]
            points: list[Point] = [(self._x(size), self._y(value)) for size, value in found]
            self._drawing.line(points, colour, width=2.5 if place == 0 else 1.5, dashed="kernel" in name)
            for point, (size, value) in zip(points, found, strict=True):
                self._drawing.dot(point, colour, about=f"{name}: {size} processes, {number(value)} ms")
            ends.append((points[-1][1], _short(name), colour))
        for y, name, colour in _apart(ends):
            self._drawing.text((self._box[2] + 8, y + 4), name, size=11, colour=colour, bold=colour == COLOURS[0])


def _short(name: str) -> str:
    return name.partition(":")[0].partition("(the")[0].strip()


def _apart(labels: list[tuple[float, str, str]], least: float = 14.0) -> list[tuple[float, str, str]]:
    """The labels, moved down as far as they would lie on one another."""
    placed: list[tuple[float, str, str]] = []
    for y, name, colour in sorted(labels):
        placed.append((max(y, placed[-1][0] + least) if placed else y, name, colour))
    return placed


def _logarithmic(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / span


def _powers(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [float(10**power) for power in range(first, last + 1) if low <= 10**power <= high]


# ---- the matrix -----------------------------------------------------------------------------------------------

CELL_WIDTH, CELL_HEIGHT, NAMES, HEAD = 34.0, 19.0, 350.0, 150.0


def grid(found: Document) -> str:
    """The whole matrix: rows are trees, columns are peers, a panel for each way to end."""
    endings = [ending for ending in matrix.ENDINGS if any(cell["ending"] == ending for cell in found["cells"])]
    across = CELL_WIDTH * len(found["peers"])
    width = max(NAMES + len(endings) * (across + 40) + 40, 1000.0)
    height = HEAD + CELL_HEIGHT * (len(found["rows"]) + 1) + 44
    drawing = Drawing(width, height, "Which peer ends which tree")
    tops = _row_tops(found["rows"])
    for row in found["rows"]:
        drawing.text((NAMES - 10, tops[row["key"]] + 14), row["title"], size=12, anchor="end")
    for place, ending in enumerate(endings):
        _grid_panel(drawing, found, ending, NAMES + place * (across + 40), tops)
    _legend(drawing, height - 18)
    return drawing.done()


def _row_tops(rows: Sequence[Document]) -> dict[str, float]:
    tops, y, before = {}, HEAD, ""
    for row in rows:
        kind = row["key"].partition(":")[0]
        y += CELL_HEIGHT / 2 if before not in ("", kind) else 0
        tops[row["key"]], before = y, kind
        y += CELL_HEIGHT
    return tops


def _grid_panel(drawing: Drawing, found: Document, ending: str, left: float, tops: dict[str, float]) -> None:
    drawing.text((left, 24), matrix.ENDINGS[ending], size=15, bold=True)
    cells = matrix.grid(found, ending)
    for place, peer in enumerate(found["peers"]):
        x = left + place * CELL_WIDTH
        head = (x + CELL_WIDTH / 2 + 4, HEAD - 8)
        drawing.text(head, peer["name"], size=12, turn=-55, bold=peer["key"] == "servermgr")
        for row in found["rows"]:
            cell = cells.get((row["key"], peer["key"]))
            text = matrix.text_of(cell)
            fill, ink = CELLS.get(cell["verdict"], NO_CELL) if cell else NO_CELL
            y = tops[row["key"]]
            drawing.rectangle(x + 1, y + 1, CELL_WIDTH - 2, CELL_HEIGHT - 2, fill)
            drawing.text((x + CELL_WIDTH / 2, y + 14), _mark(text), size=11, colour=ink, anchor="middle")


def _mark(text: str) -> str:
    return {"ok": "✓", "ok*": "✓", "harmed": "!!"}.get(text, text.rstrip("*"))


def _legend(drawing: Drawing, y: float) -> None:
    x = 60.0
    for verdict, words in (
        ("ok", "✓ nobody left, nobody harmed"),
        ("left", "so many processes left"),
        ("unheld", "dies of being held"),
        ("hang", "the stop does not return"),
        ("harmed", "!! a bystander was signalled"),
    ):
        drawing.rectangle(x, y - 10, 13, 13, CELLS[verdict][0])
        drawing.text((x + 19, y + 1), words, size=12, colour=FAINT)
        x += 34 + 6.4 * len(words)
