"""What the processes of the zoo are made of: register, fork, orphan, stop, hide, and never stay for ever.

Standard library only, heavy modules late, one file: `zoo_kit.py` is also run by path and in isolated mode, as
the program of those animals that must exec. Nothing here needs the environment or an inherited descriptor,
for some animals throw both away. Linux only; importable everywhere.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # dozens of processes start from here, and each would pay for these
    import ctypes
    from collections.abc import Callable
    from typing import Any, NoReturn

#: Exit status of a scenario that this host does not allow (the file `impossible` says why).
IMPOSSIBLE = 77
#: Seconds that any animal lives at most, whatever becomes of the test.
LIFE = 120.0
POLITE = ("SIGTERM", "SIGINT", "SIGHUP")
CONFIRM = getattr(signal, "SIGRTMIN", 34) + 1  # asks a bystander whether it has taken note of all that it was sent
#: Numbers of the system calls that libc does not offer bare: clone, exit.
SYSCALLS = {"x86_64": (56, 60), "aarch64": (220, 93), "riscv64": (220, 93)}


def process_stat(pid: int | str) -> tuple[str, int, list[str]] | None:
    """State letter, start time in clock ticks since boot, and the fields from `state` on; None if there is none.

    Args:
        pid: A process, `"self"`, or `"PID/task/TID"`.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):  # the second one: it ended between open and read
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and parentheses
    return fields[0], int(fields[19]), fields


def write_atomically(path: str, text: str) -> None:
    """Write the file so that nobody ever reads half of it."""
    draft = f"{path}.{os.readlink('/proc/self')}.draft"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(file, text.encode())
    os.close(file)
    os.rename(draft, path)


class Nest:
    """One process tree: where it registers, and when all of it ends by itself.

    Args:
        roster: Directory of the roster.
        life: Seconds from now. Forks share the instant.
    """

    def __init__(self, roster: str, life: float = LIFE) -> None:
        self.roster = roster
        self.end = time.monotonic() + life

    def path(self, name: str) -> str:
        return os.path.join(self.roster, name)

    def register(self, role: str) -> None:
        """Enter this process into the roster."""
        # Not getpid(): /proc was mounted outside, so it names us as the test sees us, also out of a pid namespace.
        pid = os.readlink("/proc/self")
        stat = process_stat("self")
        assert stat is not None
        write_atomically(self.path(pid), f"{pid} {stat[1]} {role}")

    def registered(self) -> int:
        return sum(name.isdigit() for name in os.listdir(self.roster))

    def told(self) -> bool:
        """Whether the tree was told to stop."""
        return os.path.exists(self.path("stop"))

    def over(self) -> bool:
        """Whether it was told to stop, or has lived long enough."""
        return time.monotonic() > self.end or self.told()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise SystemExit(f"the zoo did not come up: {self.registered()} registered in {self.roster}")
            time.sleep(0.002)

    def ready(self, count: int = 0) -> None:
        """Wait until so many processes are registered, then say that the whole tree stands."""
        self.until(lambda: self.registered() >= count)
        write_atomically(self.path("ready"), "")

    def impossible(self, reason: str) -> NoReturn:
        write_atomically(self.path("impossible"), reason)
        sys.exit(IMPOSSIBLE)

    def idle(self) -> NoReturn:
        """Live until the end of the tree's life."""
        while (left := self.end - time.monotonic()) > 0:
            time.sleep(min(left, 10.0))
        os._exit(0)

    def child(self, role: str | None, *steps: Callable[[], object], then: Callable[[], object] | None = None) -> int:
        """Fork a process that takes the steps, registers, and idles; the parent gets its pid.

        Args:
            role: Its role in the roster. None: it does not register (what it execs will).
            *steps: What it does to itself before it registers.
            then: What it does after that, instead of idling at once.
        """
        pid = os.fork()
        if pid == 0:
            self.live(role, *steps, then=then)
        return pid

    def live(
        self, role: str | None, *steps: Callable[[], object], then: Callable[[], object] | None = None
    ) -> NoReturn:
        """Be such a child: take the steps, register, idle."""
        try:
            for step in steps:
                step()
            if role is not None:
                self.register(role)
            if then is not None:
                then()
            self.idle()
        except BaseException:  # noqa: BLE001  # whatever it is, it is told here and ends here
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)  # a fork that falls out of its part must not go on as a second root

    def orphan(self, role: str | None, *steps: Callable[[], object], then: Callable[[], object] | None = None) -> None:
        """The same by a double fork: the process in the middle is gone, and reaped, on return."""
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                self.live(role, *steps, then=then)
            os._exit(0)
        os.waitpid(middle, 0)

    def sleeper(self, role: str, *, announce: int = 0) -> list[str]:
        """The command of an animal that is a program of its own: registers, idles.

        Args:
            role: Its role in the roster; empty: it neither registers nor stays.
            announce: How many must be registered before it says that the tree stands; 0: others say so.
        """
        left = max(0.0, self.end - time.monotonic())
        animal = ["--role", role, "--announce", str(announce), "--life", f"{left:.1f}"]
        return [sys.executable, "-I", "-S", os.path.abspath(__file__), "sleeper", "--roster", self.roster, *animal]


def default_signals() -> None:
    """Forget what the starter ignores or blocks: a test run under `nohup` would make every animal ignore HUP."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in (*POLITE, "SIGCHLD"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def ignore_polite() -> None:
    for name in POLITE:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def close_descriptors() -> None:
    os.closerange(0, min(65536, os.sysconf("SC_OPEN_MAX")))


def libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """`result`, or the error that libc left, if it is negative."""
    if result < 0:
        import ctypes

        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, value: Any) -> None:
    checked(libc().prctl(option, value, 0, 0, 0), f"prctl({option})")


def syscall_numbers(nest: Nest) -> tuple[int, int]:
    """Those of clone and exit; the end of the scenario where they are not known."""
    machine = os.uname().machine
    if machine not in SYSCALLS:
        nest.impossible(f"system call numbers of {machine} are not known")
    return SYSCALLS[machine]


def stop_self(seconds: float) -> None:
    """SIGSTOP this process, and see to it that it dies by itself after so many seconds.

    A stopped process cannot count its own life. A kernel timer can, and SIGKILL needs no CONT.
    """
    import ctypes

    class When(ctypes.Structure):
        _fields_ = [("again", ctypes.c_long * 2), ("first", ctypes.c_long * 2)]

    lib, timer = libc(), ctypes.c_void_p()
    event = (ctypes.c_int * 16)(0, 0, signal.SIGKILL, 0)  # struct sigevent: value, signal, SIGEV_SIGNAL
    checked(lib.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(timer)), "timer_create")
    when = When((0, 0), (max(1, int(seconds)), 0))
    checked(lib.timer_settime(timer, 0, ctypes.byref(when), None), "timer_settime")
    os.kill(os.getpid(), signal.SIGSTOP)


def overwrite_title(title: bytes) -> None:
    """Write over arguments and environment as a process title does, and take a name that misleads parsers."""
    import ctypes

    stat = process_stat("self")
    assert stat is not None
    start, end = int(stat[2][45]), int(stat[2][48])  # arg_start, env_end
    assert 0 < start < end, "the kernel does not tell where the arguments are"
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title, min(len(title), end - start - 1))
    prctl(15, b") Z 1 1 1 (x")  # PR_SET_NAME


def exit_main_thread(nest: Nest) -> None:
    """Leave the process to a second thread, so that it looks like a zombie and is none."""
    import _thread

    _, leave = syscall_numbers(nest)
    _thread.start_new_thread(nest.idle, ())
    libc().syscall(leave, 0)


def main() -> None:
    """Be one animal that is a program of its own."""
    options = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    nest = Nest(options["--roster"], float(options["--life"]))
    if options["--role"]:
        nest.register(options["--role"])
    if count := int(options["--announce"]):
        nest.ready(count)
    if options["--role"]:
        nest.idle()


if __name__ == "__main__":
    main()
