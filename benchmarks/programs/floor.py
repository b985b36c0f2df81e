"""The least that a guardian can be, as seconds: `floor.py start COUNT COMMAND…` or `floor.py kill COUNT`.

`start`: a process that stands ready forks once for each command; the fork starts the command below itself and says so.
`kill`: such a fork, below which COUNT processes sleep in one session, is asked to end them; until it has ended, too.
Nothing is recorded, followed, checked or told beyond that: what is measured is what having a guardian costs at all.
"""

import gc
import os
import signal
import socket
import sys
import time

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from servermgr import platform  # for its means; as a guardian has them

LIFETIME = 300


def main() -> None:
    mode, count = sys.argv[1], int(sys.argv[2])
    signal.alarm(LIFETIME)
    ours, theirs = socket.socketpair()
    said, told = os.pipe()
    if os.fork() == 0:
        signal.alarm(LIFETIME)
        ours.close()
        os.dup2(told, 1)
        stand_ready(theirs)
    theirs.close()
    print(start(ours, count, sys.argv[3:]) if mode == "start" else kill(ours, count, said))
    ours.close()
    os.wait()


def stand_ready(owner: socket.socket) -> None:
    """Fork for each socket that is handed over, until the owner is gone; the forks are ended by their sockets."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for them
    platform.become_subreaper()  # imports what it needs, so that no fork has to
    gc.freeze()
    gc.disable()
    while True:
        _, fds, _, _ = socket.recv_fds(owner, 1, 1)
        if not fds:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            guard(socket.socket(fileno=fds[0]))
        os.close(fds[0])


def guard(owner: socket.socket) -> None:
    signal.alarm(LIFETIME)
    os.setsid()
    platform.become_subreaper()
    words = owner.recv(65536).decode().split("\0")
    pid = os.posix_spawn(words[0], words, os.environ, setsid=True)
    owner.send(b"%d" % pid)
    owner.recv(1)
    try:
        os.killpg(pid, signal.SIGKILL)  # not reaped, so the number is its own
        while True:
            os.wait()
    except ChildProcessError:
        os._exit(0)


def ask(nursery: socket.socket, words: list[str]) -> socket.socket:
    ours, theirs = socket.socketpair()
    socket.send_fds(nursery, [b"!"], [theirs.fileno()])
    theirs.close()
    ours.send("\0".join(words).encode())
    return ours


def start(nursery: socket.socket, count: int, words: list[str]) -> float:
    """All are asked for before the first answer is awaited: no processor waits for another."""
    began = time.perf_counter()
    guards = [ask(nursery, words) for _ in range(count)]
    for guard in guards:
        guard.recv(16)
    took = time.perf_counter() - began
    for guard in guards:
        end(guard)
    return took


def kill(nursery: socket.socket, count: int, said: int) -> float:
    forest = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forest.py")
    guard = ask(nursery, [sys.executable, "-I", "-S", forest, str(count), str(count), "--ignore-term"])
    guard.recv(16)
    heard = b""
    while not heard.endswith(b"ready\n"):
        heard += os.read(said, 65536)
    began = time.perf_counter()
    end(guard)
    return time.perf_counter() - began


def end(guard: socket.socket) -> None:
    """Ask, and wait until it has ended: its socket is closed then."""
    guard.send(b"!")
    guard.recv(1)
    guard.close()


if __name__ == "__main__":
    main()
