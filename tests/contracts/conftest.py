"""Options of the contract suite, and the table that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

#: What the contract tests of this run have found: ((scenario, backend, way), outcome).
_outcomes: dict[tuple[str, str, str], str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--contract-table",
        metavar="FILE",
        help="write the contract table into this file; what a backend does not claim is run as well, to see what comes",
    )


def pytest_runtest_logreport(report: Any) -> None:
    for name, value in report.user_properties:
        if name == "contract" and report.when == "call":
            *cell, outcome = value
            _outcomes[tuple(cell)] = outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--contract-table", None)
    if path is None or hasattr(session.config, "workerinput"):
        return
    import contract_table
    from contract_backends import Cell, cells

    found = {Cell(*cell): outcome for cell, outcome in _outcomes.items()}
    contract_table.write(Path(path), [(cell, found[cell]) for cell in cells() if cell in found])
