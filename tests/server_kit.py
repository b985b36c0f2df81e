"""What the tests of real servers share: who is in a tree, who of them is left, how a start fails, and the program."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from stand_ins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from servermgr.base import Manager


def still_there(pids: Iterable[int]) -> list[psutil.Process]:
    """Who of a server's helpers may end at any moment (a backend whose client has gone), and is left out then."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def tree_of(manager: Manager) -> list[psutil.Process]:
    """Everyone in the manager's tree, by identity."""
    return still_there(info.pid for info in manager.processes())


def left(processes: list[psutil.Process], seconds: float = 0.0) -> list[psutil.Process]:
    """Who of them lives, once `seconds` have passed or nobody does."""
    end = time.monotonic() + seconds
    while (found := [one for one in processes if one.is_running()]) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def refusal(manager: Manager, kind: type[Exception], match: str = "") -> Any:
    """The error with which `start` fails, at once; nothing runs then."""
    try:
        with pytest.raises(kind, match=match or None) as caught:
            manager.start(timeout=40.0)
        assert manager.process is None
    finally:
        manager.stop()
    return caught.value


@contextlib.contextmanager
def program(server: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m servermgr.SERVER`, as long as the block runs."""
    argv = [sys.executable, "-m", f"servermgr.{server}", *arguments]
    pipe, env = subprocess.PIPE, os.environ | environment
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()  # nothing to kill, unless the test has failed
