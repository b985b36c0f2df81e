"""`async with` under asyncio, under trio, and under anyio on top of either."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from stand_ins import PATIENCE, SLEEP, is_living, script_output, sh, standing, until

from servermgr import CommandManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

anyio = pytest.importorskip("anyio")
trio = pytest.importorskip("trio")

BACKENDS = ("asyncio", "trio")
#: Seconds that each of the servers takes to become ready.
SLOW = 0.6


def slow(name: str) -> CommandManager:
    """Becomes ready `SLOW` seconds after it was first asked."""
    asked: list[float] = []

    def ready() -> bool:
        asked.append(time.monotonic())
        return asked[-1] - asked[0] > SLOW

    return CommandManager(SLEEP, name=name, ready=ready)


async def use(manager: CommandManager) -> None:
    async with manager as entered:
        assert entered is manager
        assert manager.process.poll() is None


async def with_anyio(managers: list[CommandManager]) -> None:
    async with anyio.create_task_group() as group:
        for manager in managers:
            group.start_soon(use, manager)


async def with_asyncio(managers: list[CommandManager]) -> None:
    await asyncio.gather(*map(use, managers))


async def with_trio(managers: list[CommandManager]) -> None:
    async with trio.open_nursery() as nursery:
        for manager in managers:
            nursery.start_soon(use, manager)


RUNNERS: dict[str, Callable[[list[CommandManager]], None]] = {
    "asyncio": lambda managers: asyncio.run(with_asyncio(managers)),
    "trio": lambda managers: trio.run(with_trio, managers),
    "anyio on asyncio": lambda managers: anyio.run(with_anyio, managers, backend="asyncio"),
    "anyio on trio": lambda managers: anyio.run(with_anyio, managers, backend="trio"),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_ten_servers_that_start_side_by_side_take_the_time_of_the_slowest(runner: str) -> None:
    """Also on a machine with two processors, whose event loop has six threads in its pool."""
    managers = [slow(f"server-{number}") for number in range(10)]
    began = time.monotonic()
    RUNNERS[runner](managers)
    assert time.monotonic() - began < 2 * SLOW + 0.5
    assert [manager.process for manager in managers] == [None] * 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_exit_waits_for_the_end_in_a_cancelled_scope(backend: str) -> None:
    """A time limit around the body does not cut the stop short, and waiting for it is no spin."""
    script = 'trap "sleep 0.5; exit 3" TERM; echo up; sleep 60 & wait'
    manager = CommandManager(sh(script), name="polite", ready="log:up")
    tree = []

    async def main() -> None:
        with anyio.move_on_after(0.3):
            async with manager:
                tree.extend(standing(manager.process.pid))
                await anyio.sleep(PATIENCE)

    began = time.process_time()
    anyio.run(main, backend=backend)
    assert time.process_time() - began < 0.45
    assert len(tree) == 2
    assert not any(map(is_living, tree))
    assert manager.process is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_start_leaves_nobody(backend: str) -> None:
    """It ends at once, not when the server's time is over, and then the cancellation goes on."""
    manager = CommandManager(SLEEP, name="never", ready=lambda: False)

    async def main() -> bool:
        with anyio.move_on_after(0.3) as scope:
            await use(manager)
        return bool(scope.cancelled_caught)

    assert anyio.run(main, backend=backend)
    assert manager.process is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failed_start_is_raised_as_it_is(backend: str) -> None:
    manager = CommandManager(["sh", "-c", "exit 7"], name="broken", ready="log:never")
    with pytest.raises(Exception, match="exit status 7") as caught:
        anyio.run(use, manager, backend=backend)
    assert type(caught.value).__name__ == "WorkerExitedError"


def test_trio_as_a_guest_of_asyncio() -> None:
    """Both run in one thread; the task is trio's. (A program of its own, for trio keeps a thread for its guests.)"""
    code = """
import asyncio, trio
from servermgr import CommandManager

manager = CommandManager(["sleep", "60"])

async def use():
    async with manager:
        return manager.process.poll()

async def main():
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    trio.lowlevel.start_guest_run(
        use, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=over.set_result
    )
    return (await over).unwrap()

print(asyncio.run(main()), manager.process)
"""
    assert script_output(code) == "None None\n"


def test_another_cancellation_does_not_cut_the_stop_short() -> None:
    """asyncio: whoever is cancelled while he stops has stopped when the cancellation goes on."""
    manager = CommandManager(sh('trap "sleep 0.4; exit 3" TERM; echo up; sleep 60 & wait'), ready="log:up")

    async def main() -> None:
        task = asyncio.ensure_future(forever(manager))
        while manager.process is None or task.done():
            await asyncio.sleep(0.01)
        await asyncio.to_thread(until, lambda: manager.output_tail() == ["up"])
        await asyncio.sleep(0.1)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert manager.process is None

    asyncio.run(main())


def forever(manager: CommandManager) -> Awaitable[None]:
    async def body() -> None:
        async with manager:
            await asyncio.sleep(PATIENCE)

    return body()
