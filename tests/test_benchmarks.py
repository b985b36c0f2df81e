"""The measurements run, leave nothing behind, and report what they were given. No figure of theirs is judged here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the package is not installed, and plain `pytest` does not look into the checkout

from benchmarks import environment, report  # noqa: E402
from benchmarks.__main__ import MEASUREMENTS, main, run  # noqa: E402
from benchmarks.harness import Column, Contender, Goal, Plan, Role, Row, compare  # noqa: E402

TINY = Plan(
    rounds=1,
    kill_sizes=(3,),
    tree_size=5,
    unrelated=(0, 3),
    connections=(1, 4),
    delays=(0.01,),
    servers=3,
    idle=0.1,
)
needs_linux = pytest.mark.skipif(bool(environment.unsupported()), reason=environment.unsupported())


def row_of(*medians: float, unit: str = "ms") -> Row:
    roles: tuple[Role, ...] = ("ours", "reference", "peer")
    columns = [Column(role, role, [value]) for role, value in zip(roles, medians, strict=False)]
    return Row("a case", columns, unit)


# ---- every measurement ----------------------------------------------------------------------------------------


@needs_linux
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_yields_rows_with_ours_beside_a_reference(name: str) -> None:
    """Each row has samples of every contender, no two rows are the same case, and nothing is left running."""
    rows = list(MEASUREMENTS[name].measure(TINY))
    if name == "servers" and not rows and os.environ.get("CI", "").lower() not in ("true", "1"):
        pytest.skip("no server is installed (scripts/test installs them, as root on Debian)")
    assert rows
    assert len({row.case for row in rows}) == len(rows)
    for row in rows:
        assert row.first("ours")
        assert row.first("reference") or name == "phases"  # those are parts of one whole
        for column in row.columns:
            if column.missing:  # a peer that only scripts/bench installs
                assert not column.samples
                continue
            assert column.samples
            assert all(map(math.isfinite, column.samples))
            # A server's stamp comes just after it has begun to listen, so its owner may know a little earlier.
            assert min(column.samples) >= (-1.0 if name == "readiness" else 0.0)


@needs_linux
def test_a_run_can_be_written_to_json_and_made_into_tables_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables come from the JSON alone, and are the same as those that were printed."""
    document = run([MEASUREMENTS["import"]], TINY, "python -m benchmarks import")
    printed = capsys.readouterr().out
    source, output = tmp_path / "results.json", tmp_path / "RESULTS.md"
    source.write_text(report.to_json(document), encoding="utf-8")
    assert main(["--from", str(source), "--output", str(output)]) == 0
    written = output.read_text(encoding="utf-8")
    assert report.section(document["measurements"][0]) in printed
    assert report.section(document["measurements"][0]) in written
    assert "Load average before and after: " in written
    for fact in ("kernel", "Python", "psutil"):
        assert f"| {fact}" in written


# ---- how contenders are compared ------------------------------------------------------------------------------


def test_contenders_take_turns_and_each_of_them_is_first_at_times() -> None:
    """One sample of each in every round, after a warm-up that is not counted."""
    order: list[str] = []

    def contender(name: str) -> Contender:
        def sample(number: int) -> float:
            order.append(f"{name}{number}")
            return len(order)

        return Contender(name, sample, "ours" if name == "a" else "peer")

    row = compare("a case", [contender("a"), contender("b")], rounds=2)
    assert order == ["b0", "a0", "a0", "b0", "b1", "a1"]
    assert [column.samples for column in row.columns] == [[3000, 6000], [4000, 5000]]


def test_a_peer_that_is_missing_is_named_and_not_asked() -> None:
    """Its column stays, empty, with the reason below the table."""
    contenders = [Contender("we", lambda _: 1.0, "ours"), Contender("they", lambda _: 1 / 0, missing="not installed")]
    row = compare("a case", contenders, rounds=2)
    assert [len(column.samples) for column in row.columns] == [2, 0]
    text = report.section({"title": "A", "text": "B", "load": [], "rows": [row.document()]})
    assert "they: not installed" in text


def test_median_and_95th_percentile() -> None:
    """The 95th percentile is a sample, not a value between two of them."""
    column = Column("we", "ours", [float(value) for value in range(100, 0, -1)])
    assert (column.median, column.p95) == (50.5, 95.0)
    assert Column("we", "ours", [7.0]).p95 == 7.0
    assert math.isnan(Column("we", "ours").p95)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal("most", 3.0), 3.0, True),
        (Goal("most", 2.9), 3.0, False),
        (Goal("more", 1.0), 1.0, True),
        (Goal("more", 0.9), 1.0, False),
        (Goal("times", 1.5), 1.5, True),
        (Goal("times", 1.4), 1.5, False),
        (Goal("flat", 1.2, row_of(2.0)), 1.5, False),
        (Goal("flat", 1.2, row_of(3.0)), 1.0, True),
    ],
)
def test_a_goal_is_compared_with_our_median(goal: Goal, value: float, met: bool) -> None:
    """A limit that is just reached is met."""
    verdict = goal.verdict(row_of(3.0, 2.0))
    assert (verdict.value, verdict.met) == (value, met)


def test_a_peer_is_to_be_outrun_by_so_much_where_there_is_one() -> None:
    """At least so many times the median of ours; where the peer is missing nothing is judged, and nothing claimed."""
    goal = Goal("faster", 20.0, than="pe")
    assert [(goal.value, goal.met) for goal in row_of(1.0, 2.0, 20.0).check([goal]).goals] == [(20.0, True)]
    assert [(goal.value, goal.met) for goal in row_of(2.0, 2.0, 20.0).check([goal]).goals] == [(10.0, False)]
    assert row_of(1.0, 2.0).check([goal]).goals == []


def test_a_goal_that_cannot_be_checked_is_not_met() -> None:
    """No figure is no success."""
    assert not Goal("times", 1.5).verdict(row_of(3.0)).met


# ---- how it is written ----------------------------------------------------------------------------------------


def test_a_missed_goal_stands_out() -> None:
    """Bold in the table, with the figure that missed."""
    row = row_of(3.0, 2.0).check([Goal("times", 1.5), Goal("most", 2.0)])
    text = report.section({"title": "A", "text": "B", "load": [], "rows": [row.document()]})
    assert "1.5 \N{MULTIPLICATION SIGN}: met (1.50)" in text
    assert "2 ms: missed (3)**" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234"), (None, "\N{EN DASH}")],
)
def test_numbers_have_three_digits_that_count(value: float | None, text: str) -> None:
    """As many as a measurement on a shared machine can bear."""
    assert report.number(value) == text


# ---- the command line -----------------------------------------------------------------------------------------


def test_the_list_names_every_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    """And measures nothing."""
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(MEASUREMENTS)


def test_the_help_has_examples_and_starts_from_the_checkout() -> None:
    """`python -m benchmarks` works from the root of the checkout."""
    command = [sys.executable, "-m", "benchmarks", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert "examples:" in run.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["--rounds", "0"], ["--quick", "--large"]])
def test_a_wrong_word_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With a text that says what is possible, before anything is measured."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "error:" in capsys.readouterr().err


def test_other_json_is_refused(tmp_path: Path) -> None:
    """Rather than made into an empty file of results."""
    source = tmp_path / "other.json"
    source.write_text(json.dumps({"rows": []}), encoding="utf-8")
    with pytest.raises(ValueError, match="no results"):
        main(["--from", str(source)])
