"""What this system does not allow, said once for each: a log that repeats itself with every start is not read."""

from __future__ import annotations

import logging

_log = logging.getLogger("servermgr")
_said: set[str] = set()


def say_lost(what: str) -> None:
    """Say what is not to be had here, and what that costs."""
    if what not in _said:
        _said.add(what)
        _log.warning("%s (see `servermgr doctor`)", what)
