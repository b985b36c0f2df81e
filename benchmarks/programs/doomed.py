"""An owner of the fault campaign: `doomed ORDER`, with the order as JSON.

Says `starting`, `started` and `stopping`, `stopped` as it comes to these points; begins to stop with the word `stop`
on its standard input, and ends with the end of it. What it is refused it says on standard error, and goes on: with a
guardian shot away below it, an error is the right answer.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import tempfile
from typing import Any

import servermgr

#: Seconds that it lives at most.
LIFETIME = 100


class Plain:
    """A bare Popen in the place of a manager: what the campaign must find fault with."""

    def __init__(self, argv: list[str], **_: object) -> None:
        self.argv = argv
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **_: object) -> None:
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self, **_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


def main() -> None:
    signal.alarm(LIFETIME)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # a campaign under `nohup` would hand on that it is ignored
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tempfile.gettempdir()  # Python tries the folder with a file of its own, which is left if death comes just then
    order: dict[str, Any] = json.loads(sys.argv[1])
    kind: Any = Plain if order["plain"] else servermgr.CommandManager
    managers = [kind(argv, **options) for argv, options in order["servers"]]
    say("starting")
    for manager in managers:
        attempt(lambda manager=manager: manager.start(wait=False))
    say("started")
    if sys.stdin.readline().strip() == "stop":
        say("stopping")
        for manager in managers:
            attempt(lambda manager=manager: manager.stop(wait=False))
        for manager in managers:
            attempt(manager.stop)
        say("stopped")
    sys.stdin.readline()


def say(word: str) -> None:
    print(word, flush=True)


def attempt(action: Any) -> None:
    """What is refused with the package's own error is said; any other error ends the program."""
    try:
        action()
    except servermgr.WorkerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
