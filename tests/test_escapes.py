"""Whatever a tree does to get away: after `stop`, and after the owner's SIGKILL, nobody of it is left.

`test_zoo.py` is the control for `stop`: there the same trees are ended by `Popen.terminate` and by `killpg`, and
the leak is seen. The control for the owner's death is here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import census
import pytest
import zoo
from owners import owner

import servermgr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the zoo is made of Linux's means of escape")

#: Seconds: stubborn trees are killed after it, so it is what most of these tests take.
GRACE = 0.4
#: Those that end by the polite signal leave none for the forced one, so the two halves of a stop are both tested.
EVERY = sorted(zoo.SCENARIOS)
MIXED_SEEDS = range(4)


@pytest.fixture
def roster(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    census.cleanup(tmp_path)


def wait_ready(roster: Path) -> None:
    try:
        census.wait_ready(roster)
    except census.Impossible as reason:
        pytest.skip(str(reason))


def stopped(command: list[str], roster: Path) -> servermgr.StopOutcome:
    manager = servermgr.CommandManager(command, grace_period=GRACE)
    with census.innocents() as bystanders:
        manager.start()
        try:
            wait_ready(roster)
        finally:
            outcome = manager.stop()
        assert not bystanders.harmed()
    return outcome


@pytest.mark.parametrize("name", EVERY)
def test_stop_leaves_nobody(name: str, roster: Path) -> None:
    outcome = stopped(census.command(name, roster), roster)
    assert census.living(roster) == []
    assert census.ended_by_itself(roster) == [], "a storm that has blown itself out proves nothing"
    assert outcome.survivors == ()
    assert servermgr.recorded() == []


@pytest.mark.parametrize("seed", MIXED_SEEDS)
def test_stop_leaves_nobody_of_a_mixed_tree(seed: int, roster: Path) -> None:
    stopped(census.command("mixed", roster, "--seed", str(seed)), roster)
    assert census.living(roster) == []
    assert census.ended_by_itself(roster) == []


@pytest.mark.parametrize("name", EVERY)
def test_the_owners_death_leaves_nobody(name: str, roster: Path) -> None:
    command = census.command(name, roster)
    with census.innocents() as bystanders:
        with owner(command, options={"crash_grace": GRACE}) as doomed:
            wait_ready(roster)
            doomed.kill()
            assert census.wait_gone(roster, GRACE + 4.0) == []
        assert not bystanders.harmed()
    assert census.ended_by_itself(roster) == []


@pytest.mark.parametrize("name", EVERY)
def test_without_a_guardian_the_owners_death_leaves_all(name: str, roster: Path) -> None:
    with owner(census.command(name, roster), how="plain") as doomed:
        wait_ready(roster)
        doomed.kill()
        assert census.wait_gone(roster, 0.3) != [], "this tree does not outlive its owner: it shows nothing"
