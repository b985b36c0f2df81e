"""Any WSGI or ASGI application as a managed server, run by gunicorn or uvicorn.

::

    app = Manager("127.0.0.1", 0, "mysite.app:application")
    with app:
        urllib.request.urlopen(app.url)

Alone: `python -m servermgr.web_app --help`.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from servermgr import _web_manager
from servermgr.errors import ReadyTimeoutError, WorkerExitedError

if TYPE_CHECKING:
    from typing import Any

    from servermgr._python_program import Interpreter

__all__ = ["Manager"]

_SERVERS = {"wsgi": ("gunicorn",), "asgi": ("uvicorn",), None: ("gunicorn", "uvicorn")}
_INTERFACES = {"gunicorn": "wsgi", "uvicorn": "asgi"}
_APPLICATION = re.compile(r"[\w.]+:[\w.]+(\(\))?")


class Manager(_web_manager.WebManager):
    """A WSGI application in gunicorn, or an ASGI application in uvicorn.

    The server is handed a socket that listens already. So with `port=0` nobody can take the port before it does,
    and a client that connects early waits instead of being refused. The application is imported by the server
    alone, never by this process.

    Args:
        host: The interface to listen on, an address or a name; `""` is every one (IPv4 and IPv6).
        port: The port; 0 for a free one, drawn at each start: `port` and `url` tell it then.
        application: `package.module:name`, or `package.module:factory()` for a callable that makes it.
        name: The program's name, for errors and listings.
        process_name: The text to show in `ps`, as far as that can be had: as the whole title where setproctitle
            is installed for the interpreter, else within the command line, and as the short name on Linux. None
            leaves it to the server.
        interface: `"wsgi"` or `"asgi"`. None: what the one server that is told or installed speaks; where both
            are installed, a process of its own imports the application and looks.
        server: `"gunicorn"` for WSGI or `"uvicorn"` for ASGI; None for the one that fits and is installed.
            Naming one and the other's interface is meant for a worker class in `server_args`.
        **kwargs: `env`, `cwd`, `pythonpath`, `python`, `workers`, `server_args`, `health_path`, `health_host`,
            `grace_period`, `crash_grace`, `output`: as for `servermgr.django_app.Manager`.

    Raises:
        ValueError: There is no such server or interface, or that is no name of an application.
    """

    def __init__(
        self,
        host: str,
        port: int,
        application: str,
        name: str = "WebApp",
        process_name: str | None = None,
        *,
        interface: str | None = None,
        server: str | None = None,
        **kwargs: Any,
    ) -> None:
        if interface not in _SERVERS:
            raise ValueError(f"interface must be 'wsgi', 'asgi' or None, not {interface!r}")
        if server is not None and server not in _INTERFACES:
            raise ValueError(f"server must be 'gunicorn', 'uvicorn' or None, not {server!r}")
        if not _APPLICATION.fullmatch(application):
            raise ValueError(f"application must be 'package.module:name', not {application!r}")
        super().__init__(host, port, name=name, process_name=process_name, **kwargs)
        self.application = application
        self.interface = interface
        self.server = server

    def _command(self, python: Interpreter, timeout: float | None) -> _web_manager.Command:
        known = _SERVERS[self.interface if self.server is None else None]
        if self.server is None and self.interface is None and not python.missing(*known):
            known = _SERVERS[self._look(python, timeout)]
        server = _web_manager.choose(python, self.server, known)
        make = _web_manager.gunicorn if server == "gunicorn" else _web_manager.uvicorn
        return make(self, self.application, self.application)

    def _look(self, python: Interpreter, timeout: float | None) -> str:
        """Have a process of its own import the application, held as the server will be."""
        argv = python.command("_web_child.py", self.process_name, ["look", self.application])
        process = self.spawn(argv, env=python.env, cwd=python.cwd, grace_period=0.0)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            text = f"its application was not imported within {timeout} s, to see whether it is WSGI or ASGI"
            raise ReadyTimeoutError(error, text, output=self.output_tail()) from error
        finally:
            self.stop()
        said = self.output_tail()
        interface = next((line for line in reversed(said) if line in _INTERFACES.values()), None)
        if status != 0 or interface is None:
            raise WorkerExitedError(None, "its application cannot be imported", status=status, output=said)
        return interface


if __name__ == "__main__":
    from servermgr._web_app_cli import main

    raise SystemExit(main())
