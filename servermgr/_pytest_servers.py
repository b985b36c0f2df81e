"""What the fixtures `servermgr…` give to a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from servermgr.command import CommandManager
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any

    from servermgr._pytest_use import Running, Use
    from servermgr.interface import ManagerInterface

    AnyManager = TypeVar("AnyManager", bound=ManagerInterface)


class Servers:
    """Starts servers, and stops all of them at the end of a scope, the last one first, whatever becomes of the others.

    Args:
        use: The servers of this process.
        fixture: The name of the fixture that this is the value of.
    """

    def __init__(self, use: Use, fixture: str) -> None:
        self._use = use
        self._fixture = fixture
        self._started: list[Running] = []

    def start(self, manager: AnyManager, *, timeout: float | None = 10.0) -> AnyManager:
        """Start a manager (a `Stack` of them, too), and return it when it is ready.

        Args:
            manager: Not running yet. The test may stop it, and start it again.
            timeout: Seconds for it to become ready; None waits for ever.

        Raises:
            WorkerError: It did not become ready; nothing of it is left running.
        """
        self._started.append(self._use.start(manager, self._fixture, timeout))
        return manager

    def command(
        self, argv: Sequence[str | os.PathLike[str]], *, timeout: float | None = 10.0, **options: Any
    ) -> CommandManager:
        """Start a command, and return its manager when it is ready.

        Args:
            argv: The command and its arguments.
            timeout: Seconds for it to become ready; None waits for ever.
            **options: Those of `servermgr.CommandManager`.
        """
        return self.start(CommandManager(argv, **options), timeout=timeout)

    def close(self) -> None:
        """Stop all of them.

        Raises:
            Exception: What went wrong, once everything was tried. A Ctrl-C comes before anything else.
        """
        failures: list[BaseException] = []
        while self._started:
            try:
                self._use.stop(self._started.pop())
            except BaseException as failure:  # noqa: BLE001  # a Ctrl-C, too: the others must not stay for it
                failures.append(failure)
        if failures:
            raise _one_of(failures)


def _one_of(failures: list[BaseException]) -> BaseException:
    for failure in failures:
        if not isinstance(failure, Exception):
            return failure
    if len(failures) == 1:
        return failures[0]
    text = "; ".join(str(failure) for failure in failures)
    return WorkerError(failures[0], f"{len(failures)} servers could not be stopped: {text}")
