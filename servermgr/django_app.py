"""A Django application as a managed server, run by gunicorn, uvicorn or Django's own `runserver`.

::

    app = Manager("127.0.0.1", 8000, "mysite.settings", cwd="/srv/mysite")
    with app:
        urllib.request.urlopen(app.url)

Alone: `python -m servermgr.django_app --help`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from servermgr import _web_manager

if TYPE_CHECKING:
    from typing import Any

    from servermgr._python_program import Interpreter

__all__ = ["Manager"]

#: Those that can be handed a socket, best first; and the one that Django brings.
_SERVERS = ("gunicorn", "uvicorn")
_RUNSERVER = "runserver"
#: What Django itself makes of the settings; the first honours WSGI_APPLICATION, as `runserver` does.
_WSGI = "django.core.servers.basehttp:get_internal_wsgi_application()"
_ASGI = "django.core.asgi:get_asgi_application()"
_SETTINGS = re.compile(r"[\w.]+")


class Manager(_web_manager.WebManager):
    """A Django application.

    Its modules are imported by the server alone, never by this process. gunicorn and uvicorn are handed a socket
    that listens already: with `port=0` nobody can take the port before they do, and a client that connects early
    waits instead of being refused. `runserver` binds for itself; there `port=0` is a port that servermgr lends to
    one server at a time.

    Args:
        host: The interface to listen on, an address or a name; `""` is every one.
        port: The port; 0 for a free one, drawn at each start: `port` and `url` tell it then.
        settings: Name of the settings module, as `mysite.settings`. It is looked for in `cwd`, in `pythonpath`
            and where the interpreter looks.
        name: The program's name, for errors and listings.
        process_name: The text to show in `ps`, as far as that can be had: as the whole title where setproctitle
            is installed for the interpreter, else within the command line, and as the short name on Linux. None
            leaves it to the server.
        server: `"gunicorn"` (WSGI), `"uvicorn"` (ASGI) or `"runserver"`, which restarts itself when a source
            file changes. None: the first of them that is installed.
        application: `package.module:name`, or `package.module:factory()`, in place of what Django makes of the
            settings. Not for `runserver`.
        reload: Whether `runserver` watches the source files. It then waits for a better version of one that it
            cannot run, so such a start ends by its timeout. The other servers never watch.
        **kwargs: `env` (the server's whole environment; None for this process's own at the time of `start`),
            `cwd` (the directory to start in; None for this process's own), `pythonpath` (directories to look for
            modules in, before those of `PYTHONPATH`), `python` (the interpreter; None for the one that runs
            this), `workers` (number of worker processes; None leaves that to the server; `runserver` has none),
            `server_args` (more arguments for the server), `health_path` (see `health`) and `health_host` (the
            Host header for that; None for the address itself), `grace_period` (seconds from SIGTERM to SIGKILL; 0
            kills at once), `crash_grace` (the same once this process has died), `output` (see
            `servermgr.base.Manager.spawn`). Others are kept in `kwargs`.

    Raises:
        ValueError: There is no such server, that is no name of a module, or options contradict each other.
    """

    def __init__(
        self,
        host: str,
        port: int,
        settings: str,
        name: str = "DjangoApp",
        process_name: str | None = None,
        *,
        server: str | None = None,
        application: str | None = None,
        reload: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(host, port, name=name, process_name=process_name, **kwargs)
        if server not in (*_SERVERS, _RUNSERVER, None):
            raise ValueError(f"server must be one of {', '.join((*_SERVERS, _RUNSERVER))}, or None, not {server!r}")
        if not _SETTINGS.fullmatch(settings):
            raise ValueError(f"settings must be the name of a module, as 'mysite.settings', not {settings!r}")
        if server == _RUNSERVER and (application is not None or self.workers is not None):
            raise ValueError("runserver has neither workers nor another application than the settings'")
        self.settings = settings
        self.server = server
        self.application = application
        self.reload = reload

    def _environment(self) -> dict[str, str]:
        return {"DJANGO_SETTINGS_MODULE": self.settings}

    def _command(self, python: Interpreter, timeout: float | None) -> _web_manager.Command:
        python.require("django", "django")
        # What only they can do is no reason to fall back to the one that cannot.
        fallback = _RUNSERVER if self.application is None and self.workers is None else None
        server = _web_manager.choose(python, self.server, _SERVERS, fallback=fallback)
        if server == "gunicorn":
            return _web_manager.gunicorn(self, self.settings, self.application or _WSGI)
        if server == "uvicorn":
            # Django has nothing to do at start-up and shutdown, and calls the question an error.
            lifespan = ("--lifespan", "off") if self.application is None else ()
            return _web_manager.uvicorn(self, self.settings, self.application or _ASGI, *lifespan)
        options = [] if self.reload else ["--noreload"]
        return _web_manager.Command(_RUNSERVER, self.settings, [*options, *self.server_args])


if __name__ == "__main__":
    from servermgr._django_app_cli import main

    raise SystemExit(main())
