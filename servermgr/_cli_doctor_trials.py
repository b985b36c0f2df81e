"""The trials of `servermgr doctor`."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from servermgr import addresses, ledger, platform, ports, sweeping
from servermgr.deadline import Deadline, pace, sleep
from servermgr.errors import WorkerError
from servermgr.identity import Identity
from servermgr.pinned import pin
from servermgr.platform import abilities

if TYPE_CHECKING:
    from collections.abc import Callable

YES, MISSING, NOTE = "yes", "missing", "note"
#: Seconds for what takes milliseconds.
_PATIENCE = 5.0

#: Starts a daemon as daemons are started, without environment and descriptors, says its pid, and stays.
_ESCAPE = """
import os, time
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(tell, b"%d" % os.getpid())
        os.closerange(0, 64)
        os.execve("/bin/sleep", ["sleep", "60"], {})
    os._exit(0)
os.wait()
print("daemon", os.read(told, 20).decode(), flush=True)
time.sleep(60)
"""
#: The same where there is no fork: its parent leaves it without a console and with the least of an environment.
_ESCAPE_WITHOUT_FORK = """
import os, subprocess, sys, time
middle = '''
import os, subprocess, sys
child = [sys.executable, "-IS", "-c", "import time; time.sleep(60)"]
bare = {"SYSTEMROOT": os.environ["SYSTEMROOT"]}
print("daemon", subprocess.Popen(child, env=bare, creationflags=subprocess.DETACHED_PROCESS).pid, flush=True)
'''
subprocess.run([sys.executable, "-IS", "-c", middle], check=True)
time.sleep(60)
"""
#: Starts a server, says its pid, and stays until it is killed.
_OWNER = """
import sys, time
sys.path.append(sys.argv[1])
from servermgr import CommandManager
server = CommandManager([sys.executable, "-IS", "-c", "import time; time.sleep(60)"], crash_grace=1.0)
server.start()
print(server.process.pid, flush=True)
time.sleep(60)
"""


class Finding(NamedTuple):
    """What came of one trial.

    Attributes:
        guarantee: What should hold.
        holds: `yes`, `missing`, or `note` for what is good to know.
        why: How that is known.
        remedy: What to do; empty where nothing has to be done.
    """

    guarantee: str
    holds: str
    why: str
    remedy: str = ""


def _held() -> Finding:
    guarantee = "a server is held with its whole process tree, also a daemon that wants to get away"
    if platform.HOLDER is None:
        return Finding(guarantee, MISSING, "not on this system yet", "use Linux, or WSL 2 or a container on Windows")
    try:
        daemon = _escape()
    except WorkerError as error:
        return Finding(guarantee, MISSING, f"it cannot be started: {error}", "see the cause; sys.executable must run")
    if daemon is None or _outlived(daemon):
        remedy = "on Linux allow prctl(2) in the container's seccomp profile; elsewhere give pidfile=…"
        return Finding(guarantee, MISSING, "a daemon that had left its parent outlived its stop", remedy)
    return Finding(guarantee, YES, "one that had left its parent, its session and its environment was ended")


def _escape() -> Identity | None:
    from servermgr.command import CommandManager  # noqa: PLC0415

    program = _ESCAPE if hasattr(os, "fork") else _ESCAPE_WITHOUT_FORK
    server = CommandManager([sys.executable, "-IS", "-c", program], name="doctor", ready="log:daemon", grace_period=2.0)
    with server:
        words = server.output_tail(1)[-1].split()
        return Identity.of(int(words[1]))


def _outlived(daemon: Identity) -> bool:
    """Whether it lives still; it does no longer afterwards."""
    held = pin(daemon.pid)
    if held is None:
        return False
    try:
        lives = held.identity == daemon and held.is_alive()
        if lives:
            held.signal(platform.SIGKILL)
    finally:
        held.close()
    return lives


def _owner_killed() -> Finding:
    guarantee = "nothing of a server outlives its program, also if that is killed by SIGKILL"
    if platform.HOLDER is None:
        return Finding(guarantee, MISSING, "trees are not held here")
    server = _bereaved()
    if server is None:
        return Finding(
            guarantee, MISSING, "a program that starts a server cannot be started", "see the traceback above"
        )
    ended = _ends(server)
    for record in sweeping.recorded():
        if record.worker == server and not record.is_guarded:  # nobody but a sweep removes what he wrote
            sweeping.end_leftovers(record)
    if ended:
        return Finding(guarantee, YES, "a program was killed, and its server ended")
    return Finding(guarantee, MISSING, "a program was killed, and its server went on", "run `servermgr sweep`")


def _bereaved() -> Identity | None:
    import subprocess  # noqa: PLC0415

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-c", _OWNER, root]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        said = owner.stdout.readline()
        server = Identity.of(int(said)) if said.strip().isdigit() else None
        owner.kill()
    return server


def _ends(identity: Identity) -> bool:
    deadline = Deadline(_PATIENCE)
    while identity.is_alive():
        if deadline.expired:
            return False
        sleep(pace(deadline.elapsed))
    return True


def _pidfds() -> Finding:
    guarantee = "a process is signalled by what it is, never by a number that may be another's by now"
    fd = platform.open_pidfd(os.getpid())
    if fd < 0:
        remedy = "use Linux 5.3 or later, and allow pidfd_open(2) in the container's seccomp profile"
        return Finding(guarantee, NOTE, "no pidfds: pid and creation time have to do", remedy)
    platform.close_pidfd(fd)
    return Finding(guarantee, YES, "there are pidfds (Windows: handles)")


def _serials() -> Finding:
    guarantee = "a pid that is used again within one clock tick is told from that of a record"
    if platform.process_serial(os.getpid()):
        return Finding(guarantee, YES, "pidfds have numbers of their own")
    remedy = "Linux 6.9 has them, Windows tells 100 ns apart; it matters for `servermgr sweep` alone"
    return Finding(guarantee, NOTE, "pidfds have no numbers that can be written down", remedy)


def _claims() -> Finding:
    guarantee = "every ability of the contract (docs/contract.md) is claimed here"
    missing = [meaning for ability, meaning in abilities.MEANING.items() if ability not in platform.ABILITIES]
    if not missing:
        return Finding(guarantee, YES, f"all {len(abilities.MEANING)}, for servers that a manager launches")
    return Finding(guarantee, NOTE, f"not claimed ({platform.NAME}): {'; '.join(missing)}", "Linux holds all of it")


def _losses() -> Finding:
    guarantee = "the system allows what it can do"
    lost = list(platform.losses())
    if not lost:
        return Finding(guarantee, YES, "nothing that is usual here is switched off")
    return Finding(
        guarantee, NOTE, "; ".join(lost), "see who has switched it off: a container's profile, a mount option"
    )


def _ledger() -> Finding:
    guarantee = "what program and guardian leave when both are killed is found by the next sweep"
    logger = logging.getLogger("servermgr")
    before, logger.disabled = logger.disabled, True  # it is said here, with the remedy
    try:
        folder = ledger.prepare()
    finally:
        logger.disabled = before
    if folder is None:
        remedy = f"set {ledger.DIRECTORY_VARIABLE} to a directory of your own, mode 0700"
        return Finding(guarantee, MISSING, f"no record can be kept in {ledger.directory()}", remedy)
    return Finding(guarantee, YES, f"records are kept in {folder}")


def _other_users() -> Finding:
    guarantee = "a process of the tree that takes another user's rights can be ended"
    user = getattr(os, "geteuid", lambda: None)()
    if user == 0:
        return Finding(guarantee, YES, "this is root")
    if user is None:
        return Finding(guarantee, NOTE, "one that runs as another user, or elevated, is named as a survivor")
    text = "a set-uid program such as sudo is named as a survivor"
    return Finding(guarantee, NOTE, text, "run as root, or in a container, if your servers start such programs")


def _listeners() -> Finding:
    guarantee = "who listens on a port is known at once"
    if addresses.by_kernel([addresses.Address("127.0.0.1")], 1) is not None:
        return Finding(guarantee, YES, "the kernel lists listeners (SOCK_DIAG)")
    return Finding(guarantee, NOTE, "psutil has to look through all processes, or the port has to be tried")


def _ports() -> Finding:
    guarantee = "a port that was drawn (port=0) is given to nobody else"
    try:
        with ports.lease() as lease:
            return Finding(guarantee, YES, f"{lease.port} was drawn, and is free again")
    except WorkerError as error:
        return Finding(guarantee, MISSING, error.text, "sysctl net.ipv4.ip_local_port_range leaves room for drawing")


def _left_over() -> Finding:
    guarantee = "nothing of earlier programs is left over"
    names = [record.name for record in sweeping.recorded() if sweeping.is_left_over(record)]
    if not names:
        return Finding(guarantee, YES, "no record without an owner")
    return Finding(guarantee, NOTE, f"left over: {', '.join(names)}", "run `servermgr sweep`")


def _terminal() -> Finding:
    guarantee = "colour and progress on a terminal"
    try:
        import rich  # noqa: F401, PLC0415
    except ImportError:
        return Finding(
            guarantee, NOTE, "rich is not installed; all is said in plain text", "pip install servermgr[cli]"
        )
    return Finding(guarantee, YES, "rich is installed")


TRIALS: tuple[Callable[[], Finding], ...] = (
    _left_over,  # before the others, whose own remains are just going
    _held,
    _owner_killed,
    _pidfds,
    _serials,
    _claims,
    _losses,
    _ledger,
    _other_users,
    _listeners,
    _ports,
    _terminal,
)
