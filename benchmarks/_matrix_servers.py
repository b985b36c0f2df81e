"""Real servers of the matrix beside those of the tests: PostgreSQL and gunicorn, in both forms."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._torture_look import census  # noqa: F401  # it makes the modules of the tests importable
from benchmarks.peers import program

import real_servers  # isort: skip
from real_servers import DAEMON, FOREGROUND, Server

_PG = "/usr/lib/postgresql"


class Postgres(Server):
    name, program = "PostgreSQL", "postgres"

    def __init__(self, folder: Path, port: int, form: str) -> None:
        super().__init__(folder, port, form)
        self._data = cluster()
        self.pidfile = self._data / "postmaster.pid"

    def arguments(self) -> list[str]:
        options = ["-k", f"{self.folder}", "-h", "127.0.0.1", "-p", f"{self.port}"]
        if self.is_daemon:
            log = f"{self.folder}/server.log"
            words = ["pg_ctl", "-D", f"{self._data}", "-l", log, "-o", " ".join(options), "start"]
        else:
            words = ["postgres", "-D", f"{self._data}", *options]
        return [*_as_user(), str(bin_folder() / words[0]), *words[1:]]

    def check(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # may we speak TLS?
            assert connection.recv(1) in (b"N", b"S")


class Gunicorn(Server):
    name = program = "gunicorn"

    def arguments(self) -> list[str]:
        form = ["--daemon", "--pid", f"{self.pidfile}"] if self.is_daemon else []
        where = ["--chdir", f"{self.folder}", "-b", f"127.0.0.1:{self.port}", "-w", "2"]
        return [sys.executable, "-m", "gunicorn", *form, *where, "hello:app"]

    def configure(self) -> None:
        (self.folder / "hello.py").write_text(
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Length', '16')])\n"
            "    return [b'gunicorn is here']\n"
        )

    def check(self) -> None:
        assert self.http() == (200, "gunicorn is here")


SERVERS: tuple[type[Server], ...] = (*real_servers.SERVERS.values(), Postgres, Gunicorn)
FORMS = (DAEMON, FOREGROUND)


def command(server: Server) -> list[str]:
    """The whole command line."""
    words = server.arguments()
    if words[0].startswith("/"):
        return words
    return [shutil.which(server.program, path=real_servers.PATH) or server.program, *words]


def missing(server: type[Server]) -> str:
    """Why it cannot be started here; empty if it can."""
    if server is Postgres:
        there = bin_folder() != Path()
    elif server is Gunicorn:
        there = program("gunicorn") is not None
    else:
        there = shutil.which(server.program, path=real_servers.PATH) is not None
    return "" if there else f"{server.program} is not installed"


@functools.cache
def bin_folder() -> Path:
    """Where PostgreSQL's programs are; the empty path: nowhere."""
    found = [path.parent for path in Path(_PG).glob("*/bin/postgres")]
    linked = shutil.which("pg_ctl", path=real_servers.PATH)
    return max(found, default=Path(linked).resolve().parent if linked else Path())


@functools.cache
def cluster() -> Path:
    """A database cluster, one for each process that asks. A server that was killed leaves it to the next to recover."""
    folder = Path(tempfile.mkdtemp(prefix="matrix-cluster-"))
    _give(folder)
    words = ["-D", f"{folder}/data", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"]
    command = [*_as_user(), str(bin_folder() / "initdb"), *words]
    subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, check=True, timeout=60)
    with open(folder / "data" / "postgresql.conf", "a", encoding="utf-8") as file:
        file.write("fsync = off\ndynamic_shared_memory_type = mmap\n")  # what is shared goes with the folder
    return folder / "data"


def remove_cluster() -> None:
    """Remove it, if it was made, and the one segment of shared memory that a killed server leaves."""
    if not cluster.cache_info().currsize:
        return
    if (pidfile := cluster() / "postmaster.pid").exists():
        segment = pidfile.read_text().splitlines()[6].split()[1]
        subprocess.run(["ipcrm", "-m", segment], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(cluster().parent)


def _account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as when root asks for it: it refuses to be root. None: whoever asks."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _as_user() -> list[str]:
    account = _account()
    if account is None:
        return []
    setpriv = shutil.which("setpriv", path=real_servers.PATH) or "/usr/bin/setpriv"
    return [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]


def _give(path: Path) -> None:
    if account := _account():
        os.chown(path, account.pw_uid, account.pw_gid)
