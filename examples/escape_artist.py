"""A server that does everything to get away, for the demonstration: `escape_artist.py PORT FOLDER`.

The command that was started ends at once. What stays: a daemon that serves HTTP (double fork, a session of its
own, a pidfile), a worker below it, a helper that ignores the polite signal, and a daemon of the daemon's that has
cleared its environment and closed every descriptor. Each notes its pid in FOLDER.
"""

from __future__ import annotations

import http.server
import os
import signal
import sys
import time
from pathlib import Path

LIFE = 60.0  # seconds: whatever goes wrong with the demonstration, nobody stays for ever


def note(folder: Path, role: str) -> None:
    """Enter this process into the folder, so that an onlooker can tell who lives."""
    (folder / f"{os.getpid()}.pid").write_text(role)


def idle() -> None:
    time.sleep(LIFE)
    os._exit(0)


def child(folder: Path, role: str) -> None:
    if os.fork() == 0:
        note(folder, role)
        idle()


def detach() -> bool:
    """Double fork and setsid; true in the daemon."""
    if os.fork():
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    return True


def vanish(folder: Path) -> None:
    """A daemon of which no trace leads back: not its parent, its session, its environment or its descriptors."""
    if os.fork():
        os.wait()
        return
    if not detach():
        os._exit(0)
    note(folder, "daemon without a trace")
    os.closerange(0, 256)
    # exec with an empty environment: what /proc shows of it is empty, too
    os.execve("/bin/sleep", ["sleep", str(int(LIFE))], {})


def serve(port: int, folder: Path) -> None:
    note(folder, "server (daemonized)")
    child(folder, "worker")
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(folder, "helper that ignores SIGTERM")
        idle()
    vanish(folder)
    os.chdir(folder)
    handler = http.server.SimpleHTTPRequestHandler
    handler.log_message = lambda *_: None  # type: ignore[method-assign]
    server = http.server.HTTPServer(("127.0.0.1", port), handler)
    (folder / "server.pidfile").write_text(f"{os.getpid()}\n")
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(int(LIFE))
    server.serve_forever()


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    if detach():
        serve(port, folder)


if __name__ == "__main__":
    main()
