"""The text of an nginx configuration: pure, without files and processes.

Paths of the server itself are relative: nginx is started with `-p base_dir`, so that base_dir is not part
of the text at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from servermgr._nginx_mappings import Site
from servermgr._nginx_quoting import (
    DOLLAR,
    ConfigurationError,
    authority,
    block,
    check_host,
    check_port,
    location,
    quote,
    quote_path,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from servermgr._nginx_mappings import Mapping

#: Where the server keeps its own files, below base_dir. `RUN` holds what only the master reads and writes.
LOG, RUN, TMP = "log", "run", "tmp"
PIDFILE, CONFIG, ERROR_LOG = f"{RUN}/nginx.pid", f"{RUN}/nginx.conf", f"{LOG}/error.log"
#: The status page for people and monitors, answered to this machine only.
STATUS_URL = "/nginx_status"

_TYPES = {
    "text/html": "html htm",
    "text/css": "css",
    "text/plain": "txt md rst log",
    "text/csv": "csv",
    "text/xml": "xml",
    "text/javascript": "js mjs",
    "application/json": "json map",
    "application/pdf": "pdf",
    "application/wasm": "wasm",
    "application/zip": "zip whl",
    "application/gzip": "gz tgz",
    "image/png": "png",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/svg+xml": "svg",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/x-icon": "ico",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "audio/mpeg": "mp3",
    "video/mp4": "mp4",
    "video/webm": "webm",
}


@dataclass
class Configuration:
    """Everything one configuration is made of.

    Attributes:
        host: The interface to listen on; `""` is every one, by IPv4 and, with `ipv6`, by IPv6.
        port: The port, from 1 to 65535; 0 while it is not known, and then nothing can be rendered.
        health_path: A path that nobody else uses, for the owner's own health check.
        http_root: A directory for URLs that no mapping matches; `""`: those are not found.
        foreground: Whether nginx stays the process that was started.
        account: Name and group of the worker processes' user; None leaves out the directive, which only
            root may use.
        ipv6: Whether `""` includes IPv6.
    """

    host: str
    port: int
    health_path: str
    http_root: str | os.PathLike[str] = ""
    foreground: bool = False
    account: tuple[str, str] | None = None
    ipv6: bool = True
    mappings: list[Mapping] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_port(self.port, least=0)
        check_host(self.host)
        if os.fspath(self.http_root):
            quote_path(self.http_root)

    def add(self, mapping: Mapping) -> None:
        """Add a mapping. The longest matching prefix wins, whatever the order."""
        if any(known.url_prefix == mapping.url_prefix for known in self.mappings):
            raise ConfigurationError(f"the URL prefix {mapping.url_prefix!r} has a mapping already")
        self.mappings.append(mapping)

    def render(self) -> bytes:
        """The configuration file, for nginx started with `-p base_dir`."""
        check_port(self.port)
        lines = [*self._main(), *block("events", ["worker_connections 512;"]), *block("http", self._http())]
        return "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")

    def _main(self) -> Iterator[str]:
        yield f"# Written by servermgr. Paths are relative to the directory given by: nginx -p DIRECTORY -c {CONFIG}"
        if self.account:
            yield f"user {quote(self.account[0])} {quote(self.account[1])};"
        yield f"daemon {'off' if self.foreground else 'on'};"
        yield "worker_processes 1;"
        yield f"pid {PIDFILE};"
        yield f"lock_file {RUN}/nginx.lock;"
        yield f"error_log {ERROR_LOG};"

    def _http(self) -> list[str]:
        lines = [f"access_log {LOG}/access.log;"]
        # The built-in places belong to root, so that an ordinary user could not start nginx at all.
        for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            lines.append(f"{module}_temp_path {TMP}/{module};")
        lines += block("types", [f"{kind} {names};" for kind, names in _TYPES.items()])
        # absolute_redirect off: behind a tunnel or a published port this server does not know its own URL.
        lines += ["default_type application/octet-stream;", "sendfile on;", "absolute_redirect off;"]
        body = self._upstreams() + block("server", self._server())
        if any(DOLLAR in line for line in body):
            lines += block("geo $servermgr_dollar", ['default "$";'])
        return lines + body

    def _named(self) -> Iterator[tuple[str, Mapping]]:
        return ((f"servermgr_{number}", mapping) for number, mapping in enumerate(self.mappings))

    def _upstreams(self) -> list[str]:
        # max_fails=0: a name with two addresses would otherwise be held dead for 10 s after one refused
        # connection, although the server behind it has come up meanwhile. Variables mean nothing in here.
        lines = []
        for name, mapping in self._named():
            if server := mapping.server():
                lines += block(f"upstream {name}", [f"server {quote(server)} max_fails=0;"])
        return lines

    def _listen(self) -> list[str]:
        if self.host:
            return [authority(self.host, self.port)]
        return [f"*:{self.port}"] + ([f"[::]:{self.port}"] if self.ipv6 else [])

    def _server(self) -> list[str]:
        http_root = os.fspath(self.http_root)
        lines = [f"listen {quote(address)};" for address in self._listen()]
        if http_root:
            lines.append(f"root {quote_path(http_root)};")
        elif all(mapping.url_prefix != "/" for mapping in self.mappings):
            lines += location("^~", "/", ["return 404;"])
        lines += location("=", self.health_path, ["stub_status;", "access_log off;"])
        if all(mapping.url_prefix != STATUS_URL for mapping in self.mappings):
            lines += location("=", STATUS_URL, ["stub_status;", "allow 127.0.0.1;", "allow ::1;", "deny all;"])
        for name, mapping in self._named():
            for lines_of_one in mapping.locations(Site(name, bool(http_root))):
                lines += lines_of_one
        return lines
