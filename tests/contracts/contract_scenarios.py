"""The contract: one list of scenarios, each of which tests one ability of a backend."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from contract_owner import SPAWNED
from contract_runs import PATIENCE, PROGRAMS, Process, Run

from servermgr.platform import abilities

#: Seconds that a tree may take to end by itself once its owner or guardian is dead: its grace period and a margin.
BEREAVED = 12.0


class Broken(AssertionError):
    """The contract was not kept: the text says who is left, or what else is wrong."""


def nobody_left(run: Run, seconds: float = 0.0) -> None:
    left = run.settled(seconds)
    if left:
        raise Broken(f"left: {', '.join(sorted(set(left.values())))}")


def that(condition: object, text: str) -> None:
    if not condition:
        raise Broken(text)


# --- endings: what is done to a tree that stands, and what must be true then ------------------------------------


def stopped(run: Run, way: str) -> None:
    said = run.owners[0].say("stop")
    that(not said.get("error"), str(said.get("error")))
    nobody_left(run)


def suspended_and_stopped(run: Run, way: str) -> None:
    run.role("child").process.suspend()
    stopped(run, way)


def politely_stopped(run: Run, way: str) -> None:
    stopped(run, way)
    that(run.has("goodbye"), "the worker was not asked")


def left_to_itself(run: Run, way: str) -> None:
    run.owners[0].give("wait")
    (run.roster / "leave").touch()
    said = run.owners[0].heard()
    that(said.get("status") == 3, f"the status of the worker was {said}")
    nobody_left(run)


def named_by_pidfile(run: Run, way: str) -> None:
    run.wait_until(lambda: run.role("daemon").process.pid in run.owners[0].say("listing"))
    stopped(run, way)
    that(not run.has("server.pid"), "the pidfile was left")


def owner_killed(run: Run, way: str) -> None:
    run.owners[0].kill()
    nobody_left(run, BEREAVED)


def owner_killed_politely(run: Run, way: str) -> None:
    owner_killed(run, way)
    that(run.has("goodbye"), "the worker was not asked")


def guardian_killed(run: Run, way: str) -> None:
    guardian = run.told.get("guardian")
    that(guardian, "there is none")
    Process(guardian, "guardian").kill()
    nobody_left(run, BEREAVED)


def kept(run: Run, way: str) -> None:
    run.owners[0].leave()
    time.sleep(0.3)
    that(len(run.living()) == len(run.processes), "it ended with its program")
    command = [sys.executable, "-m", "servermgr", "stop", "contract"]
    subprocess.run(command, env=run.environment, check=False, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    nobody_left(run, 2.0)


def rivalled(run: Run, way: str) -> None:
    rival = run.start(None)
    said = rival.say("rival")
    that(str(run.role("root").process.pid) in said, f"who has the port was not told: {said}")


def mistaken(run: Run, way: str) -> None:
    """The record says that the worker is a bystander, and that he was born at another time than he was."""
    bystander = subprocess.Popen([sys.executable, "-c", f"input() # {PROGRAMS}"], stdin=subprocess.PIPE)
    try:
        (record,) = [path for path in (run.folder / "ledger").iterdir() if path.is_file()]
        text = record.read_text()
        worker = re.search(rf'"worker": \[{run.told["pid"]}, (\d+)', text)
        assert worker, f"the record does not name the worker: {text}"
        lie = f'"worker": [{bystander.pid}, {int(worker[1]) - 1000}'
        helpers = [Process(pid, "helper") for pid in helpers_of(run)]
        for victim in (run.owners[0], *helpers, *run.processes):
            victim.kill()
        record.write_text(text.replace(worker[0], lie))
        run.start(None).say("sweep")
        that(bystander.poll() is None, "a bystander was ended")
        that(not record.exists(), "the record was not even read")
    finally:
        bystander.kill()
        bystander.communicate()


def helpers_of(run: Run) -> list[int]:
    """The guardian and its nursery, where there are any."""
    guardian = run.told.get("guardian")
    if not guardian or not psutil.pid_exists(guardian):
        return []
    parent = psutil.Process(guardian).parent()
    return [guardian] if parent is None or parent.pid == 1 else [parent.pid, guardian]


Ending = Callable[[Run, str], None]


@dataclass(frozen=True)
class Scenario:
    """One tree, one end, one ability.

    Attributes:
        ability: What of `servermgr.platform.abilities` it tests.
        program: Which program of `contract_programs` is the server.
        ending: What is done to it. Raises `Broken`.
        leaks: Whether `Popen.terminate(); wait()` leaves somebody of this tree: the negative control. None: it has
            another one, or the ending is not about leaving nobody.
        options: For the manager that spawns it.
        spawned_only: Whether it has no meaning for an adopted process.
    """

    ability: str
    program: str
    ending: Ending
    leaks: bool | None = True
    options: dict[str, Any] = field(default_factory=dict)
    spawned_only: bool = False


SCENARIOS: dict[str, Scenario] = {
    "a family": Scenario(abilities.CHILDREN, "family", stopped),
    "an orphan": Scenario(abilities.ORPHANS, "orphan", stopped),
    "an orphan in another session": Scenario(abilities.SESSIONS, "session", stopped),
    "a daemon, at once": Scenario(abilities.DAEMONS, "daemon", stopped),
    "a daemon, a second later": Scenario(abilities.SEEN_DAEMONS, "slow_daemon", stopped),
    "a relay": Scenario(abilities.STORMS, "relay", stopped),
    "a suspended child": Scenario(abilities.STOPPED, "family", suspended_and_stopped),
    "stubborn processes": Scenario(abilities.STUBBORN, "stubborn", stopped),
    "a polite worker": Scenario(abilities.POLITE, "polite", politely_stopped),
    "a daemon with a pidfile": Scenario(
        abilities.PIDFILES, "pidfile", named_by_pidfile, options={"pidfile": "server.pid"}, spawned_only=True
    ),
    "a worker that crashes": Scenario(abilities.REMAINDER, "crash", left_to_itself, leaks=None),
    "its owner killed": Scenario(abilities.OWNER_DEATH, "family", owner_killed, leaks=None),
    "its owner killed, and a polite worker": Scenario(
        abilities.OWNER_DEATH_POLITE, "polite", owner_killed_politely, leaks=None
    ),
    "its guardian killed": Scenario(abilities.GUARDIAN_DEATH, "family", guardian_killed, leaks=None, spawned_only=True),
    "kept beyond its owner": Scenario(
        abilities.KEPT, "family", kept, leaks=None, options={"keep": True}, spawned_only=True
    ),
    "a rival for its port": Scenario(abilities.PORT_OWNER, "listener", rivalled, leaks=None),
    "a bystander with its number": Scenario(abilities.IDENTITY, "family", mistaken, leaks=None, spawned_only=True),
}
#: The ways to start a server for which a scenario has a meaning.
WAYS = (SPAWNED, "Popen", "multiprocessing")
