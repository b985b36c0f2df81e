"""The program of a Redis: where it is, and what it says when it cannot run."""

from __future__ import annotations

import os
import shutil

from servermgr.accounts import COMPLAINT
from servermgr.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The programs that are looked for, in this order, and where besides PATH.
PROGRAMS = ("redis-server", "valkey-server")
FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin")


def find(binary: str | os.PathLike[str] | None) -> str:
    """The program's path.

    Raises:
        LaunchError: There is none.
    """
    wanted = PROGRAMS if binary is None else (os.fspath(binary),)
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *FOLDERS))
    for name in wanted:
        found = shutil.which(name, path=path)
        if found is not None:
            return os.path.abspath(found)
    raise LaunchError(
        f"there is no program {' or '.join(wanted)} in PATH or in {', '.join(FOLDERS)}: install Redis or Valkey "
        "(apt install redis-server, dnf install valkey, apk add valkey, brew install redis), or pass its path as "
        "binary="
    )


def complaint(said: Sequence[str]) -> str | None:
    """The line among the last ones that says why it ended, without pid and time; None without one."""
    for line in reversed(said):
        if line.startswith(">>> "):  # the line of the configuration, with what is wrong with it below
            return " ".join(said[said.index(line) :])[4:]
        if line.startswith(COMPLAINT):
            return line.removeprefix(COMPLAINT)
    telling = [line.partition(" # ")[2] for line in said if " # " in line and "WARNING" not in line]
    return telling[-1] if telling else None
