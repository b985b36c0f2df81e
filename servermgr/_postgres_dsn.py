"""Connection strings, as libpq and all that is built on it read them."""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN = re.compile(r"[^\s'\\]+")


class Database(NamedTuple):
    """One database of a server.

    Attributes:
        name: Its name.
        dsn: For clients of the libpq family: `psycopg.connect(database.dsn)`.
        url: The same as a URL.
    """

    name: str
    dsn: str
    url: str


def keywords(values: Mapping[str, str]) -> str:
    """`keyword=value` pairs."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in values.items())


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def url(values: Mapping[str, str]) -> str:
    """The same as a URL. A directory as host becomes an argument, since no URL has a path there."""
    rest = dict(values)
    user, name = (urllib.parse.quote(rest.pop(key), safe="") for key in ("user", "dbname"))
    host = rest["host"]
    where = ""
    if not host.startswith("/"):
        where = f"[{host}]:{rest['port']}" if ":" in host else f"{host}:{rest['port']}"
        del rest["host"], rest["port"]
    query = urllib.parse.urlencode(rest, quote_via=urllib.parse.quote, safe="")
    return f"postgresql://{user}@{where}/{name}" + (f"?{query}" if query else "")
