"""Programs that the tests on Windows start, and how they look at them."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from servermgr.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0
#: For ever, as far as a test is concerned, and yet no longer than the test run.
SLEEP = "import time; time.sleep(120)"
#: A worker with a child and, below a parent that has left, an orphan; it says their pids and stays.
FAMILY = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
middle = '''
import os, subprocess, sys
bare = dict(SYSTEMROOT=os.environ["SYSTEMROOT"])
orphan = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env=bare, creationflags=0x8 | 0x200)
print(orphan.pid, flush=True)
'''
orphan = subprocess.run([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True).stdout.strip()
print("family", child.pid, orphan, flush=True)
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def family_of(lines: list[str]) -> list[Identity]:
    """Who is in a family, from its output."""
    (said,) = [line for line in lines if line.startswith("family")]
    found = [Identity.of(int(word)) for word in said.split()[1:]]
    assert None not in found, f"{said}: one of them does not live"
    return [identity for identity in found if identity is not None]


def eventually(reached: Callable[[], object]) -> bool:
    give_up = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def all_gone(identities: list[Identity]) -> bool:
    return eventually(lambda: not any(identity.is_alive() for identity in identities))


def run_python(program: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python(program), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, **options
    )  # type: ignore[call-overload]


def bystander() -> subprocess.Popen[bytes]:
    return subprocess.Popen(python(SLEEP), stdin=subprocess.DEVNULL)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def asks_by_break() -> bool:
    """Whether CTRL_BREAK can be sent here: not without a console, and not under Wine."""
    from servermgr.platform._kernel32 import CREATE_NEW_PROCESS_GROUP, load

    process = subprocess.Popen(python(SLEEP), stdin=subprocess.DEVNULL, creationflags=CREATE_NEW_PROCESS_GROUP)
    try:
        load().send_break(process.pid)
    except OSError:
        return False
    else:
        return True
    finally:
        end(process)
