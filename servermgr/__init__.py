"""Start servers, hold the whole tree of processes that grows from each, and remove all of it.

>>> import sys, servermgr
>>> with servermgr.CommandManager([sys.executable, "-m", "http.server", "8123", "--bind", "127.0.0.1"],
...                               ready="tcp://127.0.0.1:8123") as server:
...     server.process.pid > 0
True

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from servermgr.base import Manager, ManagerInterface, StopOutcome, WorkerError, address_free_check, address_in_use
    from servermgr.command import CommandManager
    from servermgr.stack import Stack
    from servermgr.sweeping import recorded, stop, sweep
    from servermgr.tree import format_tree

__version__ = "0.1.0"

_HOMES = {
    "CommandManager": "servermgr.command",
    "Manager": "servermgr.base",
    "ManagerInterface": "servermgr.base",
    "Stack": "servermgr.stack",
    "StopOutcome": "servermgr.base",
    "WorkerError": "servermgr.base",
    "address_free_check": "servermgr.base",
    "address_in_use": "servermgr.base",
    "format_tree": "servermgr.tree",
    "recorded": "servermgr.sweeping",
    "stop": "servermgr.sweeping",
    "sweep": "servermgr.sweeping",
}
__all__ = [
    "CommandManager",
    "Manager",
    "ManagerInterface",
    "Stack",
    "StopOutcome",
    "WorkerError",
    "address_free_check",
    "address_in_use",
    "format_tree",
    "recorded",
    "stop",
    "sweep",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
