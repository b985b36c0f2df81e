"""Questions to Pyro's servers, each within its time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from servermgr._python_program import not_installed
from servermgr.addresses import endpoint, reached_at
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from typing import Any

CHILD = "_pyro_child.py"


def names_uri(host: str, port: int) -> str:
    """The address of the name server at `host:port`."""
    return f"PYRO:Pyro.NameServer@{endpoint(reached_at(host), port)}"


def proxy(uri: str, limit: float) -> Any:
    """A proxy, not connected yet, whose connection and whose calls take `limit` seconds at most each.

    Raises:
        LaunchError: Pyro5 is not installed.
    """
    try:
        client = importlib.import_module("Pyro5.client")
    except ImportError as error:
        raise not_installed("Pyro5", "pyro") from error
    found = client.Proxy(uri)
    found._pyroTimeout = max(limit, 0.01)
    return found


def locate(host: str, port: int, limit: float) -> Any:
    """A connected proxy of the name server; close it, or use it in a `with` block.

    Raises:
        WorkerError: There is none.
    """
    names = proxy(names_uri(host, port), limit)
    try:
        names.ping()
    except Exception as error:  # Pyro's errors, the system's, and what a stranger's answer raises in the parser
        names._pyroRelease()
        raise WorkerError(error, f"there is no Pyro name server at {endpoint(host, port)}") from error
    return names


def look_up(names: Any, name: str) -> str:
    """The address that is registered under a name.

    Raises:
        WorkerError: There is none, or the name server does not answer.
    """
    try:
        return str(names.lookup(name))
    except importlib.import_module("Pyro5.errors").NamingError as error:
        raise WorkerError(None, f"{name!r} is not registered with the Pyro name server") from error
    except Exception as error:  # as above
        raise WorkerError(error, f"the Pyro name server cannot be asked for {name!r}") from error
