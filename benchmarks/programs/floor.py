"""The least that a guardian can be, as seconds, for a process that stands ready and forks one for each command.

`floor.py start COUNT COMMAND…`: each fork starts the command below itself and says so.
`floor.py stop COUNT COMMAND…`: all of them are asked to end theirs by SIGTERM, until they have ended, too.
`floor.py kill COUNT [--sessions]`: one of them, below which COUNT processes sleep, is asked to kill these.

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
    if mode == "kill":
        print(kill(ours, count, said, sys.argv[3:]))
    else:
        print(many(ours, count, sys.argv[3:])[("start", "stop").index(mode)])
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
    end_tree(pid, int(owner.recv(4)))


def end_tree(root: int, number: int) -> None:
    """Signal the group, and whoever comes to us when its leader is gone; leave with the last of them."""
    try:
        os.killpg(root, abs(number))  # not reaped, so the number is its own
        if number < 0:
            os.waitpid(root, 0)
            for orphan in platform.children(os.getpid()):
                os.kill(orphan, -number)
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


def many(nursery: socket.socket, count: int, words: list[str]) -> tuple[float, float]:
    """All are asked for before the first answer is awaited: no processor waits for another. The same at the end."""
    began = time.perf_counter()
    guards = [ask(nursery, words) for _ in range(count)]
    pids = [int(guard.recv(16)) for guard in guards]
    started = time.perf_counter()
    for pid in pids:
        settle(pid)
    ending = time.perf_counter()
    end(guards, signal.SIGTERM)
    return started - began, time.perf_counter() - ending


def settle(pid: int) -> None:
    """Wait until it sleeps: it has started, and waits for what comes. The alarm bounds this."""
    while (stat := platform.read_stat(pid)) is None or stat.state != "S":
        time.sleep(0.001)


def kill(nursery: socket.socket, count: int, said: int, flags: list[str]) -> float:
    forest = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forest.py")
    guard = ask(nursery, [sys.executable, "-I", "-S", forest, str(count), str(count), "--ignore-term", *flags])
    guard.recv(16)
    heard = b""
    while not heard.endswith(b"ready\n"):
        heard += os.read(said, 65536)
    began = time.perf_counter()
    end([guard], -signal.SIGKILL if "--sessions" in flags else signal.SIGKILL)
    return time.perf_counter() - began


def end(guards: list[socket.socket], number: int) -> None:
    """Ask, and wait until they have ended: their sockets are closed then."""
    for guard in guards:
        guard.send(b"%d" % number)
    for guard in guards:
        guard.recv(1)
        guard.close()


if __name__ == "__main__":
    main()
