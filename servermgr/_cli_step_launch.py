"""The command of a step: forked in the session, group and terminal of this process, and told when to begin."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

assert sys.platform != "win32"  # see _cli_step_signals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from servermgr._cli_step_signals import Manners


class Waiting:
    """A fork of this process that will become the command.

    It is made before its parent leaves the session (a fork cannot enter one), and begins when that one is ready.

    Args:
        argv: The command.
        env: Its environment.
        manners: How it takes signals.

    Attributes:
        pid: Its pid.
    """

    def __init__(self, argv: Sequence[bytes], env: dict[bytes, bytes], manners: Manners) -> None:
        go, self._go = os.pipe()
        self._report, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            _become(argv, env, manners, go, told)
        os.close(go)
        os.close(told)

    @property
    def descriptors(self) -> tuple[int, int]:
        """What its parent must keep open until it has begun."""
        return self._go, self._report

    def begin(self) -> int:
        """Let it run. Returns 0 once it has become the command, or the errno."""
        os.write(self._go, b"!")
        os.close(self._go)
        with open(self._report, "rb") as report:
            failure = report.read()  # closed by a successful exec
        if not failure:
            return 0
        os.waitpid(self.pid, 0)
        return int(failure)


def _become(argv: Sequence[bytes], env: dict[bytes, bytes], manners: Manners, go: int, told: int) -> NoReturn:
    try:
        if os.read(go, 1):  # else its parent was killed meanwhile
            manners.assume()
            _exec(argv, env)
    except OSError as error:
        os.write(told, b"%d" % (error.errno or errno.EIO))
    finally:
        os._exit(127)


def _exec(argv: Sequence[bytes], env: dict[bytes, bytes]) -> NoReturn:
    """As execvp(3) does, which shells, env(1) and timeout(1) go by."""
    telling = errno.ENOENT
    for program in _programs(argv[0], env):
        try:
            os.execve(program, list(argv), env)
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script without "#!"
                os.execve(b"/bin/sh", [b"/bin/sh", program, *argv[1:]], env)
            found = error.errno not in (errno.ENOENT, errno.ENOTDIR) or os.path.exists(program)
            if found and telling == errno.ENOENT:  # one whose interpreter is missing is there, and cannot be run
                telling = errno.ENOEXEC if error.errno == errno.ENOENT else error.errno or errno.EIO
    raise OSError(telling, "")


def _programs(name: bytes, env: dict[bytes, bytes]) -> list[bytes]:
    if b"/" in name:
        return [name]
    path = os.fsdecode(env.get(b"PATH", os.defpath.encode()))
    return [os.path.join(os.fsencode(folder), name) for folder in path.split(os.pathsep)]
