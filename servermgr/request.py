"""What an owner asks of the nursery, and what it makes of a refusal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servermgr import ledger, nursery
from servermgr.errors import LaunchError
from servermgr.tree import MARKER_VARIABLE, Ended, StopOutcome, Survivor

if TYPE_CHECKING:
    from servermgr.guardian.protocol import Message
    from servermgr.tree import LaunchSpec


def message(spec: LaunchSpec, name: str, ports: tuple[str, ...]) -> Message:
    """What the nursery is told of a command to launch; a record of it is drafted where there can be one."""
    folder = ledger.prepare()
    env = {os.fsencode(name): os.fsencode(value) for name, value in spec.env.items()}
    return {
        "argv": [os.fsencode(word) for word in spec.argv],
        "programs": [os.fsencode(path) for path in spec.programs()],
        "env": env,
        "cwd": os.fsencode(spec.cwd),
        "pidfile": None if spec.pidfile is None else os.fsencode(spec.pidfile),
        "stop_signal": spec.stop_signal,
        "grace_period": spec.grace_period,
        "crash_grace": spec.crash_grace,
        "keep": spec.keep,
        "record": b"" if folder is None else os.fsencode(ledger.record_path(folder, spec.marker)),
        "draft": b"" if folder is None else ledger.draft(spec, name=name, ports=ports),
        "remove": [os.fsencode(path) for path in spec.files_to_remove()],
        "scratch": b"" if spec.scratch is None else os.fsencode(spec.scratch),
        "listen": len(spec.sockets),
        "cgroup": os.fsencode(spec.cgroup),
        "trace": spec.story is not None,
        "marker": f"{MARKER_VARIABLE}={spec.marker}".encode(),
    }


def descriptors(spec: LaunchSpec) -> list[int]:
    """What the command gets as 0, 1, 2, 3, …."""
    return [nursery.devnull(), spec.output.fd, spec.output.fd, *(given.fileno() for given in spec.sockets)]


def outcome(message: Message) -> StopOutcome:
    """How a tree ended, as its guardian tells it."""
    return StopOutcome(
        tuple(Ended(*item) for item in message["polite"]),
        tuple(Ended(*item) for item in message["killed"]),
        tuple(Survivor(*item) for item in message["survivors"]),
        message["status"],
        message["seconds"],
    )


def launch_error(spec: LaunchSpec, failure: Message) -> LaunchError:
    """The error of a command that did not start, with the remedy where it is known."""
    cause = OSError(failure["errno"], os.strerror(failure["errno"]))
    if failure["stage"] == "cwd":
        return LaunchError(cause, f"the directory to start in cannot be entered: {spec.cwd}")
    program = spec.argv[0]
    remedy = (
        "is it installed, and in the PATH of the environment given?" if isinstance(cause, FileNotFoundError) else ""
    )
    return LaunchError(cause, f"cannot start {program!r}" + (f": {remedy}" if remedy else ""))
