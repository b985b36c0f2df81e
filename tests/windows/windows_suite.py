"""A pytest plugin that stands for the suite's own conftest on Windows: what a test leaves behind fails it.

That conftest asks POSIX for descriptors and psutil for children, which Wine cannot tell. `scripts/test-wine` says
`-p windows_suite --confcutdir=tests/windows`.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from servermgr import platform
from servermgr.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN_VARIABLE = "SERVERMGR_TEST_RUN"
RUN = uuid.uuid4().hex
PATIENCE = 5.0
_ports = itertools.count(20_000 + os.getpid() % 1000 * 8)


def pytest_configure() -> None:
    folder = tempfile.mkdtemp(prefix="smgr-")
    tempfile.tempdir = os.environ["TEMP"] = os.environ["TMP"] = folder
    os.environ["SERVERMGR_LEDGER"] = os.path.join(folder, "ledger")
    os.environ[RUN_VARIABLE] = RUN


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["TEMP"], ignore_errors=True)


def processes_of_the_run() -> set[str]:
    mine = os.getpid()
    marked = f"{RUN_VARIABLE}={RUN}".encode()
    pids = [pid for pid in platform.all_pids() if pid != mine and platform.environment_holds(pid, marked)]
    return {f"process {pid}" for pid in pids if platform.is_alive(pid)}


def threads() -> set[str]:
    return {f"thread {thread.name}" for thread in threading.enumerate()}


def files() -> set[str]:
    ledger = os.environ["SERVERMGR_LEDGER"]
    records = [name for name in os.listdir(ledger) if name != "ports"] if os.path.isdir(ledger) else []
    logs = [name for name in os.listdir(os.environ["TEMP"]) if name.startswith("servermgr-") and owner_lives(name)]
    return {f"file {name}" for name in records + logs}


def owner_lives(log: str) -> bool:
    """The log of an owner that was killed stays until the next sweep: nobody is there to remove it."""
    _, pid, start = log.split("-")[-2].split(".")
    return Identity(int(pid), int(start)).is_alive()


def late(look: Callable[[], set[str]], before: set[str]) -> set[str]:
    give_up = time.monotonic() + PATIENCE
    while (found := look() - before) and time.monotonic() < give_up:
        time.sleep(0.05)
    return found


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail the test that leaves a thread, a process, a record or a log behind."""
    looks = (threads, processes_of_the_run, files)
    before = [look() for look in looks]
    yield
    left = set().union(*(late(look, was) for look, was in zip(looks, before, strict=True)))
    if left:
        pytest.fail(f"left behind: {', '.join(sorted(left))}", pytrace=False)


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody has, and that is not handed out twice in a run."""
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port on the loopback interface")
