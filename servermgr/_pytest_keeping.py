"""Servers that outlive the process that started them, whatever kind of manager starts them."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from servermgr.interface import ManagerInterface


def parts(manager: ManagerInterface) -> list[Any]:
    """The managers of a stack, and of the stacks in it; any other manager is its own and only part."""
    inner = getattr(manager, "managers", None)
    if inner is None:
        return [manager]
    return [part for member in inner for part in parts(member)]


class Keeping:
    """How one manager spawns when its server is to be kept.

    Args:
        manager: Its `spawn` is replaced for the time being; that is the one door through which a server is started
            below a guardian, also in a subclass of somebody else's.

    Attributes:
        name: What the server is called in the ledger: its manager's name and something that no other server of that
            name has, for `servermgr.stop(name)` ends all that are called so.
        used: Whether it was spawned. A manager that adopts a process of its own cannot be kept.
    """

    def __init__(self, manager: Any, name: str | None = None) -> None:
        self._manager = manager
        self.name = name or unique_name(manager)
        self.used = False

    @contextlib.contextmanager
    def during_start(self) -> Iterator[None]:
        """What the manager spawns within the block is kept."""
        mine = vars(self._manager)
        spawn = getattr(self._manager, "spawn", None)
        if spawn is None:  # some other implementation of the interface
            yield
            return
        mine["spawn"] = lambda argv, **options: self._spawn(spawn, argv, options)
        try:
            yield
        finally:
            mine.pop("spawn", None)

    def _spawn(self, spawn: Callable[..., object], argv: object, options: dict[str, Any]) -> object:
        given, self._manager.name = self._manager.name, self.name
        try:
            process = spawn(argv, **{**options, "keep": True})
        finally:
            self._manager.name = given
        self.used = True
        return process

    def let_go(self) -> None:
        """From now on the server is nobody's."""
        self._manager.process = None


def unique_name(manager: Any) -> str:
    """A name for the ledger that no other server has."""
    return f"{getattr(manager, 'name', type(manager).__name__)}-{secrets.token_hex(3)}"
