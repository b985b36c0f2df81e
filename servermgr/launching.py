"""Which kind of tree a command is launched into, on this system."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from servermgr import platform
from servermgr.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servermgr.tree import LaunchSpec, Tree


@contextmanager
def warmed_up() -> Iterator[None]:
    """Begin what the first launch has to wait for, and have the block do meanwhile what comes before that launch.

    Where the block fails, what was begun is finished: nothing of it stays a child of this process.
    """
    holder = None if platform.HOLDER is None else import_module(platform.HOLDER)
    if holder is not None:
        holder.warm_up()
    try:
        yield
    except BaseException:
        if holder is not None:
            holder.settle()
        raise


def launch(spec: LaunchSpec, *, name: str, ports: tuple[str, ...] = ()) -> Tree:
    """Launch a command so that its tree is held.

    Args:
        spec: What to launch.
        name: The manager's name, for the record of it.
        ports: What it will listen on, as `host:port`, for the record of it.

    Raises:
        LaunchError: It could not be started, or this system has no means to hold it.
        GuardianError: No guardian could be had.
    """
    if platform.HOLDER is None:
        raise LaunchError(
            None, f"process trees cannot be held on this system ({platform.NAME}) yet: nothing was started"
        )
    # By name: the module of one system imports what another does not have.
    tree: Tree = import_module(platform.HOLDER).launch(spec, name=name, ports=ports)
    return tree
