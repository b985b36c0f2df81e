"""Creation of a command on Windows: which program it is, and how it begins."""

from __future__ import annotations

import ntpath
import os
import subprocess
from typing import TYPE_CHECKING

from servermgr.errors import LaunchError
from servermgr.platform._kernel32 import CREATE_NEW_PROCESS_GROUP, CREATE_SUSPENDED
from servermgr.platform.job_object import start_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servermgr.platform.job_object import Job
    from servermgr.tree import LaunchSpec

#: Which endings a program may have, where the environment does not say.
_PATHEXT = ".COM;.EXE;.BAT;.CMD"
_SCRIPTS = (".bat", ".cmd")
#: What cmd.exe, which runs scripts, may read as more than text; no quoting is safe from it.
_UNSAFE = frozenset('"%!^&|<>()\r\n')


def refuse(spec: LaunchSpec) -> None:
    """Raise LaunchError for what cannot be had here."""
    if spec.sockets:
        raise LaunchError(None, "sockets cannot be handed to a command on Windows: give it a port (servermgr.ports)")
    if spec.pidfile is not None:
        raise LaunchError(
            None, "there are no daemonizing servers on Windows: start the command in the foreground, without pidfile"
        )


def start(
    spec: LaunchSpec,
    job: Job,
    *,
    streams: Sequence[int] = (),
    flags: int = CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP,
) -> tuple[int, int]:
    """Start the command in the job; returns its pid and a handle of it.

    Of all handles of this process it inherits the three standard ones alone.

    Args:
        spec: What to start.
        job: Where it goes.
        streams: Its standard input, output and error. Empty for the null device and the output of `spec`.
        flags: As it is, it begins a process group, so that Ctrl-C in the console is not for it and CTRL_BREAK can
            be sent to it.

    Raises:
        LaunchError: Nothing is left of the attempt.
    """
    program = find_program(spec)
    if not os.path.isdir(spec.cwd):
        raise LaunchError(None, f"the directory to start in cannot be entered: {spec.cwd}")
    stdin, stdout, stderr = streams or (subprocess.DEVNULL, spec.output.fd, spec.output.fd)
    created: list[subprocess.Popen[bytes]] = []

    def create() -> int:
        process = subprocess.Popen(
            spec.argv,
            executable=program,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=spec.cwd,
            env=spec.env,
            creationflags=flags,
        )
        created.append(process)  # its handle keeps the pid from being used again
        return process.pid

    try:
        return start_in(job, create)
    except OSError as error:
        raise LaunchError(error, f"cannot start {spec.argv[0]!r}") from error
    finally:
        for process in created:
            process.returncode = 0  # the job looks after it from here on; the object would warn of its own end


def find_program(spec: LaunchSpec) -> str:
    """The program's file, by the PATH and PATHEXT of the command's own environment.

    Not by the search of CreateProcess, which begins in the directories of this program and of the caller.

    Raises:
        LaunchError: There is none, or it is a script that would read some of the words as commands.
    """
    given = spec.argv[0]
    extensions = _lookup(spec.env, "PATHEXT", _PATHEXT).split(os.pathsep)
    folders = [spec.cwd] if ntpath.dirname(given) else _lookup(spec.env, "PATH", "").split(os.pathsep)
    for folder in folders:
        for path in _variants(os.path.join(folder, given), extensions) if folder else ():
            if os.path.isfile(path):
                _check_script(path, spec.argv[1:])
                return path
    remedy = "is it installed, and in the PATH of the environment given?"
    raise LaunchError(FileNotFoundError(2, "no such file", given), f"cannot start {given!r}: {remedy}")


def _lookup(env: dict[str, str], name: str, default: str) -> str:
    """A variable of an environment; on Windows, case means nothing in their names."""
    return next((value for key, value in env.items() if key.upper() == name), default)


def _variants(path: str, extensions: list[str]) -> list[str]:
    known = any(path.upper().endswith(extension.upper()) for extension in extensions if extension)
    return [path] if known else [path + extension for extension in extensions if extension] + [path]


def _check_script(path: str, words: list[str]) -> None:
    if not path.lower().endswith(_SCRIPTS):
        return
    for word in words:
        if _UNSAFE & set(word):
            raise LaunchError(
                None, f"{path} is a script of cmd.exe, which may take {word!r} for a command: start its program itself"
            )
