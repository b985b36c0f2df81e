"""In the process of a Pyro name server, or of a Pyro service. Never imported by the owner.

`main(["ns", HOST, PORT, STORAGE])` runs a name server; `main(["service", FILE])` takes its orders from the file that
`_pyro_order` has written, and removes that.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import runpy
import signal
import sys
import types
from typing import Any

_TIMEOUT = 5.0  # seconds for one question to the name server
_PARTING = 1.0  # the same at the end, when somebody waits for this process to go


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments[0] == "ns":
            _, host, port, storage = arguments
            serve_names(host, int(port), storage)
        else:
            serve(*read(arguments[1]))
    except KeyboardInterrupt:
        pass


def serve_names(host: str, port: int, storage: str) -> None:
    """A name server that answers to those who know its address: no broadcasts."""
    nameserver = importlib.import_module("Pyro5.nameserver")
    nameserver.start_ns_loop(host, port, enableBroadcast=False, storage=storage)


# ---- the orders -----------------------------------------------------------------------------------------------


def read(path: str) -> tuple[dict[str, Any], bytes]:
    """The orders, and the service as a pickle; the file is removed.

    Unpickling runs what the pickle says, so nobody but this user may have written it.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        user = getattr(os, "geteuid", None)  # none where ids and modes say nothing (Windows)
        if user is not None and (found.st_uid != user() or found.st_mode & 0o077):
            sys.exit(f"servermgr: {path} is not this user's alone")
        os.unlink(path)
        return json.loads(file.readline()), file.read()


def load(order: dict[str, Any], pickled: bytes) -> Any:
    """The service: unpickled, or what the import path names, an instance where that is a class."""
    if order["target"]:
        module, _, name = order["target"].partition(":")
        found: Any = importlib.import_module(module)
        for attribute in filter(None, name.split(".")):
            found = getattr(found, attribute)
    else:
        # Its modules are those of the process that pickled it.
        sys.path += [folder for folder in order["path"] if folder not in sys.path]
        if order["main"]:
            adopt_main(order["main"])
        found = pickle.loads(pickled)  # noqa: S301  # see `read`
    is_plain_class = isinstance(found, type) and not hasattr(found, "_pyroInstancing")
    return found() if is_plain_class else found


def adopt_main(main: dict[str, str]) -> None:
    """Have the owner's main program in place of this one, without running what stands below `if __name__ == …`."""
    run = runpy.run_module if "module" in main else runpy.run_path
    (program,) = main.values()
    module = types.ModuleType("__main__")
    module.__dict__.update(run(program, run_name="__servermgr_service__"))
    module.__name__ = "__main__"
    sys.modules["__main__"] = module


# ---- what is served -------------------------------------------------------------------------------------------


def exposed(service: Any, expose: Any) -> Any:
    """Something that Pyro serves all public methods of, where the service itself marks none with `@expose`."""
    names = [name for name in dir(service) if not name.startswith("_")]
    kind = service if isinstance(service, type) else type(service)
    if any(is_marked(getattr(kind, name, None)) for name in names):
        return service
    names = [name for name in names if not isinstance(getattr(kind, name, None), property)]  # asking would run it
    methods = {name: forward(service, name) for name in names if callable(getattr(service, name, None))}
    if not methods:
        sys.exit(f"servermgr: the service {service!r} has no public methods")
    # A class made for it: the service's own may be one that cannot be written to, as those of Python itself.
    return expose(type(kind.__name__, (), methods))()


def is_marked(member: Any) -> bool:
    """Whether it, or the getter of a property, was marked with `@expose`."""
    return any(getattr(one, "_pyroExposed", False) is True for one in (member, getattr(member, "fget", None)))


def forward(service: Any, name: str) -> Any:
    """A method that calls the service's method of that name."""

    def method(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(service, name)(*args, **kwargs)

    method.__name__ = name
    method.__doc__ = getattr(getattr(service, name), "__doc__", None)
    return method


# ---- serving --------------------------------------------------------------------------------------------------


def serve(order: dict[str, Any], pickled: bytes) -> None:
    """Register the service with the name server, answer its callers, and take the name back at the end."""
    server, client = importlib.import_module("Pyro5.server"), importlib.import_module("Pyro5.client")
    service = exposed(load(order, pickled), server.expose)
    with server.Daemon(order["host"]) as daemon:
        uri = daemon.register(service, order["token"])
        register(order, uri, client)
        try:
            daemon.requestLoop()
        finally:
            unregister(order, uri, client)


def register(order: dict[str, Any], uri: Any, client: Any) -> None:
    """Give the service its name, unless another that lives has it."""
    name = order["name"]
    errors = importlib.import_module("Pyro5.errors")
    try:
        with proxy(client, order["names"], _TIMEOUT) as names:
            try:
                names.register(name, uri, safe=True)
                return
            except errors.NamingError:  # taken, perhaps by one that was killed
                other = names.lookup(name)
            if is_alive(client, other):
                sys.exit(f"servermgr: another service is registered as {name!r}, and answers at {other}")
            names.register(name, uri)
    except errors.CommunicationError as error:
        sys.exit(f"servermgr: there is no Pyro name server at {order['names']}: {error}")


def is_alive(client: Any, uri: Any) -> bool:
    """Whether an object answers at this address."""
    try:
        with proxy(client, uri, _PARTING) as other:
            other._pyroBind()
    except Exception:  # noqa: BLE001  # whatever is wrong with it: nobody can call it
        return False
    return True


def unregister(order: dict[str, Any], uri: Any, client: Any) -> None:
    """Take the name back, if it is still this service's. Without a name server there is nothing to do."""
    # Whatever goes wrong: this process ends, and a name that it leaves is taken over by the next one.
    with contextlib.suppress(Exception), proxy(client, order["names"], _PARTING) as names:
        if names.lookup(order["name"]) == uri:
            names.remove(order["name"])


def proxy(client: Any, uri: Any, timeout: float) -> Any:
    """A proxy whose connection and calls take `timeout` seconds at most, whatever Pyro's own setting is."""
    found = client.Proxy(uri)
    found._pyroTimeout = timeout
    return found
