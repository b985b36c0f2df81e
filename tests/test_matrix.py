"""The escape matrix in short: `scripts/matrix` runs the whole of it, with all peers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from stand_ins import ROOT

sys.path.insert(0, str(ROOT))  # the package is not installed, and plain `pytest` does not look into the checkout

if sys.platform == "linux":  # elsewhere the peers' modules have no means to work with
    from benchmarks import _matrix_report as report
    from benchmarks import _readme_figures, matrix, plots, publish
    from benchmarks._matrix_rows import rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the zoo is made of Linux's means of escape")

ESCAPES = ("plain", "setsid", "daemon", "stopped_root", "ping_pong", "term_spawner", "crashed_root", "zombie_leader")
#: Of the real servers those that a machine has; scripts/test brings them.
SERVERS = ("server:nginx:daemon", "server:redis:daemon")
GRACE = 0.4
#: Seconds for a tree whose owner was killed, on a busy machine.
MOURNING = 6.0


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The cells of servermgr, and of two controls."""
    known = {row.key: row for row in rows()}
    keys = [*(f"escape:{name}" for name in ESCAPES), *(key for key in SERVERS if not known[key].missing)]
    cells = [("servermgr", known[key], ending) for key in keys for ending in matrix.ENDINGS]
    cells += [("killpg", known["escape:daemon"], ending) for ending in matrix.ENDINGS]
    cells += [("killpg", known["escape:plain"], "stop"), ("careless", known["escape:plain"], "stop")]
    told = matrix.run(cells, jobs=2, grace=GRACE, mourning=MOURNING)
    document: dict[str, Any] = matrix.document(
        cells, told, grace=GRACE, mourning=MOURNING, jobs=2, command="a test", took=10.0
    )
    return document


@pytest.mark.timeout(180)
def test_servermgr_ends_every_tree_and_harms_nobody(found: dict[str, Any]) -> None:
    """By the same code that the published matrix is made with: after a stop, and after the owner's SIGKILL."""
    cells = [cell for cell in found["cells"] if cell["peer"] == "servermgr"]
    assert len(cells) >= 2 * len(ESCAPES)
    assert [cell for cell in cells if cell["verdict"] not in ("ok", "impossible")] == []
    assert matrix.faults(found) == []
    assert all(cell["processes"] for cell in cells if cell["verdict"] == "ok"), "a tree was there to be ended"


@pytest.mark.timeout(180)
def test_the_matrix_sees_who_is_left(found: dict[str, Any]) -> None:
    """The control: a killed group leaves the daemon that has left the group, and a killed owner leaves everyone."""
    cells = {(cell["row"], cell["ending"]): cell for cell in found["cells"] if cell["peer"] == "killpg"}
    assert cells["escape:daemon", "stop"]["left"] == ["daemon"]
    assert sorted(cells["escape:daemon", "owner"]["left"]) == ["daemon", "root"]
    assert {cells["escape:daemon", ending]["verdict"] for ending in matrix.ENDINGS} == {"left"}
    assert cells["escape:plain", "stop"]["verdict"] == "ok", "what it can end it is seen to end"


@pytest.mark.timeout(180)
def test_the_matrix_sees_who_is_harmed(found: dict[str, Any]) -> None:
    """The control: one signal to its own siblings, which ended nobody, is enough."""
    (cell,) = [cell for cell in found["cells"] if cell["peer"] == "careless"]
    assert cell["verdict"] == "harmed"
    assert "innocent child got SIGCONT" in cell["harmed"]


@pytest.mark.timeout(180)
def test_tables_and_plot_are_made_of_the_json_alone(found: dict[str, Any]) -> None:
    again = json.loads(report.to_json(found))
    assert again == found
    text = report.section(again)
    assert "| servermgr" in text
    assert report.text_of(report.grid(again, "stop")["escape:daemon", "killpg"]) == "1"
    assert report.text_of(report.grid(again, "owner")["escape:daemon", "servermgr"]) == "ok"
    texts = [element.text for element in ElementTree.fromstring(plots.grid(again)).iter() if element.text]  # noqa: S314
    assert {"servermgr", "killpg", "After a polite stop"} <= set(texts)


# ---- what is written ------------------------------------------------------------------------------------------


def a_cell(verdict: str, **more: Any) -> dict[str, Any]:
    return {"peer": "servermgr", "row": "escape:plain", "ending": "stop", "left": [], "error": "", **more} | {
        "verdict": verdict
    }


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (a_cell("ok", seconds=0.1), "ok"),
        (a_cell("ok", seconds=0.1, error="RuntimeError"), "ok*"),
        (a_cell("left", left=["a", "b"]), "2"),
        (a_cell("hang", left=["a"], error="its log"), "hang"),
        (a_cell("harmed"), "harmed"),
        (a_cell("unheld", error="gone"), "dies"),
        (a_cell("broken", error="no start"), "?"),
        (a_cell("impossible"), "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
    ],
)
def test_what_a_cell_says(cell: dict[str, Any] | None, text: str) -> None:
    assert report.text_of(cell) == text


@pytest.mark.parametrize("verdict", ["left", "hang", "harmed", "broken", "unheld"])
def test_a_cell_of_ours_that_is_not_ok_is_a_fault(verdict: str) -> None:
    """The command line then ends with status 1; a peer's cell is nobody's fault."""
    assert matrix.faults({"cells": [a_cell(verdict)]})
    assert not matrix.faults({"cells": [a_cell(verdict) | {"peer": "killpg"}, a_cell("ok")]})


def test_what_is_published_is_what_the_json_gives() -> None:
    """RESULTS.md, the plots, and the figures in the README: none of them typed, none of them old.

    `python -m benchmarks.publish` writes them again.
    """
    assert [str(path) for path in publish.different()] == []


def test_a_figure_that_was_typed_is_found(tmp_path: Path) -> None:
    """The control: whatever stands between the markers of the README is replaced."""
    text = publish.readme(f"before\n{publish.BEGIN}\nservermgr: 0 ms\n{publish.END}\nafter\n", tmp_path)
    assert text == f"before\n{publish.BEGIN}\n\n{publish.END}\nafter\n"
    with pytest.raises(ValueError, match="figures: begin"):
        publish.readme("nothing", tmp_path)


def test_the_plot_of_kill_times_names_every_contender(tmp_path: Path) -> None:
    results = publish.load("results")
    assert results is not None
    drawn = plots.kill(results)
    rows_of_kill = next(found["rows"] for found in results["measurements"] if found["name"] == "kill")
    texts = {element.text for element in ElementTree.fromstring(drawn).iter() if element.text}  # noqa: S314
    for row in rows_of_kill:
        for column in row["columns"]:
            assert not column["n"] or any(column["name"].startswith(text) for text in texts), column["name"]
    assert _readme_figures.block(results, None).count("|\n") >= 4
