"""Runs cells of the matrix, one after the other: `lane FOLDER GRACE MOURNING`.

Reads a line for each cell, peer, row and ending with tabs between, and answers with a line of JSON. It is a subreaper
that reaps at once, as a good process 1 does: no peer has to wait for a bad one, and nothing of a cell can get away.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._matrix_rows import Fence, Impossible, Subject, Unheld, rows
from benchmarks._matrix_servers import remove_cluster
from benchmarks._torture_look import census
from benchmarks.processes import ROOT, environment, module

#: Seconds of its life.
LIFETIME = 1800
#: Seconds after which a stop hangs.
HANG = 20.0
#: Seconds after which bystanders are replaced: they live for two minutes.
FRESH = 45.0


def main() -> None:
    signal.alarm(LIFETIME)
    folder, grace, mourning = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
        raise SystemExit("this kernel has no subreapers")
    threading.Thread(target=reap, daemon=True).start()
    known = {row.key: row for row in rows()}
    lane = Lane(folder, grace, mourning)
    try:
        for line in sys.stdin:
            peer, key, ending = line.rstrip("\n").split("\t")
            print(json.dumps(lane.run(peer, known[key], ending)), flush=True)
    finally:
        lane.close()
        remove_cluster()


def reap() -> None:
    """Reap whoever ends: children, whose Popen finds them gone and minds not, and orphans."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.002)


class Bystanders:
    """Innocents, replaced when they are old or were harmed."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._stack = contextlib.ExitStack()
        self._crowd: census.Crowd | None = None
        self._old = 0.0

    def fresh(self) -> census.Crowd:
        if self._crowd is None or time.monotonic() > self._old:
            self.dismiss()
            self._crowd = self._stack.enter_context(census.innocents())
            self._old = time.monotonic() + FRESH
            self._fence.spared = {entry.pid for entry in self._crowd}
        return self._crowd

    def dismiss(self) -> None:
        with contextlib.suppress(AssertionError):  # that they were harmed was told before
            self._stack.close()
        self._stack, self._crowd = contextlib.ExitStack(), None
        self._fence.spared = set()


class Lane:
    """Where cells are run, and what stays from one to the next: bystanders and the fence.

    Args:
        folder: For everything that is written.
        grace: Seconds from the polite signal to the forced one.
        mourning: Seconds beyond them, after which a tree whose owner was killed is left; after a stop it is half of it.
    """

    def __init__(self, folder: Path, grace: float, mourning: float) -> None:
        self._folder = folder
        self._grace = grace
        self._mourning = mourning
        self._fence = Fence()
        self._bystanders = Bystanders(self._fence)
        self._number = 0

    def close(self) -> None:
        self._bystanders.dismiss()

    def run(self, peer: str, row: Any, ending: str) -> dict[str, Any]:
        """Run a cell; what it leaves is ended."""
        began = time.monotonic()
        crowd = self._bystanders.fresh()
        told: dict[str, Any] = {"peer": peer, "row": row.key, "ending": ending, "left": [], "harmed": [], "error": ""}
        with self._own_folder() as folder:
            try:
                subject = row.subject(folder, self._fence)
                try:
                    told |= self._cell(peer, subject, ending, folder)
                finally:
                    self._fence.clear()
                    subject.end()
            except Impossible as reason:
                told |= {"verdict": "impossible", "error": str(reason)}
            except Unheld as reason:
                told |= {"verdict": "unheld", "error": str(reason)}
            except (OSError, RuntimeError, AssertionError) as problem:
                told |= {"verdict": "broken", "error": f"{type(problem).__name__}: {problem}"}
        told["error"] = _without_paths(told["error"], self._folder)
        told["harmed"] = crowd.harmed()
        if told["harmed"]:
            told["verdict"] = "harmed"
            self._bystanders.dismiss()
        return told | {"took": round(time.monotonic() - began, 3)}

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[Path]:
        self._number += 1
        folder = self._folder / f"cell-{self._number}"
        folder.mkdir()
        folder.chmod(0o755)  # servers that become another user have to enter it
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def _cell(self, peer: str, subject: Subject, ending: str, folder: Path) -> dict[str, Any]:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        order = {"argv": subject.argv, "folder": str(home), "grace": self._grace, "pidfile": subject.pidfile}
        owner = Owner(peer, order, folder)
        try:
            owners = owner.hear(30.0).get("owners")
            if owners is None:
                return {"verdict": "broken", "error": f"no start: {owner.complaint()}"}
            told = {"processes": subject.wait_ready()}
            if ending == "stop":
                return told | self._stop(owner, subject)
            for pid in owners:
                os.kill(pid, signal.SIGKILL)
            return told | _left(subject, self._grace + self._mourning)
        finally:
            owner.close()

    def _stop(self, owner: Owner, subject: Subject) -> dict[str, Any]:
        owner.say("stop")
        heard = owner.hear(HANG)
        if "stopped" not in heard:
            return {"verdict": "hang", "left": subject.living(), "error": owner.complaint()}
        told = {"seconds": heard["stopped"], "error": heard["error"], **_left(subject, self._mourning / 2)}
        owner.end()
        return told | {"left after exit": subject.living() if told["left"] else []}


def _without_paths(text: str, folder: Path) -> str:
    """An error as it may be published: where things lie on this machine is nobody's business."""
    for path, name in ((folder, "FOLDER"), (sys.executable, "python"), (ROOT, "CHECKOUT"), (Path.home(), "~")):
        text = text.replace(str(path), name)
    return text


def _left(subject: Subject, seconds: float) -> dict[str, Any]:
    """Who lives still after so many seconds at most."""
    give_up, pause = time.monotonic() + seconds, 0.01
    while (left := subject.living()) and time.monotonic() < give_up:
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return {"verdict": "left" if left else "ok", "left": left}


class Owner:
    """A holder in a process of its own."""

    def __init__(self, peer: str, order: dict[str, Any], folder: Path) -> None:
        self._log = folder / "owner.log"
        ours, theirs = os.pipe()
        command = module("holder", peer, json.dumps(order), theirs)
        env = environment() | {"SERVERMGR_LEDGER": str(folder / "ledger"), "TMPDIR": str(folder)}
        env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "SERVERMGR_SWEEP": "off"}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[theirs],
                env=env,
                start_new_session=True,
            )
        os.close(theirs)
        self._voice = ours
        self._heard = b""

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.flush()

    def hear(self, seconds: float) -> dict[str, Any]:
        """The next line; nothing if it has ended, or says nothing for so long."""
        give_up = time.monotonic() + seconds
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._voice], [], [], max(0.0, give_up - time.monotonic()))
            more = os.read(self._voice, 65536) if ready else b""
            if not more:
                return {}
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def end(self) -> None:
        """Let it go, and wait for that."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)

    def complaint(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._voice)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


if __name__ == "__main__":
    main()
