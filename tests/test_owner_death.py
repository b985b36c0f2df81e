"""However the owner dies: his servers are asked politely, get their time, and then nobody of them is left.

And the other half: what looks like a death and is none (a thread, a fork, a stop) leaves them running.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import signal
import sys
import threading
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from owners import Owner
from stand_ins import ANSWERING, PATIENCE, SLEEP, content, is_living, living, python, script_output, sh, tree_of, until
from zoo_kit import SYSCALLS

import servermgr
from servermgr.command import CommandManager
from servermgr.errors import GuardianError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="about forks and signals of POSIX")

#: Seconds after the owner's death when the most stubborn server is gone, by default: the promise.
PROMISED = 4.0
#: What a loaded machine may take beyond that.
SLACK = 1.0
#: Seconds in which a guardian that was fooled would have killed, with `HASTY`.
LOOK = 0.6
HASTY = {"crash_grace": 0.1}
BLOCKS = [b"%d" % number * 1000 for number in range(20)]

#: A database in little: on TERM it takes 2 s to write what it has, and then the proof that all of it is there.
FLUSHING = """
import hashlib, os, signal, sys, time
def flush(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    digest = hashlib.sha256()
    with open(sys.argv[1], "wb", buffering=0) as file:
        for number in range(20):
            block = b"%d" % number * 1000
            file.write(block)
            digest.update(block)
            time.sleep(0.1)
        file.write(digest.digest())
    os._exit(0)
signal.signal(signal.SIGTERM, flush)
print("up", flush=True)
time.sleep(60)
"""
#: Nobody of it hears a polite signal, and one has a session of his own.
STUBBORN = 'trap "" TERM INT HUP; setsid sleep 60 & sleep 60 & echo up; exec sleep 60'

#: Code of an owner: a second server, then wait until the test has seen both.
SECOND = """
import os, signal
from servermgr import recorded
second = CommandManager({argv!r}, name="second", ready="log:^up", grace_period=1.0)
second.start(timeout=20)
print(json.dumps([[record.name, record.guardian.pid, record.log] for record in recorded()
                  if record.owner.pid == os.getpid()]), flush=True)
while not os.path.exists({gate!r}):
    time.sleep(0.005)
"""


def is_whole(path: Path) -> bool:
    data = b"".join(BLOCKS)
    return path.exists() and path.read_bytes() == data + hashlib.sha256(data).digest()


# ---- deaths ---------------------------------------------------------------------------------------------------

#: What the owner does to itself, and its status as the system sees it.
ON_THE_SPOT = {
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "SIGSEGV": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    "SIGABRT": ("os.abort()", -signal.SIGABRT),
    "os._exit": ("os._exit(3)", 3),
    "SIGTERM without a handler": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGHUP without a handler": ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
    "os._exit in a thread": ("import threading; threading.Thread(target=os._exit, args=(4,)).start()", 4),
    "killed during its own stop()": (
        "signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.setitimer(signal.ITIMER_REAL, 0.3); manager.stop()",
        -signal.SIGALRM,
    ),
    "killed during its own exit": (
        "signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.setitimer(signal.ITIMER_REAL, 0.3); sys.exit(0)",
        -signal.SIGALRM,
    ),
}
HANDLER = "signal.signal(signal.{0}, lambda *_: sys.exit(7)); os.kill(os.getpid(), signal.{0}); time.sleep(60)"
#: Those in which the interpreter shuts down, and takes the servers along.
ORDERLY = {
    "an unhandled exception": ("raise LookupError('on purpose')", 1),
    "the end of the program": ("time.sleep = lambda _: None", 0),
    "sys.exit": ("sys.exit(5)", 5),
    "SIGTERM with a handler that exits": (HANDLER.format("SIGTERM"), 7),
    "SIGHUP with a handler that exits": (HANDLER.format("SIGHUP"), 7),
    "KeyboardInterrupt": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT),
    "stop() and exit": ("manager.stop(); second.stop(); sys.exit(6)", 6),
}
DEATHS = ON_THE_SPOT | ORDERLY
#: Under `nohup` HUP would be ignored; a core file of each would be left; and tracebacks are on purpose here.
QUIETLY = """
import resource
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.stderr = open(os.devnull, "w")
"""


@dataclass
class Story:
    """What was seen of one death.

    Attributes:
        status: Of the owner, as `Popen.returncode`.
        at_exit: Who lived when the owner's end was known, besides the nursery, which sees the owner go.
        seconds: From there until nobody lived.
        left: Who lived when the patience was over.
        whole: Whether the flushing server's data is.
        traces: Records and logs that are there when everybody is gone.
    """

    status: int
    at_exit: list[str]
    seconds: float
    left: list[str]
    whole: bool
    traces: list[str]


def names(processes: list[psutil.Process]) -> list[str]:
    return [str(process) for process in processes]


def trees_of(owner: Owner) -> tuple[list[psutil.Process], list[str]]:
    """Everyone whom an owner has brought into the world, helpers included, and the files that go with them."""
    assert owner.process.stdout is not None
    seen: list[psutil.Process] = []
    files: list[str] = []
    for _, guardian, log in json.loads(owner.process.stdout.readline()):
        nursery = psutil.Process(guardian).parent()
        assert nursery is not None
        seen += [nursery, *tree_of(guardian)]
        files.append(log)
    return list(dict.fromkeys(seen)), files


def tell(folder: Path, death: str) -> Story:
    """One owner with two servers, one of which needs 2 s to flush while the other does not hear: how both end."""
    folder.mkdir()
    second = SECOND.format(argv=sh(STUBBORN), gate=str(folder / "gate"))
    owner = Owner(
        python(FLUSHING, folder / "data"),
        options={"name": "first", "ready": "log:^up"},
        start={"timeout": 20},
        then=second + QUIETLY + death,
    )
    everyone: list[psutil.Process] = []
    try:
        everyone, files = trees_of(owner)
        assert len(everyone) >= 7, names(everyone)  # the nursery, two guardians, one process and three
        nurseries = [process for process in everyone if process.name() == "servermgr"]
        (folder / "gate").touch()
        status = owner.process.wait(PATIENCE)
        died = time.monotonic()
        left = living(everyone)
        at_exit = [process for process in left if process not in nurseries]
        while left and time.monotonic() < died + PROMISED + SLACK:
            time.sleep(0.01)
            left = living(left)
        seconds = time.monotonic() - died
        return Story(status, names(at_exit), seconds, names(left), is_whole(folder / "data"), traces(files, owner))
    finally:
        owner.close()
        for process in living(everyone):
            process.kill()


def traces(files: list[str], owner: Owner) -> list[str]:
    records = [record.path for record in servermgr.recorded() if record.owner.pid == owner.process.pid]
    return [path for path in files if os.path.exists(path)] + records


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Story]]:
    """Every death, all at the same time: one after the other they would take a minute."""
    folder = tmp_path_factory.mktemp("deaths")
    with ThreadPoolExecutor(len(DEATHS)) as pool:  # all are over on return: no test meets the processes of another
        deaths = enumerate(DEATHS.items())
        return {name: pool.submit(tell, folder / str(number), code) for number, (name, (code, _)) in deaths}


@pytest.mark.parametrize("death", DEATHS)
def test_the_owner_dies_and_nobody_is_left(stories: dict[str, Future[Story]], death: str) -> None:
    """Whoever ignores the polite signal is gone 4 s after the owner, with every helper, record and file."""
    story = stories[death].result()
    assert story.status == DEATHS[death][1]
    assert story.left == []
    assert story.seconds < PROMISED + SLACK
    assert story.traces == []


@pytest.mark.parametrize("death", DEATHS)
def test_a_polite_phase_comes_first(stories: dict[str, Future[Story]], death: str) -> None:
    """A server that needs 2 s to write its data gets them."""
    assert stories[death].result().whole


@pytest.mark.parametrize("death", ORDERLY)
def test_an_orderly_end_leaves_nobody_at_once(stories: dict[str, Future[Story]], death: str) -> None:
    """Where the interpreter shuts down, the servers are gone before the owner, for the next line of a script."""
    story = stories[death].result()
    assert story.at_exit == []
    assert story.seconds < 1.0  # the helper, which sees the owner go


def test_the_stubborn_have_their_time(stories: dict[str, Future[Story]]) -> None:
    """The other bound: nobody is killed before the grace period is over."""
    assert stories["SIGKILL"].result().seconds > 2.5


# ---- the kernel's own way -------------------------------------------------------------------------------------


#: What a hoarding owner may have; far less than the 512 MiB it asks for, and nothing to the machine.
LITTLE = 96 * 2**20


@dataclass
class MemoryGroup:
    """A cgroup for the owner alone, with little memory and no swap: nobody outside it can meet its limit.

    Attributes:
        path: Its folder.
        limits: Files to write, in this order; those that only some kernels have come last.
        events: The file in which the kernel counts whom it has killed for want of memory, as `oom_kill`.
    """

    path: Path
    limits: dict[str, int]
    events: str

    def limit(self) -> None:
        for file, limit in self.limits.items():
            if (self.path / file).exists():  # a kernel may not account for swap
                (self.path / file).write_text(str(limit))

    def kills(self) -> int | None:
        """How often the out-of-memory killer struck here; None where the kernel does not count (before 4.13)."""
        counters = dict(line.split() for line in _text(self.path / self.events).splitlines())
        return int(counters["oom_kill"]) if "oom_kill" in counters else None


def _memory_group() -> MemoryGroup | None:
    """One that is still to be made; None where neither the unified hierarchy (v2) nor version 1 has the controller."""
    root, name = Path("/sys/fs/cgroup"), f"servermgr-test-{os.urandom(6).hex()}"
    if "memory" in _text(root / "cgroup.subtree_control").split():
        return MemoryGroup(root / name, {"memory.max": LITTLE, "memory.swap.max": 0}, "memory.events")
    if (root / "memory/memory.limit_in_bytes").exists():
        limits = {"memory.limit_in_bytes": LITTLE, "memory.memsw.limit_in_bytes": LITTLE}  # memory and swap together
        return MemoryGroup(root / "memory" / name, limits, "memory.oom_control")
    return None


@pytest.fixture
def small_memory() -> Iterator[MemoryGroup]:
    """Where the kernel's out-of-memory killer can be met in safety."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a memory cgroup")
    group = _memory_group()
    if group is None:
        pytest.skip("no cgroup controller for memory, of version 1 or 2, below /sys/fs/cgroup")
    try:
        group.path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        group.limit()
        if group.kills() is None:
            pytest.skip("the kernel does not count whom it kills for want of memory")
        yield group
    finally:
        until(lambda: not _text(group.path / "cgroup.procs").split(), "an empty cgroup")
        group.path.rmdir()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_the_out_of_memory_killer(tmp_path: Path, small_memory: MemoryGroup) -> None:
    """It kills the owner alone, and all goes as after any SIGKILL."""
    assert small_memory.kills() == 0
    enter = f"open({str(small_memory.path / 'cgroup.procs')!r}, 'w').write('0')\n"
    story = tell(tmp_path / "oom", enter + "hoard = [bytearray(2**20) for _ in range(512)]")
    assert story.status == -signal.SIGKILL
    assert small_memory.kills() == 1
    assert (story.left, story.whole, story.traces) == ([], True, [])
    assert story.seconds < PROMISED + SLACK


# ---- the bound of the polite phase ----------------------------------------------------------------------------


@pytest.mark.parametrize(("grace", "whole"), [(0.0, False), (0.5, False), (6.0, True)])
def test_crash_grace_is_the_servers_time(tmp_path: Path, grace: float, whole: bool) -> None:
    """0 kills at once; what is too short for 2 s of flushing cuts it off; what is longer is not waited for."""
    options = {"crash_grace": grace, "ready": "log:^up"}
    with owned(python(FLUSHING, tmp_path / "data"), options=options, start={"timeout": 20}) as (owner, tree):
        owner.kill()
        died = time.monotonic()
        until(lambda: not living(tree), "the end of the server")
        took = time.monotonic() - died
    assert is_whole(tmp_path / "data") is whole
    assert (tmp_path / "data").exists() is (grace > 0)
    assert took < (2.0 if whole else grace) + SLACK
    if grace:
        assert took > (2.0 if whole else grace) - 0.1


def test_ten_servers_of_one_owner_all_go(tmp_path: Path) -> None:
    """Side by side: ten take no longer than one."""
    more = """
others = [CommandManager(order["argv"], name=f"n{number}", crash_grace=0.5) for number in range(9)]
for other in others:
    other.start()
print(json.dumps([[record.name, record.guardian.pid, record.log] for record in recorded()]), flush=True)
"""
    with owned(sh(STUBBORN), options={"crash_grace": 0.5}, then=more) as (owner, _):
        everyone, files = trees_of(owner)
        assert sum(process.name() == "servermgr-guard" for process in everyone) == 10
        owner.kill()
        died = time.monotonic()
        until(lambda: not living(everyone), "the end of all ten")
        assert time.monotonic() - died < 0.5 + SLACK * 2
        assert traces(files, owner) == []


# ---- what is no death -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def owned(argv: list[str], **order: Any) -> Iterator[tuple[Owner, list[psutil.Process]]]:
    """An owner and the tree of its server, whose ends the test sees to."""
    owner = Owner(argv, **order)
    try:
        until(lambda: psutil.Process(owner.told["guardian"]).children(), "the server")
        tree = tree_of(owner.told["guardian"])
        try:
            yield owner, tree
        finally:
            owner.close()
            until(lambda: not living(tree), "the end of the server")
    finally:
        owner.close()


def hear(owner: Owner) -> str:
    assert owner.process.stdout is not None
    return owner.process.stdout.readline().decode().strip()


#: What leaves the owner alive; each says `done` when it is over.
NO_DEATHS = {
    "SIGTERM that it ignores": "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGTERM)",
    "SIGHUP that it ignores": "signal.signal(signal.SIGHUP, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGHUP)",
    "SIGTERM with a handler that goes on": (
        "signal.signal(signal.SIGTERM, lambda *_: None); os.kill(os.getpid(), signal.SIGTERM)"
    ),
    "sys.exit in a thread": "thread = threading.Thread(target=sys.exit); thread.start(); thread.join()",
    "an exception in a thread": "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()",
    "a fork that exits": "os.fork() or sys.exit(0); os.wait()",
    "a fork that leaves by os._exit": "os.fork() or os._exit(0); os.wait()",
    "a fork that is killed": "os.fork() or os.kill(os.getpid(), signal.SIGKILL); os.wait()",
    "a fork that execs": "os.fork() or os.execv('/bin/sh', ['sh', '-c', ':']); os.wait()",
    "a fork that closes everything": "os.fork() or (os.closerange(0, 1024), os._exit(0)); os.wait()",
    "a fork of multiprocessing that exits": (
        "child = multiprocessing.get_context('fork').Process(target=sys.exit); child.start(); child.join()"
    ),
    "a fork by the C library that exits": "libc.fork() or libc._exit(0); os.wait()",
    "a subprocess that ends": "subprocess.run(['true'], close_fds=False)",
}
IMPORTS = "import ctypes, multiprocessing, os, signal, threading; libc = ctypes.PyDLL(None)\n"


@pytest.mark.parametrize("event", NO_DEATHS)
def test_the_server_lives_on(event: str) -> None:
    """Nothing of this ends the owner, so nothing of it ends the server."""
    then = IMPORTS + QUIETLY + NO_DEATHS[event] + "\nprint('done', flush=True)"
    with owned(SLEEP, options=HASTY, then=then) as (owner, tree):
        assert hear(owner) == "done"
        time.sleep(LOOK)
        assert owner.process.poll() is None
        assert living(tree) == tree


def test_the_owner_is_stopped() -> None:
    """A stopped owner lives: an hour at a breakpoint must not cost it its server. It can be killed as well."""
    with owned(SLEEP, options=HASTY) as (owner, tree):
        owner.process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(owner.process.pid).status() == psutil.STATUS_STOPPED, "the stop")
        time.sleep(LOOK)
        assert living(tree) == tree
        owner.process.send_signal(signal.SIGCONT)
        time.sleep(LOOK)
        assert living(tree) == tree
        owner.process.send_signal(signal.SIGSTOP)
        owner.kill()
        until(lambda: not living(tree), "the end of the server")


def test_the_thread_that_started_the_server_ends(free_port: int) -> None:
    """A parent-death signal is bound to a thread; the guardian is not: the server answers when the thread is gone."""
    url = f"http://127.0.0.1:{free_port}/"
    answer = "HTTP/1.0 200 OK\r\n\r\nhere"
    server = CommandManager(python(ANSWERING, free_port, answer), ready=url, crash_grace=0.1)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join(PATIENCE)
    try:
        time.sleep(LOOK)
        assert not thread.is_alive()
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            assert reply.read() == b"here"
    finally:
        server.stop()


@pytest.mark.skipif(platform.machine() not in SYSCALLS, reason="the number of exit(2) is not known on this machine")
def test_the_main_thread_ends_and_others_go_on() -> None:
    """To ps(1) such an owner is a zombie; it lives as long as one of its threads does."""
    leave = SYSCALLS[platform.machine()][1]
    then = f"{IMPORTS}threading.Thread(target=time.sleep, args=(60,)).start()\nctypes.CDLL(None).syscall({leave}, 0)"
    with owned(SLEEP, options=HASTY, then=then) as (owner, tree):
        until(lambda: psutil.Process(owner.process.pid).status() == psutil.STATUS_ZOMBIE, "the end of the main thread")
        time.sleep(LOOK)
        assert living(tree) == tree
        owner.kill()
        until(lambda: not living(tree), "the end of the server")


# ---- forks that stay, and other programs ----------------------------------------------------------------------

FORKS = {
    "os.fork": "pid = os.fork() or time.sleep(60) or os._exit(0)",
    "multiprocessing": (
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)); "
        "child.start(); pid = child.pid"
    ),
    "the C library": "pid = libc.fork() or libc.sleep(60) or libc._exit(0)",  # runs none of Python's hooks
    "a double fork": "read, write = os.pipe()\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        os.write(write, b'%d' % os.getpid())\n"
    "        time.sleep(60)\n"
    "    os._exit(0)\n"
    "os.wait(); pid = int(os.read(read, 20))",
}


@pytest.mark.parametrize("way", FORKS)
def test_a_fork_that_lives_does_not_keep_the_server(way: str) -> None:
    """The owner is who called `start`: a fork holds its descriptors, and is not the owner for that."""
    with owned(SLEEP, then=f"{IMPORTS}{FORKS[way]}\nprint(pid, flush=True)") as (owner, tree):
        fork = psutil.Process(int(hear(owner)))
        try:
            time.sleep(0.1)
            assert living(tree) == tree
            owner.kill()
            until(lambda: not living(tree), "the end of the server", PROMISED + SLACK)
            assert is_living(fork)
        finally:
            fork.kill()
            until(lambda: not is_living(fork), "the end of the fork")


LEAVINGS = {
    "execs another program": "os.execv('/bin/sleep', ['sleep', '60'])",
    "closes every descriptor": "os.closerange(3, 1024)",
}


@pytest.mark.parametrize("leaving", LEAVINGS)
def test_an_owner_that_becomes_another_ends_its_servers(tmp_path: Path, leaving: str) -> None:
    """The guardian's socket closes with the exec, or with a daemonizing program's `closerange`: nobody holds the
    manager any more, though the pid lives. It counts as the owner's death, with the polite phase."""
    argv = python(FLUSHING, tmp_path / "data")
    start = {"timeout": 20}
    with owned(argv, options={"ready": "log:^up"}, start=start, then=IMPORTS + LEAVINGS[leaving]) as (owner, tree):
        until(lambda: not living(tree), "the end of the server", PROMISED + SLACK)
        assert owner.process.poll() is None
        assert is_whole(tmp_path / "data")
        assert servermgr.recorded() == []


def test_a_fork_may_have_servers_that_die_with_it(tmp_path: Path) -> None:
    """Each process owns what it has started: the fork's go with the fork, the parent's stay, and the other way."""
    then = f"""
import os
pid = os.fork()
if pid == 0:
    own = CommandManager(["sleep", "60"], name="of the fork", crash_grace=0.1)
    own.start()
    with open({str(tmp_path / "fork")!r}, "w") as file:
        print(os.getpid(), own.process.pid, file=file)
    time.sleep(60)
"""
    with owned(SLEEP, options=HASTY, then=then) as (owner, tree):
        fork, server = map(psutil.Process, map(int, content(tmp_path / "fork").split()))
        fork.kill()
        until(lambda: not is_living(server), "the end of the fork's server")
        assert living(tree) == tree
        owner.kill()
        until(lambda: not living(tree), "the end of the parent's server")


# ---- helpers that die as well: what the fault campaign has found -----------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_the_nursery_ends_with_its_last_work(number: int) -> None:
    """Killed together, owner and guardian leave the tree to the nursery; when that has ended it, it goes itself."""
    deaf = sh('trap "" TERM; echo up; exec sleep 60')
    options = {"crash_grace": 0.2, "ready": "log:^up"}
    with owned(deaf, options=options, start={"timeout": 20}) as (owner, tree):
        guardian = psutil.Process(owner.told["guardian"])
        nursery = guardian.parent()
        assert nursery is not None
        assert nursery.name() == "servermgr"
        owner.process.kill()
        guardian.kill()
        until(lambda: not living(tree), "the end of the server")
        until(lambda: not is_living(nursery), "the end of the nursery")


def kill_first_child(parent: psutil.Process, over: threading.Event) -> None:
    """Kill the next child of `parent` at first sight."""
    listing = f"/proc/{parent.pid}/task/{parent.pid}/children"
    while not over.is_set():
        if children := Path(listing).read_text().split():
            os.kill(int(children[0]), signal.SIGKILL)  # its parent has not reaped it yet, or this hits nobody
            return


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the guardian in /proc")
def test_a_guardian_that_dies_at_birth_ends_the_start() -> None:
    """`start` fails at once instead of waiting for the word of a dead one; nothing runs, and the next one works."""
    server = CommandManager(SLEEP, crash_grace=0.0)
    with server:
        guardian = next(record.guardian.pid for record in servermgr.recorded() if record.owner.pid == os.getpid())
        nursery = psutil.Process(guardian).parent()
        assert nursery is not None
    failures = 0
    for _ in range(50):
        over = threading.Event()
        hunter = threading.Thread(target=kill_first_child, args=(nursery, over))
        hunter.start()
        began = time.monotonic()
        try:
            server.start()
        except GuardianError:
            failures += 1
            assert server.process is None
        finally:
            over.set()
            hunter.join()
            server.stop()
        assert time.monotonic() - began < PATIENCE
        if failures == 3:
            break
    assert failures, "the guardian was never caught before it had said a word"
    assert servermgr.recorded() == []
    with server:
        assert server.process.poll() is None


AT_EXIT = """
import atexit, os, sys
from servermgr import CommandManager
manager = CommandManager(["sleep", "60"])
manager.start()
pid = manager.process.pid
{before}
print(pid, flush=True)
"""


@pytest.mark.parametrize("before", ["", "manager.stop()", "manager.stop(wait=False)", "del manager"])
def test_the_interpreter_ends(before: str) -> None:
    """With and without `stop`, and with the manager forgotten: when the owner is gone, so is the server, at once."""
    pid = int(script_output(AT_EXIT.format(before=before)))
    with contextlib.suppress(psutil.NoSuchProcess):
        assert not is_living(psutil.Process(pid))
