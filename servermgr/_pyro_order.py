"""How a Pyro service gets to the process that serves it: as a private file.

Not as an argument, which every user of the machine can read in `ps`, and which has a limit. The file is made with
mode 0600 under a name nobody can guess; the service reads it only if it is its user's alone, and removes it first.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import sys
import tempfile
from typing import TYPE_CHECKING

from servermgr.errors import LaunchError

if TYPE_CHECKING:
    from typing import Any

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
#: The name of the main program's module in a pickle, as a short text with its length.
_IN_MAIN = b"\x8c\x08__main__"


def is_import_path(service: object) -> bool:
    """Whether it is a text `package.module:name`."""
    return isinstance(service, str) and _IMPORT_PATH.fullmatch(service) is not None


def write(service: object, order: dict[str, Any]) -> str:
    """Write the file and return its path. Whoever starts the service sees to it that the file is removed.

    Args:
        service: The object, or an import path.
        order: The rest of what the service must know, as JSON can hold it.

    Raises:
        LaunchError: The object cannot be pickled, or the file cannot be written.
    """
    target = service if is_import_path(service) else None
    pickled = b"" if target else _pickled(service)
    head = order | {"target": target, "path": list(map(os.path.abspath, sys.path)), "main": _main(pickled)}
    try:
        fd, path = tempfile.mkstemp(prefix="servermgr-pyro-")
        with open(fd, "wb") as file:
            file.write(json.dumps(head).encode() + b"\n" + pickled)
    except OSError as error:
        raise LaunchError(error, f"cannot write the service to {tempfile.gettempdir()}") from error
    return path


def remove(path: str) -> None:
    """Remove the file, if the service has not done so."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _pickled(service: object) -> bytes:
    try:
        return pickle.dumps(service)
    except Exception as error:  # whatever an object's own pickling raises
        text = f"the service {service!r} cannot be pickled: give an import path, as 'package.module:name'"
        raise LaunchError(error, text) from error


def _main(pickled: bytes) -> dict[str, str] | None:
    """This process's main program, as a module or a path, if the service is made of what is defined there."""
    if _IN_MAIN not in pickled:
        return None
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)  # of a program that was started by `python -m`
    if spec is not None:
        return {"module": spec.name}
    path = getattr(main, "__file__", None)
    if path is None:
        raise LaunchError("the service is defined where no other process can import it: put its class into a module")
    return {"path": os.path.abspath(path)}
