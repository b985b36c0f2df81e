"""How a worker of pytest-xdist knows its controller."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servermgr.identity import Identity, realm

if TYPE_CHECKING:
    from typing import Any


def own_identity() -> Identity:
    """Of this process."""
    return Identity.of(os.getpid()) or Identity(os.getpid(), 0)


def for_workers() -> dict[str, Any]:
    """What the controller tells its workers."""
    return {"controller": list(own_identity()), "realm": realm()}


def controller_of(workerinput: dict[str, Any]) -> Identity | None:
    """The controller of a worker; None for one on another machine, in a container of its own, and for no worker."""
    given = workerinput.get("servermgr")
    return Identity(*given["controller"]) if given and given["realm"] == realm() else None
