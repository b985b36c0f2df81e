"""nginx's base directory: what is in it, and that nobody else has put it there.

nginx follows links: it would append its log to whatever `log/error.log` points to and, started by root, give
whatever `tmp/proxy` points to away to the workers' user. So its directories must be real ones, ours, and
closed to other writers; then nobody else can have planted anything in them. Base_dir itself has to belong to
somebody who is trusted: its owner could still exchange a directory between this look and nginx's start.
"""

from __future__ import annotations

import os
import stat

from servermgr._nginx_config import LOG, RUN, TMP
from servermgr.accounts import effective_user
from servermgr.errors import LaunchError

#: The workers pass through `tmp` to the directories which nginx makes there for their user.
_DIRECTORIES = {LOG: 0o700, RUN: 0o700, TMP: 0o711}


def prepare(base_dir: str) -> None:
    """Make what is missing of base_dir (not of its parents: a slip in a path should not grow a tree).

    Raises:
        LaunchError: It cannot be made or written to, or holds something that is not ours.
    """
    try:
        _make(base_dir, 0o755)
        for name, mode in _DIRECTORIES.items():
            path = os.path.join(base_dir, name)
            _make(path, mode)
            _check_ours(path)
    except OSError as error:
        raise LaunchError(error, f"cannot use {base_dir} as base_dir") from error


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    os.chmod(path, mode)  # a umask of 077 would close `tmp` to the workers


def _check_ours(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise LaunchError(f"{path} is a link or a file: nginx needs a directory of its own there; remove it")
    me = effective_user()
    if me is not None and found.st_uid != me:
        raise LaunchError(f"{path} belongs to user {found.st_uid}, not to {me} who starts nginx; remove it")
    if me is not None and found.st_mode & 0o022:
        raise LaunchError(f"{path} can be written to by others, who may have planted links; chmod go-w it")
