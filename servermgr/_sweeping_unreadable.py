"""Records that nobody here can read: damaged, or written by another version.

Nothing is signalled for them, whatever they hold. They are removed where no tree can be alive that they are of; the
others are told of, with what can be found of their trees, and stay.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from servermgr import _ledger_fields, ledger, platform
from servermgr.identity import is_of_earlier_boot
from servermgr.tree import MARKER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that a file must be older than this boot. Both times are of the wall clock, which is set while a machine
#: boots, and may have been set back.
_MARGIN = 3600.0
_LONGEST = 262144


class Unreadable(NamedTuple):
    """One of them.

    Attributes:
        path: The file.
        why: What is wrong with it.
        pids: Living processes that carry the mark of its tree.
    """

    path: str
    why: str
    pids: tuple[int, ...]


def unreadable() -> list[Unreadable]:
    """Those there are."""
    return [Unreadable(path, _why(path), _marked(marker)) for path, marker in _files()]


def is_outlived(path: str, here: str) -> bool:
    """Whether no living tree can belong to a file of the ledger that cannot be read.

    Args:
        path: The file.
        here: This realm; see `identity.realm`.
    """
    marker = ledger.marker_of(path)
    return bool(marker) and _is_of_earlier_boot(path, here) and not _marked(marker)


def _files() -> Iterator[tuple[str, str]]:
    for path, record in ledger.entries():
        marker = ledger.marker_of(path)
        if record is None and marker and os.path.lexists(path):
            yield path, marker


def _is_of_earlier_boot(path: str, here: str) -> bool:
    import psutil  # noqa: PLC0415  # only where there is one of them

    try:
        seen = os.lstat(path)
    except OSError:  # gone meanwhile
        return False
    if ledger.distrust(seen):
        return False
    where = _realm(path)
    if where is not None:  # another version says it as this one does
        return is_of_earlier_boot(where, here)
    return seen.st_mtime < psutil.boot_time() - _MARGIN


def _realm(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return _ledger_fields.text(json.loads(file.readline(_LONGEST))["realm"])
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


def _why(path: str) -> str:
    try:
        return ledger.distrust(os.lstat(path)) or "it is damaged, or of another version"
    except OSError as error:
        return str(error)


def _marked(marker: str) -> tuple[int, ...]:
    entry = f"{MARKER_VARIABLE}={marker}".encode()
    return tuple(pid for pid in platform.all_pids() if platform.environment_holds(pid, entry))
