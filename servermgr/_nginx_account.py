"""Whose rights the workers of an nginx have that is started by root.

They serve requests, so they should not be root; but what they serve, and their temporary files, lie where
the caller says. The rule, which depends on base_dir alone:

1. the owner of base_dir, if that is an ordinary user with an account here;
2. else the first of `UNPRIVILEGED` who may enter base_dir;
3. else root: a directory which root has closed to all others is served by root or by nobody.
"""

from __future__ import annotations

import grp
import sys

from servermgr import _accounts_posix as accounts
from servermgr._nginx_quoting import ConfigurationError

assert sys.platform != "win32"

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
        known = [accounts.owner_of(base_dir), *map(accounts.by_name, UNPRIVILEGED)]
        # An owner without an account has a number for a name, which nginx cannot be told.
        named = [account for account in known if account is not None and not account.name.isdigit()]
        open_to = [account for account in named if accounts.closed(base_dir, account) is None]
        return _names(open_to[0] if open_to else accounts.root())
    account = accounts.by_name(user)
    if account is None:
        raise ConfigurationError(f"there is no user {user!r}")
    closed = accounts.closed(base_dir, account)
    if closed is not None:
        raise ConfigurationError(f"the user {user!r} may not enter {closed}, on the way to base_dir")
    return _names(account)


def _names(account: accounts.Account) -> tuple[str, str]:
    try:
        return account.name, grp.getgrgid(account.gid).gr_name
    except KeyError as error:
        raise ConfigurationError(error, f"the group {account.gid} of {account.name!r} has no name") from None
