"""Options of the contract suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--contract-unclaimed", action="store_true", help="run also what a backend does not claim, and say what came"
    )
