"""`async with` for managers: their blocking `start` and `stop` in threads of their own, under asyncio and under trio.

A thread of its own for each call, not one of the event loop's pool: that has as many threads as the machine has
processors and some, and ten servers that start together would take turns.

A call is always seen through to its end. Cancelling `async with` stops the server, waits, and is raised then.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from servermgr.interface import ManagerInterface


class _Call:
    """One blocking call, in a thread.

    Args:
        function: What to call.
        tell: Called in the thread, once it is over.
    """

    def __init__(self, function: Callable[[], object], tell: Callable[[], object]) -> None:
        self._function = function
        self._tell = tell
        self._failure: BaseException | None = None
        context = contextvars.copy_context()
        # Not a daemon: an interpreter that ends meanwhile waits for it, as it would for a pool's.
        threading.Thread(target=context.run, args=(self._run,), name="servermgr-async").start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as failure:  # noqa: BLE001  # whatever it is, it belongs to the one who waits
            self._failure = failure
        self._tell()

    def result(self) -> None:
        """Raise what the call has raised."""
        if self._failure is not None:
            raise self._failure


async def start(manager: ManagerInterface) -> None:
    """Start a manager. When this is cancelled, nothing of it is left before the cancellation is raised."""
    if _under_trio():
        await _start_under_trio(manager)
    else:
        await _start_under_asyncio(manager)


async def stop(manager: ManagerInterface) -> None:
    """Stop a manager, in a cancelled scope, too."""
    if _under_trio():
        await _through_trio(manager.stop)
    else:
        await _through_asyncio(manager.stop)


def _under_trio() -> bool:
    # asyncio's own answer does not do: in trio's guest mode an asyncio loop runs as well, in the same thread.
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


# ---- trio --------------------------------------------------------------------------------------------------------


async def _start_under_trio(manager: ManagerInterface) -> None:
    import trio  # noqa: PLC0415

    over = trio.Event()
    token = trio.lowlevel.current_trio_token()
    call = _Call(manager.start, lambda: token.run_sync_soon(over.set))
    try:
        await over.wait()
    except (trio.Cancelled, KeyboardInterrupt):
        await _through_trio(manager.stop)  # what it has started; then the thread notices
        with trio.CancelScope(shield=True):
            await over.wait()
        await _through_trio(manager.stop)  # what it has started since
        raise
    call.result()


async def _through_trio(function: Callable[[], object]) -> None:
    import trio  # noqa: PLC0415

    over = trio.Event()
    token = trio.lowlevel.current_trio_token()
    call = _Call(function, lambda: token.run_sync_soon(over.set))
    with trio.CancelScope(shield=True):
        await over.wait()
    call.result()


# ---- asyncio -----------------------------------------------------------------------------------------------------


async def _start_under_asyncio(manager: ManagerInterface) -> None:
    import asyncio  # noqa: PLC0415  # only for those who have it already

    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    call = _Call(manager.start, lambda: loop.call_soon_threadsafe(over.set))
    try:
        await over.wait()
    except (asyncio.CancelledError, KeyboardInterrupt):
        await _through_asyncio(manager.stop)
        await _outlast(over)
        await _through_asyncio(manager.stop)
        raise
    call.result()


async def _through_asyncio(function: Callable[[], object]) -> None:
    import asyncio  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    call = _Call(function, lambda: loop.call_soon_threadsafe(over.set))
    cancelled = await _outlast(over)
    call.result()
    if cancelled is not None:
        raise cancelled


async def _outlast(over: object) -> BaseException | None:
    """Wait for the event whatever comes; returns the last cancellation that came meanwhile."""
    import asyncio  # noqa: PLC0415

    assert isinstance(over, asyncio.Event)
    cancelled: BaseException | None = None
    with _shield():
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled


def _shield() -> AbstractContextManager[object]:
    # anyio cancels a task again at each wait of a cancelled scope: without this, `_outlast` would be a spin.
    anyio = sys.modules.get("anyio")
    return contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True)
