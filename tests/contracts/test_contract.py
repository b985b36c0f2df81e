"""The contract: every scenario, on every backend of this system, in every way of starting.

What a backend claims must hold. What it does not claim is run as well where `--contract-unclaimed` asks for it, so that
the escapes in `docs/contract.md` are seen, not believed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from contract_backends import BACKENDS, Cell, cells
from contract_runs import Run
from contract_scenarios import SCENARIOS, Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def new_run(tmp_path: Path, free_port: int) -> Iterator[Callable[..., Run]]:
    """`new_run(program, environment)`; its processes are ended with the test."""
    runs: list[Run] = []

    def make(program: str, environment: dict[str, str]) -> Run:
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        runs.append(Run(folder, program, environment, free_port))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


def perform(cell: Cell, new_run: Callable[..., Run]) -> None:
    scenario = SCENARIOS[cell.scenario]
    run = new_run(scenario.program, BACKENDS[cell.backend].environment)
    run.start(cell.way, **scenario.options)
    scenario.ending(run, cell.way)
    assert not run.has("ran-out"), "a relay that has come to its own end proves nothing"


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_what_is_claimed_holds(
    cell: Cell, new_run: Callable[..., Run], request: pytest.FixtureRequest, record_property: Callable[..., None]
) -> None:
    if not cell.claimed:
        if request.config.getoption("--contract-unclaimed", False):
            record_property("contract", (*cell, unclaimed(cell, new_run)))
            return
        pytest.skip(f"{BACKENDS[cell.backend].name} does not claim it for a server that is {cell.way}")
    perform(cell, new_run)
    record_property("contract", (*cell, "held"))


def unclaimed(cell: Cell, new_run: Callable[..., Run]) -> str:
    try:
        perform(cell, new_run)
    except Broken as broken:
        return f"not claimed: {broken}"
    return "not claimed: held this time"


@pytest.mark.parametrize("name", [name for name in SCENARIOS if SCENARIOS[name].leaks is not None])
def test_without_the_mechanism_the_leak_is_seen(name: str, new_run: Callable[..., Run]) -> None:
    """The negative control: ended as a program ends it that knows nothing of trees."""
    run = new_run(SCENARIOS[name].program, {})
    process = run.start_bare()
    if sys.platform == "win32":
        process.kill()
    else:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that does not listen
        process.wait(0.5)
    left = run.settled()
    process.kill()
    process.wait()
    assert bool(left) == SCENARIOS[name].leaks


def test_without_the_mechanism_the_owners_death_leaves_all(new_run: Callable[..., Run]) -> None:
    """The negative control of the scenarios in which the owner is killed."""
    run = new_run("family", {})
    owner = run.start("Popen")
    owner.kill()
    assert len(run.settled(0.5)) == 3
