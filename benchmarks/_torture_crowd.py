"""Bystanders of the fault campaign that look as much like the wanted as can be, and records that accuse them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._torture_look import census
from benchmarks.processes import PATIENCE, free_port
from servermgr.identity import Identity, realm

#: Listens, and then becomes the program of its further arguments, which goes on holding the port.
_LISTEN = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.set_inheritable(True)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Bystanders:
    """The innocents, all of them with the command line of a tree's root.

    Three are those of `census.innocents`: a child, one in this process's own group, a daemon. One more carries texts
    in its environment that almost are the marker of a record, and one listens on a port that a record names.
    """

    def __init__(self, crowd: census.Crowd, folder: Path) -> None:
        self.marker = secrets.token_hex(16)
        self.port = free_port()
        self._crowd = crowd
        self._folder = folder
        self._starters: list[subprocess.Popen[bytes]] = []
        self._own = census.Crowd(folder)

    def begin(self) -> None:
        command = census.command("mixed", self._folder, "--innocent", "child")
        listening = [sys.executable, "-c", _LISTEN, str(self.port), *command[1:]]
        for argv, env in ((command, _almost(self.marker)), (listening, {})):
            self._starters.append(subprocess.Popen(argv, env=os.environ | env, start_new_session=True))
        give_up = time.monotonic() + PATIENCE
        while len(own := census.Crowd(self._folder)) < len(self._starters):
            if time.monotonic() > give_up:
                raise TimeoutError("the bystanders do not come up")
            time.sleep(0.005)
        self._own = own

    def end(self) -> None:
        census.cleanup(self._folder)
        for starter in self._starters:
            starter.wait()

    @property
    def everyone(self) -> list[census.Entry]:
        return [*self._crowd, *self._own]

    def harmed(self) -> list[str]:
        """What was done to them, a text for each; empty: nothing."""
        time.sleep(0.05)  # a signal sent just now is noted only when the bystander has woken up
        return self._crowd.harmed() + self._own.harmed()


def _almost(marker: str) -> dict[str, str]:
    name = "SERVERMGR_TREE"
    return {name: marker + "0", f"X_{name}": marker, f"{name}_": marker, "ARGS": f"{name}={marker}"}


@contextlib.contextmanager
def bystanders(folder: Path) -> Iterator[Bystanders]:
    """Bystanders for the time of a `with`; each of them lives for two minutes at most."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        found = Bystanders(stack.enter_context(_innocents()), folder)
        stack.callback(found.end)
        found.begin()
        yield found


@contextlib.contextmanager
def _innocents() -> Iterator[census.Crowd]:
    """Those of the census, without its own verdict at the end: `harmed` has told it before."""
    innocents = census.innocents("mixed")
    crowd = innocents.__enter__()
    try:
        yield crowd
    finally:
        with contextlib.suppress(AssertionError):
            innocents.__exit__(None, None, None)


def accuse(crowd: Bystanders, ledger: Path, folder: Path) -> Path:
    """Plant records that name the bystanders, as pids that were reused would. Returns a file that they name as log.

    Args:
        crowd: Who is accused.
        ledger: Where the records go.
        folder: Where pidfiles and the log go.
    """
    with subprocess.Popen(["true"]) as gone:
        pass
    log = folder / "servermgr-not-a-log-of-a-run.log"
    log.write_text("precious\n")
    log.chmod(0o600)
    for number, entry in enumerate(crowd.everyone):
        now = Identity.of(entry.pid)
        assert now is not None
        pidfile = folder / f"pid-{number}"
        pidfile.write_text(f"{entry.pid}\n")
        stale = now._replace(start=now.start - 1)
        another = now._replace(serial=now.serial + 1) if now.serial else stale
        common = {"guardian": stale, "session": entry.pid, "pidfile": str(pidfile), "log": str(log)}
        ports = [f"127.0.0.1:{crowd.port}"]
        for worker in (None, stale, another):
            _plant(ledger, worker=worker, owner=Identity(gone.pid, 1), ports=ports, **common)
    _plant(ledger, worker=None, owner=Identity(gone.pid, 1), ports=[], marker=crowd.marker, **common)
    return log


def _plant(ledger: Path, *, marker: str = "", **fields: Any) -> None:
    marker = marker or secrets.token_hex(16)
    plain = {"version": 1, "name": "planted", "marker": marker, "realm": realm(), "argv": [sys.executable, "zoo.py"]}
    numbers = {"stop_signal": 15, "grace_period": 0.1, "crash_grace": 0.1, "started": 1.0}
    text = json.dumps({**plain, **numbers, "removes": [], "removes_log": True, "keep": False, **fields})
    fd = os.open(ledger / f"{marker}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w") as file:
        file.write(text)
