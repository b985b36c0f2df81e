"""The backends that can be tested on this system, and the cells of the contract table."""

from __future__ import annotations

import importlib
import shutil
import sys
from typing import NamedTuple

from contract_owner import SPAWNED
from contract_scenarios import SCENARIOS, WAYS

from servermgr import platform


class Backend(NamedTuple):
    """One backend.

    Attributes:
        name: As in `servermgr.platform.NAME`.
        environment: What makes an owner use it here.
        here: Whether it can be tested on this system; else the reason.
    """

    name: str
    environment: dict[str, str]
    here: str = ""

    def claims(self, way: str) -> frozenset[str]:
        """What it declares; nothing where it cannot be imported."""
        if self.here:
            return frozenset()
        module = importlib.import_module(f"servermgr.platform.{self.name}")
        claimed: frozenset[str] = module.ABILITIES if way == SPAWNED else module.ADOPTED_ABILITIES
        return claimed


def _only_on(system: str) -> str:
    return "" if sys.platform == system else f"not on {sys.platform}"


def _posix() -> str:
    if sys.platform == "win32":
        return "not on win32"
    return "" if shutil.which("ps") else "there is no ps(1)"


BACKENDS: dict[str, Backend] = {
    "linux": Backend("linux", {}, _only_on("linux")),
    "posix": Backend("posix", {platform.CHOICE_VARIABLE: "posix"}, _posix()),
    "windows": Backend("windows", {}, _only_on("win32")),
}


class Cell(NamedTuple):
    """One cell of the table."""

    scenario: str
    backend: str
    way: str

    @property
    def claimed(self) -> bool:
        """Whether the backend claims it."""
        return SCENARIOS[self.scenario].ability in BACKENDS[self.backend].claims(self.way)

    def __str__(self) -> str:
        return f"{self.scenario.replace(' ', '_')}-{self.backend}-{self.way}"


def cells() -> list[Cell]:
    """Every cell that can be tested here."""
    return [
        Cell(name, backend.name, way)
        for name, scenario in SCENARIOS.items()
        for backend in BACKENDS.values()
        for way in (WAYS[:1] if scenario.spawned_only else WAYS)
        if not backend.here
    ]
