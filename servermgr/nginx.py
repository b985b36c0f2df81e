"""nginx as a managed server.

::

    nginx = Manager("127.0.0.1", 8080, "/srv/site")
    nginx.add_filesystem_mapping("/static/", "/srv/site/static")
    nginx.add_http_mapping("/", "http://127.0.0.1:8000")
    with nginx:
        ...

Alone: `python -m servermgr.nginx --help`.
"""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import servermgr.base
from servermgr import accounts, ports
from servermgr._nginx_base_dir import prepare
from servermgr._nginx_config import CONFIG, ERROR_LOG, PIDFILE, Configuration
from servermgr._nginx_mappings import FastCgi, Filesystem, Http, Redirect
from servermgr._nginx_quoting import ConfigurationError, authority
from servermgr._server_state import refuse_second
from servermgr.addresses import reached_at
from servermgr.errors import LaunchError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from servermgr._nginx_mappings import Mapping
    from servermgr._nginx_quoting import AnyPath

__all__ = ["ConfigurationError", "Manager"]

#: Where packages put nginx, and where an ordinary user's PATH often does not look.
FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
#: Seconds for one health check, and for `nginx -t` (which looks up the host names of destinations).
HEALTH_TIMEOUT = 2.0
CHECK_TIMEOUT = 20.0


class Manager(servermgr.base.Manager):
    """An nginx with a configuration of its own, which nothing on the system adds to.

    Below base_dir it keeps `log/` (access.log, error.log), `run/` (nginx.conf, nginx.pid) and `tmp/`. One
    directory serves one nginx at a time. `/nginx_status` is nginx's status page, answered to this machine
    only. Among the mappings the longest matching prefix wins; prefixes are literal and given decoded
    (`/a b`, not `/a%20b`), and every value means itself, whatever characters it holds.

    `stop` sends SIGTERM: nginx closes its connections and ends at once, in milliseconds, taking its workers
    down itself. A SIGQUIT would wait for every open connection, idle ones included; for that, send it
    first: `manager.process.send_signal(signal.SIGQUIT)`, then `manager.wait()`.

    Args:
        host: The interface to listen on, an address or a name; `""` is every one (`0.0.0.0`: every one by
            IPv4, `::`: by IPv6).
        port: The port; 0 for a free one, drawn anew at each start (see `servermgr.ports`).
        base_dir: Directory for logs, configuration and temporary files. Made if it is missing, its parents
            are not.
        http_root: Directory for what no mapping matches, without listings; `""`: that is not found.
        *args: As for `servermgr.base.Manager`: the name.
        foreground: Whether nginx stays the process that is started, instead of a daemon with a pidfile.
        binary: The program, a path or a name; None looks for `nginx` in PATH and where packages put it.
        user: When started by root, the user for the worker processes, who must be allowed to read what is
            served. None: the owner of base_dir, if that is not root; else an unprivileged account
            (www-data, nginx, http, nobody); but root where base_dir is closed to all of these.
        grace_period: Seconds from SIGTERM to SIGKILL; 0 kills at once.
        **kwargs: As for `servermgr.base.Manager`.

    Raises:
        ConfigurationError: A value cannot be part of a configuration.
    """

    def __init__(
        self,
        host: str,
        port: int,
        base_dir: AnyPath,
        http_root: str | os.PathLike[str] = "",
        *args: Any,
        foreground: bool = False,
        binary: str | os.PathLike[str] | None = None,
        user: str | None = None,
        grace_period: float = 10.0,
        **kwargs: Any,
    ) -> None:
        self._is_named = bool(args) or "name" in kwargs
        if not self._is_named:
            kwargs["name"] = f"nginx {host or '*'}:{port}"
        super().__init__(*args, **kwargs)
        self._wanted_port = port
        if not os.fspath(base_dir):
            raise ConfigurationError("base_dir is empty")
        self.base_dir = os.path.abspath(os.fsdecode(base_dir))
        self.binary = binary
        self.user = user
        self.grace_period = grace_period
        # Nobody else has this path: an answer to it proves that it is this configuration that is in force.
        health_path = f"/.servermgr-{secrets.token_hex(16)}"
        root = os.path.abspath(http_root) if http_root else ""
        self._configuration = Configuration(host, port, health_path, root, foreground, ipv6=_has_ipv6())

    # --- mappings -----------------------------------------------------------------------------------------------

    def add_filesystem_mapping(self, url_prefix: str, directory: AnyPath) -> None:
        """Serve the files below a directory, with listings.

        Args:
            url_prefix: `/static` or `/static/`: both match `/static/x` and never `/staticx`.
            directory: A relative one is made absolute now.
        """
        self._add(Filesystem(url_prefix, os.path.abspath(directory) if directory else directory))

    def add_redirect_mapping(self, url_prefix: str, pattern: str, rewrite: str) -> None:
        r"""Redirect permanently (301).

        Args:
            url_prefix: URLs that begin with it are matched. Those that do not match are looked for in
                http_root.
            pattern: A regular expression (PCRE) for the whole decoded path, as `^/old/(\d+)$`.
            rewrite: Where to; `$1` is a matched group, and nginx's variables may be used (`$host`). A
                dollar sign of the URL itself is written `%24`.
        """
        self._add(Redirect(url_prefix, pattern, rewrite))

    def add_fastcgi_mapping(self, url_prefix: str, destination: str) -> None:
        """Forward requests to a FastCGI server.

        SCRIPT_NAME is the url_prefix and PATH_INFO the rest. With an http_root, DOCUMENT_ROOT and
        SCRIPT_FILENAME name what the URL means there.

        Args:
            url_prefix: URLs that begin with it.
            destination: `host:port` or `unix:/path`.
        """
        self._add(FastCgi(url_prefix, destination))

    def add_http_mapping(self, url_prefix: str, destination: str) -> None:
        """Forward requests to a web server (reverse proxy).

        Args:
            url_prefix: URLs that begin with it.
            destination: `http://host:port`, `host:port` or `unix:/path` get the URL as it came. With a path,
                `http://host:port/app/`, the path replaces url_prefix; then both end with `/`, or neither.
        """
        self._add(Http(url_prefix, destination))

    def _add(self, mapping: Mapping) -> None:
        self._configuration.add(mapping)

    # --- the server ---------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where it listens; with `port=0` known once it was started, 0 before."""
        return self._configuration.port

    @property
    def url(self) -> str:
        """Where the server is reached from this machine, once `port` is known."""
        return f"http://{authority(*self._reached_at())}/"

    def configuration(self) -> bytes:
        """The text of nginx.conf. Its relative paths are below base_dir: `nginx -p base_dir -c run/nginx.conf`."""
        self._configuration.account = self._account()
        return self._configuration.render()

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        """Write the configuration, have nginx check it, and start nginx.

        A change of the mappings counts from the next start.

        Args:
            wait: Whether to return only when nginx answers.
            timeout: Seconds for that; see `ready_wait`.

        Raises:
            LaunchError: There is no nginx, or base_dir cannot be used.
            ConfigurationError: What nginx itself says against the configuration.
            AddressInUseError: Somebody else listens.
        """
        refuse_second(self)
        with self._named(), ports.drawn(self._configuration.host, self._wanted_port) as lease:
            self._configuration.port = lease.port
            if not self._is_named:
                self.name = f"nginx {self._configuration.host or '*'}:{lease.port}"
            self._launch(lease.removes)
        if wait:
            self.ready_wait(timeout)

    def _launch(self, removes: Sequence[str]) -> None:
        configuration = self._configuration
        self.spawn(
            self._checked_command(),
            env=_environment(),
            pidfile=None if configuration.foreground else os.path.join(self.base_dir, PIDFILE),
            stop_signal=signal.SIGTERM,
            grace_period=self.grace_period,
            output=os.path.join(self.base_dir, ERROR_LOG),  # so that an error shows the log's last lines too
            address=(configuration.host, configuration.port),
            removes=removes,
        )

    def health(self) -> None:
        """Ask for the status page, at a path that only this manager's nginx has."""
        if self.process is None:
            raise WorkerError(None, "is not running", name=self.name)
        try:
            answer = self._status_page()
        except OSError as error:
            raise WorkerError(error, f"{self.url} does not respond", name=self.name) from error
        if b" 200 " not in answer.partition(b"\r\n")[0] or b"Active connections" not in answer:
            raise WorkerError(None, f"what answers at {self.url} is not this nginx", name=self.name)

    def _status_page(self) -> bytes:
        # By hand: an HTTP client would cost every start more than nginx needs to become ready.
        request = f"GET {self._configuration.health_path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        with socket.create_connection(self._reached_at(), HEALTH_TIMEOUT) as connection:
            connection.sendall(request.encode())
            with connection.makefile("rb") as stream:
                return stream.read(16384)

    def _reached_at(self) -> tuple[str, int]:
        host = self._configuration.host
        return reached_at(host), self._configuration.port

    def _account(self) -> tuple[str, str] | None:
        if accounts.effective_user() == 0:
            # By name: where there are no accounts, neither can the module be imported nor mypy see into it.
            workers = importlib.import_module("servermgr._nginx_account")
            account: tuple[str, str] = workers.choose(self.base_dir, self.user)
            return account
        if self.user is not None:
            raise ConfigurationError(f"only root can start nginx's workers as another user ({self.user!r})")
        return None

    def _checked_command(self) -> list[str]:
        """The command, with everything it needs in place and checked."""
        program = _find(self.binary)
        prepare(self.base_dir)
        path = os.path.join(self.base_dir, CONFIG)
        accounts.Runner().write(path, self.configuration())
        # -e: else an error log is opened where the package wants it, before the configuration is read.
        argv = [program, "-p", os.path.join(self.base_dir, ""), "-e", ERROR_LOG, "-c", path]
        _check([*argv, "-t", "-q"], path)
        return argv


def _check(argv: list[str], path: str) -> None:
    """Let nginx read the configuration; what it says against it is the error."""
    try:
        done = subprocess.run(
            argv, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(error, f"{argv[0]} could not check {path}") from error
    if done.returncode != 0:
        complaint = done.stderr.decode("utf-8", "backslashreplace").strip()
        raise ConfigurationError(None, f"nginx refuses its configuration {path}:\n{complaint}", status=done.returncode)


def _find(binary: str | os.PathLike[str] | None) -> str:
    wanted = os.fspath(binary or "nginx")
    found = shutil.which(wanted, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *FOLDERS)))
    if found is None:
        raise LaunchError(
            f"there is no program {wanted!r} in PATH or in {', '.join(FOLDERS)}: install nginx (apt install nginx, "
            "dnf install nginx, apk add nginx, brew install nginx), or pass its path as binary="
        )
    return found


def _environment() -> dict[str, str]:
    """Without NGINX: nginx takes its value for a list of sockets that it has inherited."""
    return {key: value for key, value in os.environ.items() if key != "NGINX"}


def _has_ipv6() -> bool:
    """Whether a wildcard can be listened on by IPv6; a kernel may have been built or booted without."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    from servermgr._nginx_cli import main

    raise SystemExit(main())
