"""What a URL prefix of nginx leads to: files, a redirect, a FastCGI server, another web server."""

from __future__ import annotations

import os
import re
import string
import urllib.parse
from dataclasses import dataclass
from typing import NamedTuple

from servermgr._nginx_quoting import (
    DOLLAR,
    ConfigurationError,
    absolute,
    check_prefix,
    location,
    parse_authority,
    quote,
    quote_path,
    unix_socket,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from servermgr._nginx_quoting import AnyPath

_FASTCGI = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/$nginx_version",
    "SERVER_PROTOCOL": "$server_protocol",
    "SERVER_NAME": "$host",
    "SERVER_ADDR": "$server_addr",
    "SERVER_PORT": "$server_port",
    "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port",
    "REQUEST_METHOD": "$request_method",
    "REQUEST_URI": "$request_uri",
    "REQUEST_SCHEME": "$scheme",
    "QUERY_STRING": "$query_string",
    "CONTENT_TYPE": "$content_type",
    "CONTENT_LENGTH": "$content_length",
    "DOCUMENT_URI": "$document_uri",
    "SCRIPT_NAME": "$fastcgi_script_name",
    "PATH_INFO": "$fastcgi_path_info",
    "REDIRECT_STATUS": "200",
    # A client's "Proxy:" header would become HTTP_PROXY, which many programs take for their own proxy setting.
    "HTTP_PROXY": "",
}


class Site(NamedTuple):
    """What a mapping has to know of the configuration around it."""

    upstream: str
    """The name of the upstream block of this mapping."""
    has_root: bool
    """Whether there is a directory for what no mapping answers."""


@dataclass(frozen=True)
class Mapping:
    """A URL prefix, taken literally and given decoded: `/a b`, not `/a%20b`."""

    url_prefix: str

    def __post_init__(self) -> None:
        check_prefix(self.url_prefix)

    def server(self) -> str | None:
        """The address of the server behind, or None where there is none."""
        return None

    def locations(self, site: Site, /) -> Iterator[list[str]]:
        """The location blocks, each as its lines."""
        raise NotImplementedError


@dataclass(frozen=True)
class Filesystem(Mapping):
    """Files below a directory, with listings.

    The prefix matches whole path segments: a prefix without its slash would reach the siblings of the
    directory (`/files../x`).
    """

    directory: AnyPath

    def __post_init__(self) -> None:
        super().__post_init__()
        quote_path(self.directory)

    def locations(self, _site: Site, /) -> Iterator[list[str]]:
        slashed = self.url_prefix.removesuffix("/") + "/"
        directory = os.path.join(absolute(self.directory), "").replace("$", DOLLAR)
        yield location("^~", slashed, [f"alias {quote(directory)};", "autoindex on;"])
        if slashed != self.url_prefix:
            target = urllib.parse.quote(slashed, errors="surrogateescape") + "$is_args$args"
            yield location("=", self.url_prefix, [f"return 301 {quote(target)};"])


@dataclass(frozen=True)
class Redirect(Mapping):
    """A permanent redirect.

    `rewrite` is a template of nginx: `$1` is a matched group, `$host` a variable. A dollar of the URL itself
    is written `%24`.
    """

    pattern: str
    rewrite: str

    def __post_init__(self) -> None:
        super().__post_init__()
        quote(self.pattern)
        quote(self.rewrite)

    def locations(self, site: Site, /) -> Iterator[list[str]]:
        # Only characters that a URL may hold go into the Location header; a line break would end it.
        target = urllib.parse.quote(self.rewrite, safe=string.punctuation, errors="surrogateescape")
        lines = [f"rewrite {quote(self.pattern)} {quote(target)} permanent;"]
        yield location("^~", self.url_prefix, lines if site.has_root else [*lines, "return 404;"])


@dataclass(frozen=True)
class FastCgi(Mapping):
    """Requests for a FastCGI server at `host:port` or `unix:/path`."""

    destination: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.server()

    def server(self) -> str:
        return unix_socket(self.destination) or parse_authority(self.destination, self.destination, None)

    def locations(self, site: Site, /) -> Iterator[list[str]]:
        # What led here is SCRIPT_NAME, the rest is PATH_INFO (empty or with its slash), as CGI and WSGI define
        # them. Where the prefix ends inside a segment nothing matches, and SCRIPT_NAME is the whole path.
        mount = f"(?s)^({re.escape(self.url_prefix.removesuffix('/'))})(/.*|)$"
        params = dict(_FASTCGI)
        if site.has_root:
            params |= {"DOCUMENT_ROOT": "$document_root", "SCRIPT_FILENAME": "$document_root$uri"}
        lines = [f"fastcgi_split_path_info {quote(mount)};"]
        lines += [f"fastcgi_param {key} {quote(value)};" for key, value in params.items()]
        lines += ["fastcgi_param HTTPS $https if_not_empty;", f"fastcgi_pass {site.upstream};"]
        yield location("^~", self.url_prefix, lines)


@dataclass(frozen=True)
class Http(Mapping):
    """Requests for a web server at `http://host:port[/path]`, `host:port` or `unix:/path`."""

    destination: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _, path = self._parse()
        # One slash too many or too few would join the rest of the URL to the wrong place, silently.
        if path and path.endswith("/") != self.url_prefix.endswith("/"):
            raise ConfigurationError(
                f"{self.url_prefix!r} is replaced by {path!r} of {self.destination!r}: "
                "let both end with '/', or neither"
            )

    def _parse(self) -> tuple[str, str]:
        """The address for an upstream block, and the path (`''`: the path of the request is kept)."""
        quote(self.destination)
        if socket := unix_socket(self.destination):
            return socket, ""
        # Another scheme stays in the host, and is refused as such.
        host, slash, path = self.destination.removeprefix("http://").partition("/")
        if "?" in path or "#" in path:
            raise ConfigurationError(f"the destination {self.destination!r} has a query or a fragment")
        # Sent to the server as it is: so it is encoded here, the dollar too, which nginx would expand.
        encoded = urllib.parse.quote(slash + path, safe="/%:@!&'()*+,;=~", errors="surrogateescape")
        return parse_authority(host, self.destination, 80), encoded

    def server(self) -> str:
        return self._parse()[0]

    def locations(self, site: Site, /) -> Iterator[list[str]]:
        server, path = self._parse()
        host = "localhost" if server.startswith("unix:") else server
        public = urllib.parse.quote(self.url_prefix, errors="surrogateescape") if path else "/"
        lines = [
            f"proxy_pass {quote(f'http://{site.upstream}{path}')};",
            f"proxy_redirect {quote(f'http://{host}' + (path or '/'))} {quote(public)};",
            "proxy_http_version 1.1;",
            'proxy_set_header Connection "";',
            f"proxy_set_header Host {quote(host)};",
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            "proxy_set_header X-Forwarded-Host $http_host;",
            "proxy_set_header X-Forwarded-Proto $scheme;",
        ]
        yield location("^~", self.url_prefix, lines)
