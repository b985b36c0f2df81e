"""Accounts of the system, and the command that becomes another user's."""

from __future__ import annotations

import os
import pwd
import sys
from typing import NamedTuple

from servermgr.accounts import COMPLAINT, Runner
from servermgr.errors import LaunchError

assert sys.platform != "win32"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# A few lines of Python that become the server: one process, so its pid is the server's, and every POSIX system has
# it (setpriv and runuser are Linux's alone). Whether the user may go where he has to is found out by going there as
# him, so access lists and capabilities count as they do for the server. SIGPIPE: the interpreter ignores it, and what
# is ignored stays so for the server.
_BECOME = f"""
import os, signal, sys
name, uid, gid, groups, folder, *argv = sys.argv[1:]
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    doing = "be switched to"
    os.setgroups([int(group) for group in groups.split(",")])
    os.setgid(int(gid))
    os.setuid(int(uid))
    for end in range(1, len(folder) + 1):
        if end == 1 or folder[end:end + 1] in ("", "/"):
            doing = "enter " + folder[:end]
            os.chdir(folder[:end])
    doing = "run " + argv[0]
    os.execv(argv[0], argv)
except OSError as error:
    sys.exit("{COMPLAINT}the user " + name + " cannot " + doing + ": " + error.strerror)
"""


class Account(NamedTuple):
    """A user of the system.

    Attributes:
        name: The name, or the number where it has none.
        uid, gid: Its numbers.
        home: Its home directory; `/` where it has none.
    """

    name: str
    uid: int
    gid: int
    home: str = "/"

    def groups(self) -> list[int]:
        """All groups that a login of this user would have."""
        return [self.gid] if self.name.isdigit() else os.getgrouplist(self.name, self.gid)


def choose(folder: str, user: str | None, candidates: Sequence[str], root_if_closed: bool) -> AccountRunner | None:
    """See `accounts.choose`, for root; None is root."""
    if user is not None:
        found = by_name(user)
        if found is None:
            raise LaunchError(f"there is no user {user!r}")
        return AccountRunner(found) if found.uid else None
    known = [owner_of(folder), *map(by_name, candidates)]
    fitting = [account for account in known if account is not None and account.uid]
    if root_if_closed:
        fitting = [account for account in fitting if closed(folder, account) is None]
    elif not fitting:
        raise LaunchError(f"there is no user to start it as, none of {', '.join(candidates)}: pass one as user=")
    return AccountRunner(fitting[0]) if fitting else None


def number_of(name: str) -> int | None:
    """The user id of an account, or None."""
    found = by_name(name)
    return None if found is None else found.uid


def by_name(name: str) -> Account | None:
    """The account of this name, or None."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL
        return None
    return _account(found)


def root() -> Account:
    """The account that may do everything, whatever its name."""
    return _account(pwd.getpwuid(0))


def owner_of(folder: str) -> Account | None:
    """Whom a directory belongs to; None where that is root, or there is no directory."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    if status.st_uid == 0:
        return None
    try:
        return _account(pwd.getpwuid(status.st_uid))
    except KeyError:  # an id without an account, as of a directory from another machine or container
        return Account(str(status.st_uid), status.st_uid, status.st_gid)


def _account(found: pwd.struct_passwd) -> Account:
    return Account(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir or "/")


def closed(folder: str, account: Account) -> str | None:
    """The first directory down to `folder` whose modes keep the account out, or None. Missing ones count as open."""
    if account.uid == 0:
        return None
    path = "/"
    for name in ["", *os.path.realpath(folder).strip("/").split("/")]:
        path = os.path.join(path, name)
        if os.path.exists(path) and not _allows(path, account, 0o1):
            return path
    return None


def _allows(path: str, account: Account, wanted: int) -> bool:
    """Whether the modes allow what is wanted (4 reads, 2 writes, 1 enters)."""
    status = os.stat(path)
    if status.st_uid == account.uid:
        return status.st_mode >> 6 & wanted == wanted
    return status.st_mode >> (3 if status.st_gid in account.groups() else 0) & wanted == wanted


class AccountRunner(Runner):
    """Runs commands as an ordinary user, for a caller who is root."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.name = account.name

    def acting(self, argv: Sequence[str], folder: str) -> list[str]:
        account = self.account
        who = [account.name, str(account.uid), str(account.gid), ",".join(map(str, account.groups()))]
        return [sys.executable, "-I", "-S", "-c", _BECOME, *who, os.path.realpath(folder), *argv]

    def hand_over(self, path: str) -> None:
        os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

    def may_write(self, folder: str) -> bool:
        return closed(folder, self.account) is None and _allows(folder, self.account, 0o3)

    def environment(self) -> dict[str, str]:
        account = self.account
        return {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
