"""The name server of Pyro5 as a managed server.

::

    names = Manager("127.0.0.1", 0, "/srv/pyro")
    with names:
        Pyro5.api.locate_ns(names.host, names.port)

Alone: `python -m servermgr.pyro_ns --help`.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import servermgr.base
from servermgr import _pyro_client
from servermgr._python_program import Interpreter
from servermgr._server_options import checked_port
from servermgr._server_state import refuse_second
from servermgr.errors import LaunchError, WorkerError
from servermgr.ports import drawn
from servermgr.readiness import ATTEMPT_LIMIT
from servermgr.tree import CRASH_GRACE, GRACE_PERIOD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from servermgr.output import Target

__all__ = ["Manager"]

#: The registrations, below data_dir.
STORAGE = "names.sqlite"


class Manager(servermgr.base.Manager):
    """A name server whose registrations are kept: it knows them again after a restart.

    Pyro asks nobody for a password: whoever can connect can register and remove names. So let it listen on the
    loopback interface, unless everybody on the network may do that. It never answers broadcasts.

    Args:
        host: The interface to listen on, an address or a name.
        port: The port; 0 for one that servermgr lends to one server at a time: `port` tells it after the start.
            Pyro's own is 9090.
        data_dir: Directory for the registrations. Made if it is missing, its parents are not.
        name: The program's name, for errors and listings.
        process_name: The text to show in `ps`, as far as that can be had: as the whole title where setproctitle
            is installed for the interpreter, else within the command line, and as the short name on Linux, cut to
            15 bytes. None leaves it as it is.
        python: The interpreter; None for the one that runs this.
        env: The server's whole environment; None for this process's own at the time of `start`.
        grace_period: Seconds from SIGTERM to SIGKILL; 0 kills at once.
        crash_grace: The same once this process has died.
        output: See `servermgr.base.Manager.spawn`.
        **kwargs: Kept in `kwargs`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        data_dir: str | os.PathLike[str],
        name: str = "pyro_ns",
        process_name: str | None = "Pyro NameServer",
        *,
        python: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        grace_period: float = GRACE_PERIOD,
        crash_grace: float = CRASH_GRACE,
        output: Target = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.host = host
        self.port = checked_port(port)
        self.data_dir = os.path.abspath(data_dir)
        self.process_name = process_name
        self.python = python
        self.env = env
        self.grace_period = grace_period
        self.crash_grace = crash_grace
        self.output = output
        self._wanted_port = port

    @property
    def uri(self) -> str:
        """The name server's Pyro address, as it is reached from this machine."""
        return _pyro_client.names_uri(self.host, self.port)

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Start the name server.

        Args:
            wait: Whether to return only when it answers.
            timeout: Seconds for that; see `ready_wait`.

        Raises:
            AddressInUseError: Somebody else listens on the address.
            LaunchError: Pyro5 is not installed, or data_dir cannot be used.
        """
        refuse_second(self)
        with self._named():
            python = Interpreter(self.python, env=self.env)
            python.require("Pyro5", "pyro")
            _prepare(self.data_dir)
            with drawn(self.host, self._wanted_port) as lease:
                self.port = lease.port
                arguments = ["ns", self.host, str(self.port), f"sql:{os.path.join(self.data_dir, STORAGE)}"]
                self.spawn(
                    python.command(_pyro_client.CHILD, self.process_name, arguments),
                    env=python.env,
                    cwd=python.cwd,
                    grace_period=self.grace_period,
                    crash_grace=self.crash_grace,
                    output=self.output,
                    address=(self.host, self.port),
                    removes=lease.removes,
                )
        if wait:
            self.ready_wait(timeout)

    def health(self) -> None:
        """Ask the name server whether it is there.

        Raises:
            WorkerError: It cannot be located.
        """
        self._ask_within(ATTEMPT_LIMIT)

    def _ask_within(self, limit: float) -> None:
        if self.process is None:
            raise WorkerError(None, "is not running", name=self.name)
        with self._named(), _pyro_client.locate(self.host, self.port, limit):
            pass


def _prepare(data_dir: str) -> None:
    """Make the directory, and see whether it can be written to: sqlite's own words for that do not say where."""
    try:
        if not os.path.isdir(data_dir):
            os.mkdir(data_dir, 0o700)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise LaunchError(error, f"cannot use {data_dir} as data_dir") from error


if __name__ == "__main__":
    from servermgr._pyro_ns_cli import main

    raise SystemExit(main())
