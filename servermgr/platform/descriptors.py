"""What Linux and the other POSIX systems do alike, where Windows has other means. The guardian runs this file."""

from __future__ import annotations

import os
import sys

assert sys.platform != "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from servermgr.platform.job_object import Job


def close_pidfd(pidfd: int) -> None:
    """Close what `open_pidfd` has given."""
    os.close(pidfd)


def contained(marker: str, removes: Iterable[str]) -> list[int]:
    """Nobody: no containment here can be asked for by the marker of its tree."""
    return []


def is_group_of(path: str, marker: str) -> bool:
    """There are no control groups: False."""
    return False


def group_for(marker: str) -> str:
    """There are no control groups: empty."""
    return ""


def enclose(pid: int) -> Job | None:
    """There is nothing to put a running process into: None."""
    return None


def open_append(path: str, *, create: bool) -> int:
    """A descriptor that appends, also when it is inherited, and that does not keep others from removing the file."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
