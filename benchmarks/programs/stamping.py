"""The nursery's program with the steps of its guardians watched, for `phases.py`: they take down when each is done."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from servermgr.guardian import brood, killing, nursery, outbox, record, warden

MODULES = {"brood": brood, "killing": killing, "outbox": outbox, "record": record, "warden": warden}
#: A function, the step that its return is, and which return counts; `call`: instead of a return the first call, where
#: others act upon it before it returns.
STEPS = (
    ("warden.Warden._prepare", "taken", "first"),
    ("record.Record.write", "recorded", "first"),
    ("warden.launch", "executed", "first"),
    ("warden.Warden._receive", "heard", "last"),
    ("killing.Killing.kill", "killed", "call"),
    ("brood.Brood._reaped", "reaped", "last"),
    ("outbox.Messages.send", "answered", "call"),
    ("outbox.Messages.send", "told", "last"),
    ("warden.Warden._clean_up", "leaves", "last"),
)


def main(path: str) -> None:
    """Be the nursery; each guardian that had a tree appends its stamps as JSON to the file when it leaves."""
    stamps: dict[str, int] = {}
    for name, step, which in STEPS:
        module, *way, function = name.split(".")
        place: Any = functools.reduce(getattr, way, MODULES[module])
        setattr(place, function, stamped(getattr(place, function), stamps, step, which))
    leave = os._exit
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def leave_with_stamps(status: int) -> None:
        if "executed" in stamps:
            text = ", ".join(f'"{step}": {moment}' for step, moment in stamps.items())
            os.write(fd, f"{{{text}}}\n".encode())
        leave(status)

    os._exit = leave_with_stamps  # type: ignore[assignment]
    nursery.main()


def stamped(function: Callable[..., Any], stamps: dict[str, int], step: str, which: str) -> Callable[..., Any]:
    """The same function, which takes down the moment: `call`, `first` or `last`, see `STEPS`."""

    def wrapped(*args: Any, **options: Any) -> Any:
        if which == "call":
            stamps.setdefault(step, time.monotonic_ns())
        result = function(*args, **options)
        if which == "last":
            stamps[step] = time.monotonic_ns()
        else:
            stamps.setdefault(step, time.monotonic_ns())
        return result

    return wrapped
