"""Owners in processes of their own, for tests that kill them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("owner.py")


class Owner:
    """A running owner.

    Attributes:
        process: The owner itself.
        told: What it said of its server: `pid`, and `guardian` where there is one.
    """

    def __init__(self, argv: list[str], *, how: str = "manage", **order: Any) -> None:
        text = json.dumps({"argv": argv, "how": how, **order})
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.told: dict[str, Any] = json.loads(line) if line else {}

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def owner(argv: list[str], **order: Any) -> Iterator[Owner]:
    """An owner that is dead when the block ends; its server's processes are the caller's to look after."""
    running = Owner(argv, **order)
    try:
        yield running
    finally:
        running.close()
