"""What servermgr is compared with: other ways to hold a server and to end it, each used as its documentation says.

One module for each kind. Their functions run inside a program of their own, `benchmarks.programs.holder`: they start
the server of an `Order`, and hand to `talk` what ends it.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol


class Talk(Protocol):
    """What a peer says when its server is started; returns when the holder may go."""

    def __call__(self, stop: Callable[[], object], *owners: int) -> None:
        """`stop` ends the server politely; `owners` are further processes that die when the owner is killed."""


@dataclass(frozen=True)
class Order:
    """One server to hold.

    Attributes:
        argv: Its command.
        folder: Where it runs, and where the peer may write.
        grace: Seconds from the polite signal to the forced one.
        pidfile: Where it writes the pid of the daemon that it becomes; empty: it stays in the foreground.
    """

    argv: list[str]
    folder: str
    grace: float
    pidfile: str = ""

    def popen(self, argv: list[str] | None = None, **more: object) -> subprocess.Popen[bytes]:
        """Start it, or `argv` in its place, with its output in a file of the folder."""
        with open(os.path.join(self.folder, "output"), "ab") as output:
            return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # `more` is the caller's to know
                argv or self.argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **more
            )

    def daemon(self, launcher: int) -> int:
        """The pid to be ended: that in the pidfile, or where there is none, the one that was started."""
        try:
            return int(Path(self.pidfile).read_text().split()[0]) if self.pidfile else launcher
        except (OSError, IndexError, ValueError):  # it has removed the file: it is gone
            return launcher


@dataclass(frozen=True)
class Peer:
    """One way to hold a server.

    Attributes:
        name: Heads its column.
        module: In this package.
        function: Of that module.
        how: How it is used here, for a footnote; what it is used for against its grain stands there, too.
        needs: A distribution of `peers.txt`, or a program.
    """

    name: str
    module: str
    function: str
    how: str
    needs: str = ""

    @property
    def version(self) -> str:
        """Of what it needs; empty where there is none."""
        if not self.needs:
            return ""
        try:
            return metadata.version(self.needs)
        except metadata.PackageNotFoundError:
            path = program(self.needs)
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout if path else ""
        return next((word for word in said.split() if word[0].isdigit()), "")

    def load(self) -> Any:
        """Its module."""
        return importlib.import_module(f"benchmarks.peers.{self.module}")

    @property
    def missing(self) -> str:
        """Why it cannot be had here; empty if it can."""
        if not self.needs or self.version or program(self.needs):
            return str(self.load().missing()) if self.module == "cgroup" else ""
        return f"{self.needs} is not installed"


def program(name: str) -> str | None:
    """A program of this environment, or of the system."""
    return shutil.which(name, path=os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", ""))))


PEERS: dict[str, Peer] = {
    "servermgr": Peer("servermgr", "ours", "hold", "`CommandManager`, with `pidfile=` for daemons."),
    "mirakuru": Peer(
        "mirakuru",
        "mirakuru_executor",
        "hold",
        "`SimpleExecutor`, with the grace period as its timeout (its default is 3600 s) and its output discarded "
        "(by default it is a pipe that nobody reads).",
        "mirakuru",
    ),
    "xprocess": Peer(
        "pytest-xprocess",
        "xprocess",
        "hold",
        "A pytest run with `xprocess.ensure()`, then `getinfo().terminate()`. A server that outlives its run is "
        "meant to: the next run takes it up, and `--xkill` ends it.",
        "pytest-xprocess",
    ),
    "psutil": Peer(
        "psutil recipe",
        "psutil_recipe",
        "hold",
        "`kill_proc_tree()` of its documentation with SIGTERM, then SIGKILL for whom `wait_procs()` calls alive; for a "
        "daemon it is given the pid in the pidfile.",
        "psutil",
    ),
    "killpg": Peer(
        "killpg",
        "signals",
        "group",
        "A session of its own, SIGTERM and then SIGKILL to the group until nobody is in it; for a daemon the group of "
        "the pid in the pidfile.",
    ),
    "popen": Peer(
        "Popen.kill",
        "signals",
        "direct",
        "`terminate()`, `wait(timeout)`, `kill()`. It is made for one process: trees, daemons are against its grain.",
    ),
    "tini": Peer(
        "tini",
        "inits",
        "tini",
        "`tini -s -g -p SIGTERM --`, asked by SIGTERM, and killed after the grace period. It is made to be process 1 "
        "of a container, whose end is the end of all: here it is not.",
        "tini",
    ),
    "dumb-init": Peer(
        "dumb-init",
        "inits",
        "dumb_init",
        "`dumb-init --`, asked by SIGTERM, and killed after the grace period. It, too, is made to be process 1.",
        "dumb-init",
    ),
    "supervisor": Peer(
        "supervisor",
        "supervisor",
        "hold",
        "`supervisord` with `stopasgroup`, `killasgroup` and `stopwaitsecs`; `supervisorctl stop`. It wants servers in "
        "the foreground: daemons run under its `pidproxy`. The owner that is killed is `supervisord`.",
        "supervisor",
    ),
    "marker": Peer(
        "environment marker",
        "marker",
        "hold",
        "As runners of CI systems do: whoever has the variable, and the process that was started, gets SIGTERM, and "
        "after the grace period SIGKILL, until two looks find nobody.",
    ),
    "cgroup": Peer(
        "cgroup v2",
        "cgroup",
        "hold",
        "The upper bound, for root or where a subtree is delegated: SIGTERM to all, then `cgroup.kill`. The keeper of "
        "the group is not killed with the owner, as systemd would not be.",
    ),
}

#: What no table has: the matrix must find fault with it.
CONTROLS: dict[str, Peer] = {"careless": Peer("careless", "signals", "careless", "Signals strangers.")}
