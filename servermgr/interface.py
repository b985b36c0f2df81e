"""The interface of all managers, as documented since 2010."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from servermgr.tree import StopOutcome


class ManagerInterface:
    """What every manager can do. A manager owns one server.

    As a context manager (`with`, `async with`) it is started on entry and stopped on exit. `async with` works under
    asyncio, trio and anyio, and servers that are started side by side take the time of the slowest.
    """

    def health(self) -> object:
        """Ask once whether the worker responds.

        Returns:
            Nothing of interest; False means "not yet".

        Raises:
            WorkerError: It does not respond.
        """
        raise NotImplementedError

    def ready_wait(self, timeout: float | None = 10.0) -> None:
        """Wait until the worker handles requests.

        Args:
            timeout: Seconds. When they are over the whole tree is ended. None waits for ever; 0 asks once.

        Raises:
            WorkerError: It is not ready in time (`ReadyTimeoutError`) or has ended (`WorkerExitedError`).
        """
        raise NotImplementedError

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start the worker.

        Args:
            wait: Whether to call `ready_wait(timeout)` when the worker runs.
            timeout: Seconds; see `ready_wait`.
        """
        raise NotImplementedError

    def stop(self, wait: bool = True) -> StopOutcome:
        """End the worker and all that descends from it.

        Args:
            wait: Whether to return only when the tree is gone.
        """
        raise NotImplementedError

    def kill(self) -> StopOutcome:
        """End the worker and all that descends from it at once, asking nobody first.

        A manager that has no such thing of its own is stopped politely.
        """
        return self.stop()

    def wait(self) -> StopOutcome:
        """Wait for the worker to end by itself, then end what is left of its tree."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        from servermgr import _interface_async  # noqa: PLC0415  # only for those who have an event loop

        await _interface_async.start(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from servermgr import _interface_async  # noqa: PLC0415

        await _interface_async.stop(self)
