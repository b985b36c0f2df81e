"""What the tests of the servers written in Python share: other interpreters, owners to kill, command lines."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from servermgr.base import Manager

ROOT = Path(__file__).resolve().parent.parent
#: Seconds for a tree whose owner was killed: its crash grace of 3 s, and some more.
GONE_WITHIN = 8.0


def get(url: str, **headers: str) -> str:
    """The text at an address."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def pids(manager: Manager) -> list[int]:
    return [info.pid for info in manager.processes()]


def living(numbers: Iterable[int]) -> list[int]:
    """Those of these processes that run. Asked soon after: the numbers are not given away again so fast."""
    found = []
    for pid in numbers:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def stopped(manager: Manager) -> list[int]:
    """Stop it; returns who of its tree is alive then."""
    tree = pids(manager)
    assert tree
    outcome = manager.stop()
    assert not outcome.survivors
    assert manager.process is None
    return living(tree)


def refusal(manager: Manager, kind: type[WorkerError], match: str, *, timeout: float = 10.0) -> WorkerError:
    """The error with which `start` fails; nothing runs then."""
    try:
        with pytest.raises(kind, match=match) as caught:
            manager.start(timeout=timeout)
        assert manager.process is None
        assert manager.processes() == []
    finally:
        manager.stop()
    return caught.value


def complaint(manager: Manager, words: str) -> WorkerError:
    """The error of `health` with these words in it, once it comes."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        try:
            manager.health()
        except WorkerError as error:
            if words in str(error):
                return error
        time.sleep(0.02)
    raise AssertionError(f"health never said {words!r}")


def bare_python(folder: Path) -> str:
    """An interpreter with nothing installed."""
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


def survivors_of_killed_owner(code: str, *arguments: str) -> tuple[dict[str, Any], list[int]]:
    """Run code that starts servers and tells their pids, kill it by SIGKILL, and give its servers time to go.

    Args:
        code: Python. It calls `tell(managers, …)` when they are ready.
        *arguments: In its `sys.argv`.

    Returns:
        What it told, and who of `told["pids"]` is left.
    """
    told: dict[str, Any] = {}
    argv = [sys.executable, "-c", f"{_TELL}\n{code}\ntime.sleep(60)", *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, text=True) as owner:
        try:
            assert owner.stdout is not None
            told.update(json.loads(owner.stdout.readline()))
            assert len(living(told["pids"])) == len(told["pids"]) > 0
        finally:
            owner.kill()
    give_up = time.monotonic() + GONE_WITHIN
    while living(told["pids"]) and time.monotonic() < give_up:
        time.sleep(0.02)
    return told, living(told["pids"])


_TELL = """
import json, sys, time
def tell(*managers, **more):
    pids = [info.pid for manager in managers for info in manager.processes()]
    print(json.dumps({"pids": pids} | more), flush=True)
"""


@contextlib.contextmanager
def program(module: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`python -m servermgr.MODULE` running, to be told to stop by the test."""
    argv = [sys.executable, "-m", f"servermgr.{module}", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=env, **options) as child:
        try:
            yield child
        finally:
            child.kill()  # nothing to kill, unless the test has failed


def finished(module: str, *arguments: str, **options: Any) -> tuple[int, str, str]:
    """Status, output and errors of `python -m servermgr.MODULE` that ends by itself."""
    with program(module, *arguments, **options) as child:
        out, err = child.communicate(timeout=30)
    return child.returncode, out, err
