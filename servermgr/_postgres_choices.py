"""What is to be chosen before a server starts: which PostgreSQL, run by whom, and where its socket is."""

from __future__ import annotations

import os
import tempfile

from servermgr import _postgres_settings as settings
from servermgr import _postgres_versions as versions
from servermgr import accounts
from servermgr.errors import LaunchError

#: Whom a server runs as that root starts on a directory of his own or a new one.
ACCOUNTS = ("postgres", "_postgres", "pgsql", "nobody")
_PREFIX = "servermgr-pg-"


def installation(db_dir: str, made_by: str | None, wanted: str) -> versions.Installation:
    """The PostgreSQL to run; see `versions.choose`.

    Raises:
        LaunchError: None fits.
        ValueError: `wanted` is no version.
    """
    found = versions.choose(wanted, made_by)
    if made_by is not None and made_by != str(found.major):
        raise LaunchError(
            f"{db_dir} was made by PostgreSQL {made_by} and cannot be used by {found.version} "
            f"(asked for by pg_version= or {versions.VARIABLE})"
        )
    if found.major < versions.OLDEST:
        raise LaunchError(f"PostgreSQL {found.version} is too old: {versions.OLDEST} is the oldest that is managed")
    return found


def runner(db_dir: str, user: str | None) -> accounts.Runner:
    """Whom to run it as.

    Raises:
        LaunchError: There is nobody, or root was asked for.
    """
    found = accounts.choose(db_dir, user, ACCOUNTS)
    if found.name is None and accounts.effective_user() == 0:
        raise LaunchError("PostgreSQL refuses to run as root: pass another user=")
    return found


def socket_dir(db_dir: str, asked: str, port: int, runner: accounts.Runner) -> tuple[str, str]:
    """Where to make the socket.

    In the data directory, which is closed to all others and stays anyway: so nothing is left behind of a run,
    however it ends. Only where its path is too long, a temporary directory takes its place.

    Returns:
        The directory; and once more, if it is a temporary one, else an empty text.

    Raises:
        LaunchError: The path of a socket in the directory that was asked for would be too long.
    """
    chosen = asked or db_dir
    if settings.fits(chosen, port):
        return chosen, ""
    if asked:
        raise LaunchError(f"the path of a socket in {asked} would be longer than the system allows")
    usual = os.path.join(tempfile.gettempdir(), f"{_PREFIX}12345678")
    made = tempfile.mkdtemp(prefix=_PREFIX, dir=None if settings.fits(usual, port) else "/tmp")  # noqa: S108  # private
    runner.hand_over(made)
    return made, made
