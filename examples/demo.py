"""The promise of servermgr, shown on real processes in under a minute.

Run by `scripts/demo`. Exits with status 0 only if nothing was left wherever nothing may be left.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

import servermgr
from servermgr import nginx

HERE = Path(__file__).parent
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
GRACE = 0.5


def styled(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def title(text: str) -> None:
    print(f"\n{styled('1', text)}")


def line(text: str) -> None:
    print(f"   {text}", flush=True)


def good(text: str) -> None:
    line(styled("32", f"✔ {text}"))


def bad(text: str) -> None:
    line(styled("31", f"✘ {text}"))


# ---- the onlooker: knows every process of the tree from the notes that they leave, and asks the kernel ----------


class Onlooker:
    """Says who of a tree lives, without asking servermgr."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, psutil.Process] = {}

    def look(self) -> dict[int, str]:
        """Who lives, as pid → role."""
        alive = {}
        for path in self._folder.glob("*.pid"):
            process = self._process(int(path.stem))
            if process is not None:
                alive[process.pid] = path.read_text()
        return alive

    def _process(self, pid: int) -> psutil.Process | None:
        try:
            process = self._known.setdefault(pid, psutil.Process(pid))
            running = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if running else None

    def wait_for(self, count: int) -> None:
        give_up = time.monotonic() + 10
        while len(self.look()) < count and time.monotonic() < give_up:
            time.sleep(0.02)

    def wait_gone(self, seconds: float) -> float:
        """Wait until nobody lives; returns how long it took."""
        began = time.monotonic()
        while self.look() and time.monotonic() - began < seconds:
            time.sleep(0.005)
        return time.monotonic() - began

    def end_all(self) -> None:
        for pid in self.look():
            self._known[pid].kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def artist(port: int, folder: Path) -> list[str]:
    return [sys.executable, str(HERE / "escape_artist.py"), str(port), str(folder)]


PEOPLE = 4  # how many processes the escape artist leaves


def show(alive: dict[int, str]) -> None:
    for pid, role in sorted(alive.items()):
        line(f"  {pid:>7}  {role}")


# ---- the acts ---------------------------------------------------------------------------------------------------


def without(folder: Path) -> bool:
    title("1. How it usually goes: subprocess.Popen, terminate(), wait()")
    onlooker = Onlooker(folder)
    process = subprocess.Popen(artist(free_port(), folder), start_new_session=True)
    onlooker.wait_for(PEOPLE)
    process.terminate()
    process.wait()
    left = onlooker.look()
    bad(f"the server was “stopped”, and {len(left)} of its processes live on:")
    show(left)
    onlooker.end_all()
    line("(the demonstration has cleaned up after it, by a list that you would not have)")
    return len(left) == PEOPLE  # otherwise there was nothing to show


def with_stop(folder: Path) -> bool:
    title("2. The same server, held by servermgr")
    onlooker = Onlooker(folder)
    port = free_port()
    manager = servermgr.CommandManager(
        artist(port, folder),
        name="escape-artist",
        pidfile=folder / "server.pidfile",
        ready=f"http://127.0.0.1:{port}/",
        grace_period=GRACE,
    )
    began = time.monotonic()
    manager.start()
    good(f"ready after {(time.monotonic() - began) * 1000:.0f} ms; the worker is the daemon, pid {manager.process.pid}")
    onlooker.wait_for(PEOPLE)
    line("its process tree, the daemon without a trace included:")
    for text in servermgr.format_tree(manager.processes()).splitlines():
        line(f"    {text}")
    outcome = manager.stop()
    left = onlooker.look()
    (bad if left else good)(f"stop(): {outcome}; alive: {len(left)}")
    return not left


def with_crash(folder: Path) -> bool:
    title("3. The program that started it is killed by SIGKILL, and can clean up nothing")
    onlooker = Onlooker(folder)
    port = free_port()
    code = (
        "import sys, time, servermgr\n"
        f"servermgr.CommandManager(sys.argv[1:], pidfile={str(folder / 'server.pidfile')!r}, crash_grace={GRACE},"
        f" ready='http://127.0.0.1:{port}/').start()\n"
        "print('started', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, *artist(port, folder)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    owner.stdout.readline()
    onlooker.wait_for(PEOPLE)
    line(f"owner {owner.pid} has started the server; {len(onlooker.look())} processes live")
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    seconds = onlooker.wait_gone(10)
    left = onlooker.look()
    text = f"{seconds:.2f} s later (of which {GRACE} s for those who ignore SIGTERM), alive: {len(left)}"
    (bad if left else good)(text)
    return not left


def with_nginx(folder: Path) -> bool:
    title("4. A real one: nginx, daemonized through its pidfile, started and stopped twice on one port")
    port = free_port()
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_text("hello from nginx\n")
    manager = nginx.Manager("127.0.0.1", port, str(folder / "nginx"))
    manager.add_filesystem_mapping("/", str(folder / "site"))
    for _ in range(2):
        began = time.monotonic()
        with manager:
            took = (time.monotonic() - began) * 1000
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5) as answer:
                text = answer.read().decode().strip()
            people = manager.processes()
            good(f"ready after {took:.0f} ms, says “{text}”; tree: {', '.join(f'{p.name} {p.pid}' for p in people)}")
        left = [person.pid for person in people if psutil.pid_exists(person.pid) and not is_dead(person.pid)]
        free = not servermgr.address_in_use("127.0.0.1", port)
        (bad if left else good)(f"stopped; alive: {len(left)}; port free again: {free}")
        if left:
            return False
    return True


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def has_nginx() -> bool:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin") is not None


def main() -> int:
    print(styled("1", f"servermgr {servermgr.__version__}: start servers, hold their whole tree, leave nothing"))
    acts = [without, with_stop, with_crash]
    if has_nginx():
        acts.append(with_nginx)
    results = []
    for act in acts:
        with tempfile.TemporaryDirectory(prefix="servermgr-demo-") as folder:
            os.chmod(folder, 0o755)  # noqa: S103  # nginx's workers run as another user when root starts them
            results.append(act(Path(folder)))
    if not has_nginx():
        line("\n(with nginx installed, the demonstration goes on with it)")
    print()
    if all(results):
        good("nothing left where nothing may be left")
        return 0
    bad("the promise was not kept: see above")
    return 1


if __name__ == "__main__":
    sys.exit(main())
