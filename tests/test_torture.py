"""The fault campaign in short: `scripts/torture` runs the long form of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from stand_ins import ROOT, campaign

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the zoo is made of Linux's means of escape")

#: Trials, and the seconds after which no new batch of them begins; a busy machine does not get through all of them.
TRIALS, SECONDS = 48, 40
SEED = 7


@pytest.mark.timeout(120)
def test_nobody_is_left_and_nobody_is_harmed(tmp_path: Path) -> None:
    """Owner, guardian, nursery, worker or several of them die at a random moment: no process of theirs is left, no
    record, no file; with only the owner dead, already before any sweep. Bystanders have not had a single signal.
    """
    status, told = campaign("torture", tmp_path, "--trees", TRIALS, "--seconds", SECONDS, "--seed", SEED)
    assert {name: count for name, count in told["counts"].items() if count} == {}
    assert status == 0
    assert len(told["trials"]) >= 16
    assert told["seed"] == SEED
    if len(told["trials"]) == TRIALS:
        victims = {trial["plan"]["who"] for trial in told["trials"]}
        assert {"owner", "guardian", "worker", "owner and guardian"} <= victims
    assert sum(trial["processes"] for trial in told["trials"]) > 50
    assert told["sweeps"] == -(-len(told["trials"]) // 16)


def test_the_campaign_sees_what_is_left(tmp_path: Path) -> None:
    """The control: the same deaths, with the servers started by a bare Popen. It finds them, says so, and ends them."""
    status, told = campaign("torture", tmp_path, "--trees", 6, "--seed", SEED, "--plain")
    assert status == 1
    assert told["counts"]["survivors without any sweep"] > 0
    assert told["counts"]["survivors after the sweep"] > 0
    assert told["counts"]["strays at the end"] == 0
    assert told["harmed"] == []


def test_the_same_seed_draws_the_same_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks._torture_plan import MOMENTS, VICTIMS, Plan

    plans = [Plan.draw(SEED, number) for number in range(200)]
    assert plans == [Plan.draw(SEED, number) for number in range(200)]
    assert plans != [Plan.draw(SEED + 1, number) for number in range(200)]
    assert {plan.who for plan in plans} == set(VICTIMS)
    assert {plan.moment for plan in plans} == set(MOMENTS)
