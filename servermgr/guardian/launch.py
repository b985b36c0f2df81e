"""Fork and exec of the command, with errors that come back as data."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from servermgr.guardian.protocol import Message

_FIRST_EXTRA_FD = 3
_DEFAULT = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class LaunchFailed(Exception):
    """The command did not start: the stage at which it failed and the errno."""

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(stage, number)
        self.stage = stage
        self.number = number


def launch(spec: Message, fds: Sequence[int]) -> int:
    """Start the command in a session of its own and return its pid, after its exec has succeeded.

    Args:
        spec: `argv`, `programs`, `env`, `cwd` as bytes; see `tree.LaunchSpec`.
        fds: Standard input, output and error of the command, then what it gets as 3, 4, ….

    Raises:
        LaunchFailed: Nothing is left of the attempt.
    """
    # posix_spawn(3) shares our memory until the exec, where a fork copies page after page. But it cannot tell the
    # command its own pid, which whoever is handed sockets must be told, nor have it enter a control group.
    if not (spec["listen"] or _make_group(spec["cgroup"])):
        try:
            return _spawn(spec, fds)
        except NotImplementedError:  # no setsid in this system's posix_spawn
            pass
    return _fork(spec, fds)


def _make_group(path: bytes) -> bool:
    try:
        if path:
            os.mkdir(path, 0o700)
    except OSError:  # no more of them are allowed: the other nets are there still
        return False
    return bool(path)


def _enter_group(path: bytes) -> None:
    try:
        if path:
            fd = os.open(path + b"/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, b"0")
            os.close(fd)
    except OSError:
        pass  # it could not be made, or this one is forbidden


def _spawn(spec: Message, fds: Sequence[int]) -> int:
    # First out of the way of the targets, since a source may sit where another one must go.
    moved = [_moved_above(fd, _FIRST_EXTRA_FD + len(fds)) for fd in fds]
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(moved)]
    try:
        os.chdir(spec["cwd"])  # there is no such action; the guardian itself belongs nowhere
    except OSError as error:
        raise LaunchFailed("cwd", error.errno or 0) from error
    try:
        return _first_that_can_be(
            spec["programs"],
            lambda program: os.posix_spawn(
                program, spec["argv"], spec["env"], file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT
            ),
        )
    except OSError as error:
        raise LaunchFailed("exec", error.errno or 0) from error
    finally:
        os.chdir("/")
        for fd in moved:
            os.close(fd)


def _first_that_can_be(programs: Sequence[bytes], start: Callable[[bytes], int]) -> int:
    """Start the first of `programs` (the name joined to each folder of PATH) that can be started."""
    telling: OSError = FileNotFoundError(errno.ENOENT, "")
    for program in programs:
        try:
            os.stat(program)  # a fork to learn that it is not there costs a hundred times as much
            return start(program)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # found, but not executable: worth more than "not found" further on
            telling = error if telling.errno == errno.ENOENT else telling
    raise telling


def _fork(spec: Message, fds: Sequence[int]) -> int:
    # Closed by a successful exec; a byte in it is a failure.
    report, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(spec, fds, told)
    os.close(told)
    with open(report, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(pid, 0)
        stage, _, number = failure.decode().partition(" ")
        raise LaunchFailed(stage, int(number))
    return pid


def _become(spec: Message, fds: Sequence[int], told: int) -> NoReturn:
    """In the fork: turn into the command, or say why not and leave."""
    stage = "setup"
    try:
        os.setsid()
        _enter_group(spec["cgroup"])
        _default_signals()
        told = _arrange_descriptors(fds, told)
        stage = "cwd"
        os.chdir(spec["cwd"])
        stage = "exec"
        env = _environment(spec)
        _first_that_can_be(spec["programs"], lambda program: os.execve(program, spec["argv"], env))
    except OSError as error:
        os.write(told, f"{stage} {error.errno}".encode())
    finally:
        os._exit(127)


def _environment(spec: Message) -> dict[bytes, bytes]:
    """The command's environment; whoever is handed sockets is told so in its own name, as sd_listen_fds(3) asks."""
    env: dict[bytes, bytes] = spec["env"]
    if spec["listen"]:
        env |= {b"LISTEN_FDS": b"%d" % spec["listen"], b"LISTEN_PID": b"%d" % os.getpid()}
    return env


def _default_signals() -> None:
    # An ignored signal is inherited through exec (the interpreter itself ignores SIGPIPE), and so is a mask.
    for number in _DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _arrange_descriptors(fds: Sequence[int], told: int) -> int:
    """Put `fds` at 0, 1, 2, …; returns where the report pipe is now."""
    # First out of the way of the targets, since a source may sit where another one must go.
    above = _FIRST_EXTRA_FD + len(fds)
    moved = [_moved_above(fd, above) for fd in (*fds, told)]
    for target, source in enumerate(moved[:-1]):
        os.dup2(source, target, inheritable=True)
    return moved[-1]


def _moved_above(fd: int, lowest: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
