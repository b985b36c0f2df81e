"""A data directory: whether it is one, and making one with initdb."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile

from servermgr import base
from servermgr.accounts import COMPLAINT
from servermgr.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from servermgr._postgres_versions import Installation
    from servermgr.accounts import Runner

#: Made with the directory: the password of its superuser, as a client's password file.
PASSFILE = "servermgr.pgpass"
#: Seconds for initdb, which waits for the disk.
INITDB_TIMEOUT = 120.0
#: Connections from this machine to an address that is not loopback; initdb writes rules for loopback only.
_RULE = "\n# Added by servermgr: this machine, by any of its addresses.\nhost all all samehost scram-sha-256\n"


def version_of(db_dir: str) -> str | None:
    """The version that made a data directory; None where there is none, or an empty one.

    Raises:
        LaunchError: What is there is something else, or is not to be read.
    """
    try:
        names = os.listdir(db_dir)
        if not names:
            return None
        if "PG_VERSION" not in names:
            raise LaunchError(f"{db_dir} is not empty and holds no PostgreSQL data directory; it was left alone")
        with open(os.path.join(db_dir, "PG_VERSION"), encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LaunchError(error, f"cannot use {db_dir} as a data directory") from error
    if not text.replace(".", "").isdigit():
        raise LaunchError(f"{db_dir} is corrupt: its PG_VERSION holds {text!r}")
    return text


class Maker:
    """Makes a data directory, which appears under its name only when it is complete.

    Args:
        db_dir: Missing, or empty.
        installation: Whose initdb to run.
        superuser: The role that may do everything.
        options: More arguments for initdb.
        sync: Whether to wait until all is on disk.
        runner: Whom the server will run as, and the directory will belong to.
        env: The environment for initdb.
    """

    def __init__(
        self,
        db_dir: str,
        installation: Installation,
        *,
        superuser: str,
        options: Sequence[str],
        sync: bool,
        runner: Runner,
        env: dict[str, str],
    ) -> None:
        self.db_dir = db_dir
        self.installation = installation
        self.superuser = superuser
        self.options = [*options, *([] if sync else ["--no-sync"])]
        self.runner = runner
        self.env = env

    def make(self) -> None:
        """Make it.

        Raises:
            LaunchError: It cannot be made; the text holds what initdb says.
        """
        aside = self._can_be_exchanged()
        parent, name = os.path.split(self.db_dir)
        try:
            if aside:
                stage = tempfile.mkdtemp(prefix=f".{name}.initdb-", dir=parent)
            else:
                stage = tempfile.mkdtemp(prefix="servermgr-initdb-")
        except OSError as error:
            raise LaunchError(error, f"cannot make {self.db_dir}") from error
        try:
            self.runner.hand_over(stage)
            target = os.path.join(stage, "data") if aside else self.db_dir
            self._fill(target, stage)
            if aside:
                os.rename(target, self.db_dir)  # takes the place of an empty directory, too
        except OSError as error:
            raise LaunchError(error, f"cannot make {self.db_dir}") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _can_be_exchanged(self) -> bool:
        parent = os.path.dirname(self.db_dir)
        return not os.path.ismount(self.db_dir) and os.access(parent, os.W_OK | os.X_OK)

    def _fill(self, target: str, stage: str) -> None:
        if not os.path.isdir(target):
            os.mkdir(target, 0o700)
        self.runner.hand_over(target)
        password = secrets.token_urlsafe(24)  # no character that a password file would need escaped
        passfile = os.path.join(stage, "password")
        self._write(passfile, password, os.O_EXCL)
        self._initdb(target, stage, passfile)
        self._write(os.path.join(target, "pg_hba.conf"), _RULE, os.O_APPEND)
        self._write(os.path.join(target, PASSFILE), f"*:*:*:{escaped(self.superuser)}:{password}\n", os.O_EXCL)

    def _write(self, path: str, text: str, how: int) -> None:
        """Write it, never through a link: root writes here in the directory of another."""
        nofollow: int = getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | nofollow | how, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        self.runner.hand_over(path)

    def _initdb(self, target: str, stage: str, passfile: str) -> None:
        argv = [self.installation.program("initdb"), "-D", target, "-U", self.superuser, "--encoding=UTF8"]
        argv += [f"--pwfile={passfile}", "--auth-local=trust", "--auth-host=scram-sha-256", "--locale=C"]
        # Letters of every language, sorted by bytes: the same on each machine, whatever its user has in LANG.
        status, said = self._run([*argv, "--lc-ctype=C.UTF-8", *self.options], stage)
        if status != 0 and any("invalid locale" in line for line in said):  # refused before anything is written
            status, said = self._run([*argv, *self.options], stage)
        if status != 0:
            raise LaunchError(f"initdb could not make {self.db_dir}{_because(said)}", status=status, output=said)

    def _run(self, argv: Sequence[str], folder: str) -> tuple[int | None, list[str]]:
        """Run it below a guardian, so that nothing of it outlives this process either."""
        tool = base.Manager("initdb")
        tool.spawn(self.runner.acting(argv, folder), env=self.env, cwd=folder, grace_period=1.0)
        try:
            status: int | None = tool.process.wait(INITDB_TIMEOUT)
        except subprocess.TimeoutExpired:
            status = None
        finally:  # also after a Ctrl-C
            tool.stop()
        return status, tool.output_tail()


def _because(said: Sequence[str]) -> str:
    reason = complaint(said)
    return f": {reason}" if reason else ""


def complaint(said: Sequence[str]) -> str | None:
    """The line among the last ones of an output that says why it ended, without its time stamp; None without one."""
    for line in reversed(said):
        if line.startswith(COMPLAINT):
            return line.removeprefix(COMPLAINT)
        for word in ("PANIC:", "FATAL:", "initdb: error:", "postgres: could not"):
            if word in line:
                return line[line.index(word) :]
    return None


def escaped(field: str) -> str:
    """A field of a password file."""
    return field.replace("\\", "\\\\").replace(":", "\\:")
