"""The soak in short: `scripts/soak` runs 20,000 cycles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from stand_ins import ROOT, campaign

sys.path.insert(0, str(ROOT))  # the package is not installed, and plain `pytest` does not look into the checkout

if sys.platform == "linux":
    from benchmarks import _soak_report as report
    from benchmarks._soak_kinds import MIXTURE
    from benchmarks._soak_look import WATCHED, judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


@pytest.mark.timeout(120)
def test_cycles_leave_nothing_behind(tmp_path: Path) -> None:
    """Servers of every kind, over and over in one process: as many descriptors, threads, children, records and files
    at the end as at the beginning. Memory needs more cycles to be judged.
    """
    status, found = campaign("soak", tmp_path, "--cycles", 5 * len(MIXTURE), "--seconds", 60)
    grown = [verdict["name"] for verdict in found["verdicts"] if verdict["grows"]]
    assert [name for name in grown if "memory" not in name] == []
    assert status == bool(grown)
    assert {verdict["name"] for verdict in found["verdicts"]} == set(WATCHED)
    assert found["cycles"] >= len(MIXTURE)
    assert found["servers"] > found["cycles"]
    assert all(sample["nursery descriptors"] > 0 for sample in found["samples"])


def test_a_leak_is_seen(tmp_path: Path) -> None:
    """The control: cycles that keep a descriptor each."""
    status, found = campaign("soak", tmp_path, "--cycles", 12, "--kinds", "leaky")
    assert status == 1
    assert "descriptors" in [verdict["name"] for verdict in found["verdicts"] if verdict["grows"]]
    assert "**growth of descriptors" in report.section(found)


@pytest.mark.parametrize(
    ("memory", "grows"),
    [
        ([20.0, 20.0, 20.5, 21.9, 21.9, 21.9], False),
        ([20.0, 20.0, 20.5, 21.0, 22.1, 22.2], True),
        ([20.0, 20.0, 29.0, 29.0, 20.0, 20.0], False),
    ],
)
def test_the_last_third_is_compared_with_the_first(memory: list[float], grows: bool) -> None:
    """By medians, and with the tolerance that is stated."""
    (verdict,) = judge([{"memory": value} for value in memory])
    assert (verdict.name, verdict.tolerance, verdict.grows) == ("memory", 2.0, grows)


def test_two_samples_are_no_proof() -> None:
    with pytest.raises(ValueError, match="three samples"):
        judge([{"memory": 1.0}] * 2)
