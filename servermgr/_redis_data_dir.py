"""The data directory of a Redis: made, given to the server's user, and used by one server at a time."""

from __future__ import annotations

import os
import stat

from servermgr import accounts
from servermgr.deadline import Deadline, pace, sleep
from servermgr.errors import LaunchError, WorkerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from servermgr.accounts import Runner

CONFIG, PIDFILE, LOG, SOCKET = "redis.conf", "redis.pid", "redis.log", "redis.sock"
#: Whom a server runs as that root starts on a new directory.
ACCOUNTS = ("redis", "valkey", "nobody")
#: Seconds for a server that runs on the directory to go, as after the death of its owner.
PATIENCE = 0.5


def runner(data_dir: str, user: str | None) -> Runner:
    """Whom to run it as: who is told, else the owner of the directory, else an ordinary user if it may get there.

    Raises:
        LaunchError: There is no such user.
    """
    if user is None and accounts.effective_user() == 0 and os.path.isdir(data_dir) and os.stat(data_dir).st_uid == 0:
        return accounts.Runner()  # what root has there, the server could not write as anybody else
    return accounts.choose(data_dir, user, ACCOUNTS, root_if_closed=True)


def prepare(data_dir: str, runner: Runner) -> None:
    """Make it if it is missing (not its parents), and make sure that the server can write to it.

    A server that cannot would start all the same, and lose everything at its end.

    Raises:
        LaunchError: It cannot be made or written to.
        WorkerError: A server runs on it already.
    """
    try:
        try:
            os.mkdir(data_dir, 0o700)
            runner.hand_over(data_dir)
        except FileExistsError:
            pass
        if not os.path.isdir(data_dir):
            raise NotADirectoryError(f"{data_dir} is no directory")
    except OSError as error:
        raise LaunchError(error, f"cannot use {data_dir} as a data directory") from error
    if not runner.may_write(data_dir):
        who = "this user" if runner.name is None else f"the user {runner.name}"
        raise LaunchError(f"cannot use {data_dir} as a data directory: {who} may not write there")
    _refuse_running(data_dir)


def _refuse_running(data_dir: str) -> None:
    """Two servers would take turns in overwriting each other's data."""
    deadline = Deadline(PATIENCE)
    while (pid := _server_on(data_dir)) is not None:
        if deadline.expired:
            raise WorkerError(None, f"a server runs on {data_dir} already: pid {pid}")
        sleep(pace(deadline.elapsed))


def _server_on(data_dir: str) -> int | None:
    """Whom the pidfile names, if that is a server: its working directory is its data directory."""
    try:
        with open(os.path.join(data_dir, PIDFILE), encoding="ascii", errors="replace") as file:
            pid = int(file.read(32))
    except (OSError, ValueError):
        return None
    import psutil  # noqa: PLC0415  # only where a pidfile was left

    try:
        process = psutil.Process(pid)
        runs = process.status() != psutil.STATUS_ZOMBIE and os.path.samefile(process.cwd(), data_dir)
    except (psutil.Error, OSError, ValueError, OverflowError):  # gone, another user's, or no pid at all
        return None
    return pid if runs else None


def log_file(data_dir: str, runner: Runner) -> str:
    """The log of a daemon: made, if it is missing, for the server's user to write to.

    Raises:
        LaunchError: There is something else in its place, through which root would write elsewhere.
    """
    path = os.path.join(data_dir, LOG)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        runner.hand_over(path)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise LaunchError(f"{path} is a link or no file: remove it") from None
    except OSError as error:
        raise LaunchError(error, f"cannot write {path}") from error
    return path
