"""PostgreSQL's own language, as far as one simple query needs it: start-up, query, rows, error.

A client library would cost a start more than the server needs to become ready, and would be a dependency for
asking `SELECT 1`. What is not spoken here is authentication: over the private socket none is asked for.

https://www.postgresql.org/docs/current/protocol-flow.html
"""

from __future__ import annotations

import struct

from servermgr._server_wire import Connection
from servermgr.errors import WorkerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    Row = tuple[str | None, ...]

_PROTOCOL = 3 << 16
#: The longest message that is taken for one.
_LONGEST = 1 << 26


class SqlError(WorkerError):
    """What the server says against a statement, or against the connection.

    Attributes:
        details: `code`, the five characters of PostgreSQL's list of error codes.
    """

    @property
    def code(self) -> str:
        """Five characters, such as `42P04`."""
        return str(self.details.get("code", ""))


class AuthenticationError(SqlError):
    """The server answers, and wants to know who is there in a way that is not spoken here."""


class Session(Connection):
    """A connection to one database, over a Unix socket.

    Args:
        path: The socket.
        user: The role.
        dbname: The database.
        timeout: Seconds for each answer; None waits for ever.

    Raises:
        OSError: Nobody answers there.
        AuthenticationError: A password is asked for, or the role is refused.
        SqlError: Another refusal, such as that there is no such database.
    """

    def __init__(self, path: str, user: str, dbname: str, timeout: float | None) -> None:
        self._who = user, dbname
        super().__init__(path, timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._connection.sendall(b"X" + struct.pack("!I", 4))  # else the server logs a lost connection
        except OSError:
            pass
        super().__exit__(kind, error, trace)

    def query(self, sql: str) -> list[Row]:
        """Run one statement, in a transaction of its own. Returns its rows, every value as text or None."""
        if "\0" in sql:
            raise ValueError("a statement cannot hold a NUL character")
        body = sql.encode() + b"\0"
        self._connection.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        return self._answer()

    def _greet(self) -> None:
        user, dbname = self._who
        pairs = {"user": user, "database": dbname, "application_name": "servermgr", "client_encoding": "UTF8"}
        words = [word for pair in pairs.items() for word in pair]
        if any("\0" in word for word in words):
            raise ValueError("a role or a database cannot hold a NUL character")
        body = struct.pack("!I", _PROTOCOL) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
        self._connection.sendall(struct.pack("!I", len(body) + 4) + body)
        self._answer()

    def _answer(self) -> list[Row]:
        """Read on until the server is ready for the next statement."""
        rows: list[Row] = []
        failure: SqlError | None = None
        while True:
            kind, body = self._message(failure)
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                failure = _failure(body)
            elif kind == b"R" and struct.unpack("!I", body[:4])[0] != 0:
                raise AuthenticationError(None, "the server asks for a password", code="28000")
            elif kind == b"Z":
                if failure is not None:
                    raise failure
                return rows

    def _message(self, failure: SqlError | None) -> tuple[bytes, bytes]:
        head = self._stream.read(5)
        if len(head) < 5:
            raise failure or WorkerError(None, "the server has closed the connection")
        length = struct.unpack("!I", head[1:])[0] - 4
        if not 0 <= length <= _LONGEST:
            raise WorkerError(None, "what answers does not speak PostgreSQL's protocol")
        return head[:1], self._stream.read(length)


def _row(body: bytes) -> Row:
    (count,) = struct.unpack("!H", body[:2])
    values: list[str | None] = []
    position = 2
    for _ in range(count):
        (length,) = struct.unpack("!i", body[position : position + 4])
        position += 4
        values.append(None if length < 0 else body[position : position + length].decode())
        position += max(0, length)
    return tuple(values)


def _failure(body: bytes) -> SqlError:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    code = fields.get(b"C", "")
    text = f"{fields.get(b'S', 'ERROR')}: {fields.get(b'M', '')}"
    for letter, word in ((b"D", "detail"), (b"H", "hint")):
        if letter in fields:
            text += f"; {word}: {fields[letter]}"
    kind = AuthenticationError if code.startswith("28") else SqlError  # class 28: invalid authorization
    return kind(None, text, code=code)


def identifier(name: str) -> str:
    """A name as it stands in a statement.

    Raises:
        ValueError: PostgreSQL cannot have it as a name; a long one it would cut off without a word.
    """
    if not name or "\0" in name or len(name.encode()) > 63:
        raise ValueError(f"{name!r} cannot be a name in PostgreSQL: it needs 1 to 63 bytes and no NUL")
    return '"' + name.replace('"', '""') + '"'
