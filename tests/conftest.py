"""What every test of the suite is held to: it leaves no thread, descriptor, process or temporary file behind.

Also here: the real servers a test may ask for, and ports that nobody else is handed.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Names this run in the environment of everything it starts. An exact match is proof of our making.
RUN_VARIABLE = "SERVERMGR_TEST_RUN"
RUN = uuid.uuid4().hex
#: Where temporary files of the run go. Guardians carry this variable of their owner's, and not the other.
#: The name is short, for that of a Unix socket in it may have 107 bytes.
FOLDER = os.path.join(tempfile.gettempdir(), f"smgr-{RUN[:12]}")
#: The ledger of the run: it must not meet the records of other runs on the machine, nor leave any of its own.
LEDGER = f"{FOLDER}.ledger"

#: Exit status of a run that leaves something behind, whatever its tests say; pytest's own end with 5.
LEFT_BEHIND = 6
#: Seconds that what is ending already may take to be gone, when a test is over.
PATIENCE = 2.0
#: Where servers are installed, and where an ordinary user's PATH often does not look.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
#: The helper of an owner: one stays warm between servers, and ends with the owner.
GUARDIAN = ("servermgr.guardian", os.path.join("servermgr", "guardian"))
#: Helpers that multiprocessing keeps until the interpreter ends.
PYTHONS_COMMANDS = ("from multiprocessing.resource_tracker import", "from multiprocessing.forkserver import")
PYTHONS_FOLDER = "pymp-"


# ---- processes ------------------------------------------------------------------------------------------------


def pytest_sessionstart() -> None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path stays where pytest keeps it
    os.mkdir(FOLDER)
    os.chmod(FOLDER, 0o1777)  # noqa: S103  # as /tmp is, for tests that change their user
    tempfile.tempdir = os.environ["TMPDIR"] = FOLDER
    os.environ[RUN_VARIABLE] = RUN
    os.environ["SERVERMGR_LEDGER"] = LEDGER


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing of the run outlives it, except helpers that see this process end and then follow it."""
    left = settled(lambda: {process for process in our_processes() if not is_helper(process)})
    lines = [describe(process) for process in left] + new_files(set())
    end(left)
    for folder in (FOLDER, LEDGER):
        shutil.rmtree(folder, ignore_errors=True)  # a report about it is out
    if lines:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.section("left behind by this run (ended or removed now)", red=True)
            for line in lines:
                reporter.line(line)
        session.exitstatus = LEFT_BEHIND


def our_processes() -> set[psutil.Process]:
    """Living processes that this run started: those that carry its name, and all who descend from it."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(RUN_VARIABLE) == RUN or environment.get("TMPDIR") == FOLDER:
                found.add(process)
    me = psutil.Process()
    found.update(me.children(recursive=True))  # also those that were given another environment
    found.discard(me)
    return {process for process in found if is_living(process)}


def is_living(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) or process.num_threads() > 1
    except psutil.Error:
        return False


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "(gone)"


def is_guardian(process: psutil.Process) -> bool:
    command = command_of(process)
    return any(name in command for name in GUARDIAN)


def has_tree(guardian: psutil.Process) -> bool:
    try:
        return guardian.name() == "servermgr-guard"  # one that waits for a tree has the helper's name
    except psutil.Error:
        return False


def is_helper(process: psutil.Process) -> bool:
    return is_guardian(process) or any(name in command_of(process) for name in PYTHONS_COMMANDS)


def describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"process {process.pid} (parent {process.ppid()}, {process.status()}): {command_of(process)[:200]}"
    return f"process {process.pid}"


def end(processes: set[psutil.Process]) -> None:
    """So that what one test left does not fail the next. Only ever called for `our_processes`."""
    # Guardians last: as long as one lives, nobody gets away from it.
    for group in ({process for process in processes if not is_helper(process)}, processes):
        for process in group:
            with contextlib.suppress(psutil.Error):
                process.kill()  # psutil compares the creation time first
        psutil.wait_procs(group, timeout=PATIENCE)


def new_processes(before: set[psutil.Process]) -> set[psutil.Process]:
    """Processes that the test left: also any guardian with a tree, and helpers beyond the warm one and its spare."""
    now = our_processes()
    new = now - before
    guardians = {process for process in new if is_guardian(process)}
    room = 2 - sum(is_guardian(process) for process in now & before)
    surplus = guardians if len(guardians) > max(0, room) else {process for process in guardians if has_tree(process)}
    return {process for process in new if not is_helper(process)} | surplus


# ---- descriptors, threads, temporary files --------------------------------------------------------------------


class Descriptors:
    """Open descriptors of this process, by what they refer to, without those that the library keeps for good.

    With the first server of a process, and again when its helper was lost, the library opens a socket to its helper
    and /dev/null. One of each is allowed, whichever test comes first.
    """

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def snapshot(self) -> Counter[str]:
        """Link targets, each with how many descriptors refer to it. Empty where the system does not list them."""
        return Counter(link for _, link in self._listing())

    def new(self, before: Counter[str]) -> list[str]:
        """Descriptors that were not there before, as text."""
        listing = list(self._listing())
        surplus = Counter(link for _, link in listing) - before - Counter(pythons_own_descriptors())
        surplus -= Counter(self._newly_kept(listing, surplus))
        # Of several descriptors of one thing, the new ones are as a rule the highest.
        numbers = [
            fd for link, count in surplus.items() for fd in sorted(fd for fd, its in listing if its == link)[-count:]
        ]
        return [f"descriptor {fd}: {link}" for fd, link in listing if fd in numbers]

    def _newly_kept(self, listing: list[tuple[int, str]], surplus: Counter[str]) -> Iterator[str]:
        open_now = {f"{fd}: {link}" for fd, link in listing}
        for fd, link in sorted(listing):
            kind = "null" if link == os.devnull else "socket" if is_unix_socket(fd) else None
            if kind and surplus[link] and self._kept.get(kind) not in open_now:
                self._kept[kind] = f"{fd}: {link}"
            if kind and surplus[link] and self._kept.get(kind) == f"{fd}: {link}":
                yield link

    @staticmethod
    def _listing() -> Iterator[tuple[int, str]]:
        if not os.path.isdir("/proc/self/fd"):
            return
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself, closed since
                yield int(name), os.readlink(f"/proc/self/fd/{name}")


def is_unix_socket(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as copy:
            return copy.family == socket.AF_UNIX
    except OSError:
        return False


def pythons_own_descriptors() -> list[str]:
    """Pipes to multiprocessing's helpers, which it keeps for good once it has needed them."""
    found = []
    for module, name, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_fd"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_alive_fd"),
    ):
        fd = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if fd is not None:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def new_threads(before: set[threading.Thread]) -> list[str]:
    return [f"thread {thread.name}" for thread in threading.enumerate() if thread not in before]


def files() -> set[str]:
    """Temporary files of the run, and records in its ledger."""
    records = os.listdir(LEDGER) if os.path.isdir(LEDGER) else []
    # The empty directory of a port is no lease: it goes just after the claim that was in it.
    records = [path for name in records for path in (leases(name) if name == "ports" else [name])]
    return {name for name in os.listdir(FOLDER) if not name.startswith(PYTHONS_FOLDER)} | set(records)


def leases(folder: str) -> list[str]:
    return [os.path.join(above, name) for above, _, names in os.walk(os.path.join(LEDGER, folder)) for name in names]


def new_files(before: set[str]) -> list[str]:
    return [f"temporary {name}" for name in sorted(files() - before)]


# ---- the verdict ----------------------------------------------------------------------------------------------


def settled(look: Callable[[], set[psutil.Process]]) -> set[psutil.Process]:
    """What `look` still finds when everything that is just ending has had time to."""
    give_up = time.monotonic() + PATIENCE
    while (found := look()) and time.monotonic() < give_up:
        time.sleep(0.02)
    return found


descriptors = Descriptors()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail the test that leaves a thread, a descriptor, a process or a temporary file behind.

    Fixtures of a wider scope are set up before this one: what they hold is theirs to end.
    """
    threads = set(threading.enumerate())
    fds = descriptors.snapshot()
    temporary = files()
    processes = our_processes()
    yield
    left = settled(lambda: new_processes(processes))
    lines = [describe(process) for process in left]
    end(left)
    for look in (lambda: new_threads(threads), lambda: descriptors.new(fds), lambda: new_files(temporary)):
        lines += _late(look)
    if lines:
        pytest.fail("left behind: " + "\n             ".join(lines), pytrace=False)


def _late(look: Callable[[], list[str]]) -> list[str]:
    """As `settled`, after a collection: a traceback may hold the frame that holds the file."""
    if not look():
        return []
    gc.collect()
    give_up = time.monotonic() + PATIENCE
    while (found := look()) and time.monotonic() < give_up:
        time.sleep(0.02)
    return found


# ---- what tests ask for ---------------------------------------------------------------------------------------


def find_server(name: str) -> str:
    """Path of a server's program. A missing one skips the test, and fails it with CI=true."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS)))
    if path is not None:
        return path
    reason = f"{name} is not installed (scripts/test installs it, as root on Debian)"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{reason}; with CI={os.environ['CI']} that is a failure", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("server"):
        find_server(*marker.args)


@pytest.fixture(scope="session")
def require_server() -> Callable[[str], str]:
    """`require_server("nginx")` is the path of the program, or skips (fails with CI=true)."""
    return find_server


@pytest.fixture
def free_port() -> int:
    """A loopback port that is free, and is not handed out twice in a run."""
    return pick_port()


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """`free_ports(3)` is three ports as `free_port` gives them."""
    return lambda count: [pick_port() for _ in range(count)]


_handed_out: set[int] = set()


def pick_port() -> int:
    """Below the range from which the system serves port 0 and outgoing connections, so that nobody is given it
    by chance between this look and the server's bind.
    """
    for _ in range(1000):
        port = random.randrange(10_000, first_ephemeral_port())
        if port not in _handed_out and can_bind(port):
            _handed_out.add(port)
            return port
    raise AssertionError("no free port on the loopback interface")


def first_ephemeral_port() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            first = int(file.read().split()[0])
    except OSError:
        return 32_768  # Linux's own default; 49152 on most other systems
    return first if first > 11_000 else 65_536  # a range that leaves no room below: then anywhere


def can_bind(port: int) -> bool:
    """Whether every address of the loopback interface has the port free, also for a wildcard listener."""
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # no IPv6 here
            continue
        with probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT does not hinder a server
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # that one says that IPv6 is switched off
                    return False
    return True
