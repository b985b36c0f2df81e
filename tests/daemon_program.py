"""A daemonizing server to be started by path: launcher, double fork, setsid, pidfile in every manner that servers have.

It serves nobody. It keeps a journal instead, one line for each thing that happens to one of its processes:
`PID ROLE EVENT`. Standard library only, quick modules only; it ends by itself after `LIFE` seconds.

Signals to the daemon: TERM ends it in order, USR1 ends it with status 5, USR2 starts another daemon in its place.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that any process of it lives at most, whatever becomes of the test.
LIFE = 60
#: How a pidfile comes to be: who writes it, and in how many steps.
WRITINGS = ("plain", "bare", "halves", "rename", "launcher", "launcher-then-daemon", "never")
#: In which order the old daemon and the new one go about a re-exec.
SUCCESSIONS = ("write-then-leave", "leave-then-write", "stay")
#: Exit status of a daemon that was sent USR1.
ASKED = 5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pidfile", required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--writing", choices=WRITINGS, default="plain")
    parser.add_argument("--late", type=float, default=0.0, help="seconds until the daemon writes its pidfile")
    parser.add_argument("--names", type=int, help="the pid that the pidfile gets; by default the right one")
    parser.add_argument("--mode", type=lambda text: int(text, 8), default=0o644, help="of the pidfile")
    parser.add_argument("--helper", action="store_true", help="the daemon has a child, which it does not end")
    parser.add_argument("--last-words", type=float, default=0.0, help="seconds that the daemon takes to end")
    parser.add_argument("--launcher-status", type=int, default=0)
    parser.add_argument("--daemon-status", type=int, help="the daemon ends with this before it writes its pidfile")
    parser.add_argument("--succession", choices=SUCCESSIONS, default="write-then-leave")
    parser.add_argument("--successor", action="store_true", help="be the daemon that a re-exec has started")
    return parser.parse_args()


class Program:
    """The program in one of its processes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.role = "launcher"

    def note(self, event: str) -> None:
        # One write with O_APPEND, so that the lines of several processes neither mix nor swap.
        fd = os.open(self.options.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, f"{os.getpid()} {self.role} {event}\n".encode())
        os.close(fd)

    # ---- launcher ---------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Fork twice; leave when the daemon says that it runs, as well-behaved launchers do."""
        if self.options.writing == "launcher-then-daemon":
            self.write_pidfile(os.getpid())
        running, told = os.pipe()
        go, given = os.pipe()
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(told, b"%d" % os.getpid())
                os.close(given)
                os.read(go, 1)  # until the launcher has done its part
                for fd in (told, running, go):
                    os.close(fd)
                self.be_daemon()
            os._exit(0)
        os.waitpid(middle, 0)
        daemon = int(os.read(running, 20))
        if self.options.writing == "launcher":
            self.write_pidfile(daemon)
        self.note(f"launched {daemon}")
        os._exit(self.options.launcher_status)  # which closes the pipe that the daemon reads

    # ---- daemon -----------------------------------------------------------------------------------------------

    def be_daemon(self) -> None:
        self.role = "daemon"
        signal.alarm(LIFE)
        signal.signal(signal.SIGTERM, lambda *_: self.end(0))
        signal.signal(signal.SIGUSR1, lambda *_: self.end(ASKED))
        signal.signal(signal.SIGUSR2, lambda *_: self.start_successor())
        if self.options.daemon_status is not None:
            print("the daemon cannot go on", flush=True)  # noqa: T201  # what a server's last output is read for
            os._exit(self.options.daemon_status)
        if self.options.helper:
            self.start_helper()
        time.sleep(self.options.late)
        if self.options.writing not in ("launcher", "never"):
            self.write_pidfile(os.getpid())
        self.note("ready")
        while True:
            signal.pause()

    def start_helper(self) -> None:
        if os.fork():
            return
        self.role = "helper"
        signal.alarm(LIFE)
        signal.signal(signal.SIGTERM, lambda *_: self.bow_out())
        self.note("ready")
        while True:
            signal.pause()

    def bow_out(self) -> None:
        self.note("TERM")
        os._exit(0)

    def end(self, status: int) -> None:
        self.note("TERM" if status == 0 else "USR1")
        time.sleep(self.options.last_words)
        self.remove_pidfile()
        self.note("bye")
        os._exit(status)

    def start_successor(self) -> None:
        """Run the program anew, as servers do to replace their own executable."""
        self.note("USR2")
        leave = self.options.succession == "leave-then-write"
        late = ["--late", "0.5" if leave else "0"]
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())  # inherited blocked from this handler's signal
            os.execv(sys.executable, [sys.executable, "-IS", *sys.argv, *late, "--successor"])
        if leave:
            self.remove_pidfile()
        elif self.options.succession == "write-then-leave":
            self.wait_until_named_no_more()
        if self.options.succession != "stay":
            self.note("bye")
            os._exit(0)

    def wait_until_named_no_more(self) -> None:
        for _ in range(5000):
            if self.pidfile_names() not in (os.getpid(), None):
                return
            time.sleep(0.002)

    # ---- pidfile ----------------------------------------------------------------------------------------------

    def write_pidfile(self, pid: int) -> None:
        number = str(self.options.names or pid)
        try:
            self.writer()(number)
        except OSError as error:  # a FIFO or a directory is in its place: servers complain and go on
            print(f"cannot write the pidfile: {error}", flush=True)  # noqa: T201

    def writer(self) -> Callable[[str], None]:
        return {"bare": self.write_bare, "halves": self.write_halves, "rename": self.write_and_rename}.get(
            self.options.writing, self.write_plain
        )

    def write_plain(self, number: str) -> None:
        self.write(self.options.pidfile, number + "\n")

    def write_bare(self, number: str) -> None:
        self.write(self.options.pidfile, number)

    def write_halves(self, number: str) -> None:
        """As a full disk or a slow one shows it: some digits now, the rest later."""
        self.write(self.options.pidfile, number[:-1])
        time.sleep(0.3)
        self.write(self.options.pidfile, number[-1:] + "\n", os.O_APPEND)

    def write_and_rename(self, number: str) -> None:
        self.write(self.options.pidfile + ".new", number + "\n")
        os.rename(self.options.pidfile + ".new", self.options.pidfile)

    def write(self, path: str, text: str, flags: int = os.O_TRUNC) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | flags, self.options.mode)
        try:
            os.fchmod(fd, self.options.mode)
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def pidfile_names(self) -> int | None:
        if not os.path.isfile(self.options.pidfile):  # of a FIFO, the open would wait for ever
            return None
        try:
            with open(self.options.pidfile) as file:
                return int(file.read() or 0) or None
        except (OSError, ValueError):
            return None

    def remove_pidfile(self) -> None:
        if self.pidfile_names() == os.getpid():
            os.unlink(self.options.pidfile)


def main() -> None:
    options = parse()
    signal.alarm(LIFE)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a FIFO whose reader has gone again
    program = Program(options)
    if options.successor:
        program.be_daemon()
    program.launch()


if __name__ == "__main__":
    main()
