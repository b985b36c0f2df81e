"""What an import costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.harness import Contender, Goal, Measurement, Plan, Row, compare
from benchmarks.peers import PEERS
from benchmarks.processes import answer

MODULES = ("servermgr", "servermgr.base", "servermgr.command")
WHY = (
    "These modules stand on logging, typing and threading of the standard library, which psutil does without; what "
    "only some calls need is loaded by these."
)
CODE = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def measure(plan: Plan) -> Iterator[Row]:
    """A case for each module that users import."""
    for name in MODULES:
        yield _compare(name, plan.rounds)


def _compare(name: str, rounds: int) -> Row:
    contenders = [
        Contender("servermgr", lambda _: _import(name), "ours"),
        Contender("import psutil", lambda _: _import("psutil"), "reference"),
        Contender("import mirakuru", lambda _: _import("mirakuru"), missing=PEERS["mirakuru"].missing),
        Contender("import xprocess", lambda _: _import("xprocess"), missing=PEERS["xprocess"].missing),
    ]
    return compare(f"import {name}", contenders, rounds=rounds, goals=[Goal("more", 10.0, why=WHY)])


def _import(name: str) -> float:
    return float(answer([sys.executable, "-c", CODE.format(name)]))


MEASUREMENT = Measurement(
    "import",
    "Importing",
    "In a fresh interpreter each time, its own start left out, the bytecode cached. psutil is the one dependency.",
    measure,
)
