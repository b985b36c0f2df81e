"""An owner that holds one server by one peer: `holder PEER ORDER FD`, with the order as JSON.

Writes a line of JSON to the descriptor FD when the server is started: the pids that have to die for the owner to be
dead. With the word `stop` on its standard input it stops the server, and says how long that took and what was raised.
It ends with the end of its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable

from benchmarks.peers import CONTROLS, PEERS, Order

#: Seconds that it lives at most.
LIFETIME = 100


def main() -> None:
    signal.alarm(LIFETIME)
    peer, order, voice = (PEERS | CONTROLS)[sys.argv[1]], Order(**json.loads(sys.argv[2])), int(sys.argv[3])
    os.set_inheritable(voice, False)

    def say(**told: object) -> None:
        os.write(voice, (json.dumps(told) + "\n").encode())

    def talk(stop: Callable[[], object], *owners: int) -> None:
        say(owners=[os.getpid(), *owners])
        if sys.stdin.readline().strip() == "stop":
            began, error = time.perf_counter(), ""
            try:
                stop()
            except Exception as raised:  # noqa: BLE001  # any peer's own
                error = f"{type(raised).__name__}: {raised}"
            say(stopped=time.perf_counter() - began, error=error)
        sys.stdin.readline()

    getattr(peer.load(), peer.function)(order, talk)


if __name__ == "__main__":
    main()
