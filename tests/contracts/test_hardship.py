"""Linux as it is found: each means taken away in turn, and the manager goes on with the next one.

In each: a server starts, is listed, stops with nobody left, starts again, and ends with its owner; nothing crashes; and
what is lost is said once, and nothing else is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from contract_owner import SPAWNED
from contract_runs import HERE, OWNER, PATIENCE, Run
from stand_ins import as_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the hardships are Linux's")
HARDSHIP = HERE / "hardship.py"
NOTHING = ""


@dataclass(frozen=True)
class Hardship:
    """One thing that is missing.

    Attributes:
        names: As `hardship.py` knows it.
        lost: What the log says of it; empty: nothing is lost.
        program: The tree to be held.
        deaths: Whether the owner is killed, too. (As the init of a pid namespace he takes all with him.)
        apart: Whether it is in a pid namespace, so that the numbers in the roster mean nothing here.
        ordinary: Whether the owner is an ordinary user.
        listed: Whether its processes can be told to the owner.
        order: More for the owner.
    """

    names: tuple[str, ...]
    lost: str
    program: str = "orphan"
    deaths: bool = True
    apart: bool = False
    ordinary: bool = False
    listed: bool = True
    order: tuple[tuple[str, Any], ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """For the manager."""
        return {"pidfile": "server.pid"} if self.program == "pidfile" else {}


HARDSHIPS = {
    "a kernel without pidfd_open": Hardship(("no-pidfd-kernel",), "no pidfd_open(2)", "daemon"),
    "a profile that forbids pidfd_open": Hardship(("no-pidfd-profile",), "no pidfd_open(2)", "daemon"),
    "a profile that forbids the subreaper": Hardship(("no-subreaper",), "cannot become a child subreaper", "session"),
    "neither pidfds nor a subreaper": Hardship(
        ("no-subreaper", "no-pidfd-kernel"), "cannot become a child subreaper", "session"
    ),
    "a kernel that lists no children": Hardship((), "lists no children", "daemon", order=(("without_children", True),)),
    "no /proc at all": Hardship(("no-proc",), "no /proc is mounted", "daemon"),
    "neither /proc nor pidfds": Hardship(("no-proc", "no-pidfd-kernel"), "no /proc is mounted", "daemon", listed=False),
    "other users' processes hidden": Hardship(
        ("hidepid",), "are hidden (hidepid)", "daemon", apart=True, ordinary=True
    ),
    "the first process of a container": Hardship(("init",), NOTHING, "daemon", apart=True, deaths=False),
    "a container": Hardship(("container",), NOTHING, "daemon", apart=True),
    "a foreign subreaper above": Hardship(("user-manager",), NOTHING, "daemon"),
    "a foreign subreaper above, and none of ours": Hardship(
        ("user-manager", "no-subreaper"), "cannot become a child subreaper", "pidfile"
    ),
    "a read-only file system": Hardship(("read-only",), "kept in memory", "daemon"),
    "an ordinary user": Hardship(("nobody",), NOTHING, "daemon", ordinary=True),
}


class Hard(Run):
    """A run whose owner lives under a hardship."""

    def __init__(self, folder: Path, hardship: Hardship) -> None:
        super().__init__(folder, hardship.program, {}, 0)
        self.hardship = hardship
        self.interpreter = sys.executable
        ledger = folder / "ledger"
        if hardship.ordinary:
            self.interpreter, options = as_nobody()
            self.environment = {**options["env"], "SERVERMGR_LEDGER": str(ledger)}
            for path in (self.roster, ledger):
                path.mkdir(exist_ok=True)
                os.chown(path, 65534, 65534)
                path.chmod(0o700)
            for above in folder.parents:  # pytest keeps its own directories to its own user
                if above.owner() == "root" and not above.stat().st_mode & 0o001:
                    above.chmod(above.stat().st_mode | 0o011)
            folder.chmod(0o755)
        self.environment["HARDSHIP_WRITABLE"] = str(self.roster)
        self.argv[0] = self.interpreter
        self.command = [self.interpreter, str(OWNER)]
        if hardship.names:
            self.command = [self.interpreter, str(HARDSHIP), *hardship.names, "--", *self.command]
        self.order = dict(hardship.order)
        self.errors = folder / "owner.err"

    def wait_ready(self) -> None:
        if not self.hardship.apart:
            super().wait_ready()
            return
        self.wait_until(self.has, "ready")

    def kill_owner(self) -> None:
        """The owner himself, who may be deeper than whom we have started."""
        starter = psutil.Process(self.owners[-1].process.pid)
        for process in (starter, *starter.children(recursive=True)):
            if process.cmdline()[1:2] == [str(OWNER)]:
                process.kill()
                return
        raise AssertionError("there is no owner")

    def again(self) -> None:
        """Make ready for another start in the same roster."""
        for path in self.roster.iterdir():
            path.unlink()


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Callable[[Hardship], Hard]]:
    runs: list[Hard] = []

    def make(hardship: Hardship) -> Hard:
        if os.geteuid() != 0 and hardship.names:
            pytest.skip("only root can take this away")
        runs.append(Hard(tmp_path, hardship))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


def begin(run: Hard) -> Any:
    try:
        return run.start(SPAWNED, **run.hardship.options)
    except AssertionError:
        errors = run.errors.read_text()
        if run.owners[-1].process.wait(PATIENCE) != 77 or os.environ.get("CI", "").lower() in ("true", "1"):
            raise AssertionError(errors) from None
        pytest.skip(f"not possible on this host: {errors.strip()}")


@pytest.mark.parametrize("name", HARDSHIPS)
def test_a_server_is_held_all_the_same(name: str, hard: Callable[[Hardship], Hard]) -> None:
    run = hard(HARDSHIPS[name])
    owner = begin(run)
    assert run.living()
    if run.hardship.listed:
        run.wait_until(lambda: owner.say("listing"))
    said = owner.say("stop")
    assert not said.get("error"), said
    assert said["survivors"] == []
    assert run.settled() == {}
    run.again()
    owner.say("start")
    run.wait_until(run.has, "ready")
    if run.hardship.deaths:
        run.kill_owner()
    else:
        owner.say("stop")
    assert run.settled(PATIENCE) == {}
    said_once(run)


def said_once(run: Hard) -> None:
    """What is lost is in the log, and once, although two servers were started."""
    lines = run.errors.read_text().splitlines()
    wanted = [line for line in lines if run.hardship.lost and run.hardship.lost in line]
    assert len(wanted) == bool(run.hardship.lost), lines
    assert len(lines) == len(set(lines)), lines
    assert not any("Traceback" in line for line in lines), lines
    if not run.hardship.lost:
        assert lines == []


@pytest.mark.parametrize("name", ["no-pidfd-kernel", "no-subreaper", "no-proc", "read-only"])
def test_it_is_really_taken_away(name: str, tmp_path: Path) -> None:
    """The control: the same question, asked under the hardship and without it."""
    if os.geteuid() != 0:
        pytest.skip("only root can take this away")
    code = {
        "no-pidfd-kernel": "import os; os.close(os.pidfd_open(os.getpid()))",
        "no-subreaper": "import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) != 0)",
        "no-proc": "open('/proc/self/stat').close()",
        "read-only": "import tempfile; tempfile.TemporaryFile().close()",
    }[name]
    command = [sys.executable, "-c", code]
    (tmp_path / "writable").mkdir()
    env = {**os.environ, "HARDSHIP_WRITABLE": str(tmp_path / "writable")}
    assert subprocess.run(command, env=env, check=False).returncode == 0
    taken = [sys.executable, str(HARDSHIP), name, "--", *command]
    done = subprocess.run(taken, env=env, check=False, stderr=subprocess.PIPE)
    if done.returncode == 77 and os.environ.get("CI", "").lower() not in ("true", "1"):
        pytest.skip(done.stderr.decode())
    assert done.returncode == 1, done.stderr
