"""Stamps the steps of starts and kills: `phases start ROUNDS` or `phases kill ROUNDS COUNT [--sessions]`.

Prints a JSON list: for each round the moments of its steps, in nanoseconds on the clock that all processes share. The
guardian that is watched is the package's own, with some of its functions wrapped, which takes a microsecond for each.
"""

import json
import os
import signal
import sys
import tempfile
import time

from benchmarks.processes import PATIENCE, SLEEP, forest
from benchmarks.programs.stamping import stamped
from servermgr import CommandManager, nursery, platform

LIFETIME = 300
#: Seconds between a start and what is measured behind it: the next guardian is being made meanwhile.
SETTLE = 0.05


def main() -> None:
    mode, rounds, flags = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    signal.alarm(LIFETIME)
    command = SLEEP
    if mode == "kill":
        command = forest(int(flags[0]), sessions="--sessions" in flags, ignore_term=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stamps")
        words = "import sys; sys.path.append(sys.argv[1]); from benchmarks.programs import stamping; "
        nursery._BOOT = f"{words}stamping.main({path!r})"  # there is no other way in, and no other use for one
        print(json.dumps([measure(command, mode, path) for _ in range(rounds + 1)][1:]))


def measure(command: list[str], mode: str, path: str) -> dict[str, int]:
    stamps: dict[str, int] = {}
    facts = platform.process_facts
    platform.process_facts = stamped(facts, stamps, "ordered", "first")  # what is read last before the order
    manager = CommandManager(command, ready=None if mode == "start" else "log:^ready", grace_period=0)
    asked = time.monotonic_ns()
    manager.start(wait=mode != "start", timeout=PATIENCE)
    done = time.monotonic_ns()
    time.sleep(SETTLE)
    if mode == "kill":
        asked = time.monotonic_ns()
        manager.kill()
        done = time.monotonic_ns()
    manager.stop()
    platform.process_facts = facts
    with open(path, "r+") as file:
        stamps |= json.load(file)
        file.truncate(0)
    return stamps | {"asked": asked, "done": done}


if __name__ == "__main__":
    main()
