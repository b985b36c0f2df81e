"""An object that is called over Pyro5, in a process of its own, as a managed server.

::

    class Adder:
        def add(self, a, b):
            return a + b

    service = Manager("adder", Adder(), names.host, names.port)
    with service, Pyro5.api.Proxy(service.uri) as adder:
        adder.add(1, 2)

Alone: `python -m servermgr.pyro_service --help`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import servermgr.base
from servermgr import _pyro_client, _pyro_order
from servermgr._python_program import Interpreter
from servermgr._server_state import refuse_second
from servermgr.addresses import endpoint
from servermgr.errors import WorkerError
from servermgr.readiness import ATTEMPT_LIMIT
from servermgr.tree import CRASH_GRACE, GRACE_PERIOD

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Any

    from servermgr.output import Target

__all__ = ["Manager"]


class Manager(servermgr.base.Manager):
    """A Pyro service, registered with a name server under a name.

    It runs in a fresh interpreter, which shares nothing with this process: an object is pickled now and then at
    each `start`, and its modules are imported there from where this process finds them. It is handed over in a
    private file (mode 0600) that the service removes before it reads it, never on the command line.

    Pyro asks nobody for a password: whoever can connect to the service can call it, and whoever can connect to
    the name server can put another one in its place. So it listens on the loopback interface, unless told
    otherwise. The port is the system's choice; clients know it from the name server.

    Where the object's class marks methods with Pyro's `@expose`, those can be called; where it marks none, all
    public ones. Calls run in several threads at once.

    Args:
        service_name: The name to register. One that is left of a service that was killed is taken over, one that
            another service has is not.
        service: The object, which must be picklable; or an import path, `"package.module:name"`. What that names
            may be a class, too, an instance of which is then made there.
        ns_host: Where the name server is reached.
        ns_port: The same.
        process_name: The text to show in `ps`, as far as that can be had: as the whole title where setproctitle
            is installed for the interpreter, else within the command line, and as the short name on Linux, cut to
            15 bytes. None leaves it as it is.
        host: The interface to listen on. It is what the name server tells the clients.
        name: The program's name, for errors and listings; None for one with `service_name` in it.
        python, env: The interpreter, and its whole environment; None for this process's own.
        cwd: The directory to start in; None for this process's own. Modules are looked for there first.
        pythonpath: Directories to look for modules in after that, before those of `PYTHONPATH`.
        grace_period: Seconds from SIGTERM to SIGKILL; 0 kills at once. Calls that are running are cut off.
        crash_grace: The same once this process has died.
        output: See `servermgr.base.Manager.spawn`.
        **kwargs: Kept in `kwargs`.
    """

    def __init__(
        self,
        service_name: str,
        service: object,
        ns_host: str,
        ns_port: int,
        process_name: str | None = "Pyro Service",
        *,
        host: str = "127.0.0.1",
        name: str | None = None,
        python: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        pythonpath: Iterable[str | os.PathLike[str]] = (),
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        output: Target = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name or f"pyro_service {service_name}", **kwargs)
        if isinstance(service, str) and not _pyro_order.is_import_path(service):
            raise ValueError(f"a service given as text is an import path, 'package.module:name', not {service!r}")
        self.service_name = service_name
        self.service = service
        self.ns_host = ns_host
        self.ns_port = ns_port
        self.process_name = process_name
        self.host = host
        self.python = python
        self.env = env
        self.cwd = cwd
        self.pythonpath = list(pythonpath)
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.output = output
        self._token = ""

    @property
    def uri(self) -> str:
        """What a client makes its proxy with."""
        return f"PYRONAME:{self.service_name}@{endpoint(self.ns_host, self.ns_port)}"

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start the service.

        Args:
            wait: Whether to return only when it can be called.
            timeout: Seconds for that; see `ready_wait`.

        Raises:
            LaunchError: Pyro5 is not installed, or the service cannot be pickled.
            WorkerExitedError: It ended at once, since it cannot be imported or unpickled, there is no name
                server, or another service has the name; the error shows its last output.
        """
        refuse_second(self)
        with self._named():
            python = Interpreter(self.python, env=self.env, cwd=self.cwd, pythonpath=self.pythonpath)
            python.require("Pyro5", "pyro")
            # Nobody else's object has this id: what answers to it is the one that was started here.
            self._token = secrets.token_hex(16)
            names = _pyro_client.names_uri(self.ns_host, self.ns_port)
            order = {"name": self.service_name, "names": names, "host": self.host, "token": self._token}
            path = _pyro_order.write(self.service, order)
            try:
                self.spawn(
                    python.command(_pyro_client.CHILD, self.process_name, ["service", path]),
                    env=python.env,
                    cwd=python.cwd,
                    grace_period=self.grace_period,
                    crash_grace=self.crash_grace,
                    output=self.output,
                    removes=[path],
                )
            except BaseException:
                _pyro_order.remove(path)
                raise
        if wait:
            self.ready_wait(timeout)

    def health(self) -> None:
        """Look the service up by its name, connect to it, and call its own `health`, if it has one to call.

        Raises:
            WorkerError: The name server does not answer or knows nothing of it, another object has its name, it
                cannot be connected to, or its own `health` raises, or returns False.
        """
        self._ask_within(ATTEMPT_LIMIT)

    def _ask_within(self, limit: float) -> None:
        if self.process is None:
            raise WorkerError(None, "is not running", name=self.name)
        with self._named(), _pyro_client.proxy(self._lookup(limit), limit) as service:
            if self._call(service) is False:
                raise WorkerError(None, "its own health check says no")

    def _lookup(self, limit: float) -> str:
        with _pyro_client.locate(self.ns_host, self.ns_port, limit) as names:
            uri = _pyro_client.look_up(names, self.service_name)
        if uri.removeprefix("PYRO:").partition("@")[0] != self._token:
            raise WorkerError(None, f"another service is registered as {self.service_name!r}: {uri}")
        return uri

    def _call(self, service: Any) -> object:
        try:
            service._pyroBind()
            return service.health() if "health" in service._pyroMethods else None
        except Exception as error:  # Pyro's errors, the system's, and what the service's own health raises, of any kind
            raise WorkerError(error, f"{self.service_name!r} does not answer that it is well") from error


if __name__ == "__main__":
    from servermgr._pyro_service_cli import main

    raise SystemExit(main())
