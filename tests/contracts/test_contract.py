"""The contract: every scenario, on every backend of this system, in every way of starting.

What a backend claims must hold. What it does not claim is run when `docs/contract.md` is written, so that the escapes
in it are seen, not believed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import contract_table
import pytest
from contract_backends import BACKENDS, Backend, Cell, cells
from contract_runs import Run
from contract_scenarios import SCENARIOS, Broken

from servermgr import platform
from servermgr.platform import abilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REGENERATE = f"docs/contract.md is out of date: {contract_table.COMMAND}"


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
    writing = request.config.getoption("--contract-table", None)
    if not cell.claimed:
        outcome = unclaimed(cell, new_run) if writing else contract_table.NO
        record_property("contract", (*cell, outcome))
    else:
        perform(cell, new_run)
        record_property("contract", (*cell, contract_table.HELD))
    if not writing:
        word = contract_table.HELD if cell.claimed else contract_table.NO
        assert contract_table.read(contract_table.COMMITTED).get(cell) == word, REGENERATE


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_a_backend_that_is_not_tested_here_is_seen_to_be_skipped(backend: Backend) -> None:
    if backend.here.startswith("there is no") and os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{backend.here}, which the contract of {backend.name} needs; with CI=true that is a failure")
    if backend.here:
        pytest.skip(f"{backend.name}: {backend.here}")
    assert any(cell.backend == backend.name for cell in cells())


def test_the_committed_table_is_what_this_code_writes(tmp_path: Path) -> None:
    """With no outcomes of its own it comes out as it stands: no scenario, ability or word of it is of yesterday."""
    copy = tmp_path / "contract.md"
    shutil.copyfile(contract_table.COMMITTED, copy)
    contract_table.write(copy, [])
    assert copy.read_text("utf-8") == contract_table.COMMITTED.read_text("utf-8"), REGENERATE


def test_a_table_of_yesterday_is_noticed(tmp_path: Path) -> None:
    copy = tmp_path / "contract.md"
    contract_table.write(copy, [(Cell("a family", "linux", "Popen"), contract_table.HELD)])
    assert contract_table.read(copy) == {Cell("a family", "linux", "Popen"): contract_table.HELD}
    contract_table.write(copy, [(Cell("a relay", "linux", "Popen"), "not claimed: left: root")])
    assert contract_table.read(copy)[Cell("a relay", "linux", "Popen")] == contract_table.NO
    assert contract_table.read(copy)[Cell("a family", "linux", "Popen")] == contract_table.HELD, "kept"
    assert "left: root" in copy.read_text("utf-8")


def test_every_ability_has_a_scenario() -> None:
    assert {scenario.ability for scenario in SCENARIOS.values()} == set(abilities.MEANING)


def unclaimed(cell: Cell, new_run: Callable[..., Run]) -> str:
    try:
        perform(cell, new_run)
    except (Broken, AssertionError) as broken:  # also a start that is refused
        return f"not claimed: {str(broken).splitlines()[0]}"
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
    if abilities.OWNER_DEATH in platform.ADOPTED_ABILITIES:
        pytest.skip("here an adopted process ends with its owner, too; tests/windows has another control")
    run = new_run("family", {})
    owner = run.start("Popen")
    owner.kill()
    assert len(run.settled(0.5)) == 3
