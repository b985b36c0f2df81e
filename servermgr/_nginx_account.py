"""Whose rights the workers of an nginx have that is started by root.

They serve requests, so they should not be root; but what they serve, and their temporary files, lie where
the caller says. The rule, which depends on base_dir alone:

1. the owner of base_dir, if that is an ordinary user with an account here;
2. else the first of `UNPRIVILEGED` who may enter base_dir;
3. else root: a directory which root has closed to all others is served by root or by nobody.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys

from servermgr._nginx_quoting import ConfigurationError

assert sys.platform != "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Accounts which systems keep for web servers, and the one that stands for no one.
UNPRIVILEGED = ("www-data", "nginx", "http", "_www", "nobody")


def choose(base_dir: str, user: str | None) -> tuple[str, str]:
    """Name and group of the user for the workers.

    Args:
        base_dir: May be missing; then it will be made open to all.
        user: Told by the caller; None applies the rule of this module.

    Raises:
        ConfigurationError: There is no such user, or it may not enter base_dir.
    """
    if user is None:
        fitting = (account for account in _candidates(base_dir) if _closed(base_dir, account) is None)
        return _names(next(fitting, None) or pwd.getpwuid(0))
    try:
        account = pwd.getpwnam(user)
    except (KeyError, ValueError) as error:  # ValueError: a NUL
        raise ConfigurationError(error, f"there is no user {user!r}") from None
    closed = _closed(base_dir, account)
    if closed is not None:
        raise ConfigurationError(f"the user {user!r} may not enter {closed}, on the way to base_dir")
    return _names(account)


def _candidates(base_dir: str) -> Iterator[pwd.struct_passwd]:
    try:
        owner = os.stat(base_dir).st_uid
        if owner != 0:
            yield pwd.getpwuid(owner)
    except (OSError, KeyError):  # not made yet; or an id without an account, which nginx cannot be told
        pass
    for name in UNPRIVILEGED:
        try:
            yield pwd.getpwnam(name)
        except KeyError:
            continue


def _closed(base_dir: str, account: pwd.struct_passwd) -> str | None:
    """The first directory down to base_dir that the account may not enter; None if it may enter them all."""
    if account.pw_uid == 0:
        return None
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    path = "/"
    for name in ["", *os.path.realpath(base_dir).strip("/").split("/")]:
        path = os.path.join(path, name)
        if os.path.exists(path) and not _may_enter(os.stat(path), account.pw_uid, groups):
            return path
    return None


def _may_enter(directory: os.stat_result, uid: int, groups: list[int]) -> bool:
    if directory.st_uid == uid:
        return bool(directory.st_mode & 0o100)
    return bool(directory.st_mode & (0o010 if directory.st_gid in groups else 0o001))


def _names(account: pwd.struct_passwd) -> tuple[str, str]:
    try:
        return account.pw_name, grp.getgrgid(account.pw_gid).gr_name
    except KeyError as error:
        raise ConfigurationError(error, f"the group {account.pw_gid} of {account.pw_name!r} has no name") from None
