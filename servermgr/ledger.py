"""The ledger: one record for each running tree, in a directory of this user's own.

It is the second net, for the case that owner and guardian are both gone: `sweep` reads it and ends what has
no living owner. A record is a hint like a pidfile; nothing in it gets a process signalled without proof.

The guardian writes the record of its tree before the command runs and removes it when the tree is gone; see
`guardian.record`.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from servermgr.identity import Identity, realm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from servermgr.tree import LaunchSpec

#: Names the directory of the ledger, instead of the user's state directory.
DIRECTORY_VARIABLE = "SERVERMGR_LEDGER"
_VERSION = 1
_LONGEST = 65536  # a command line of some length, and then some
_SUFFIX = ".json"
#: What a half-written record is called; the guardian appends its pid.
PARTIAL = ".partial-"

_log = logging.getLogger("servermgr")
_said: set[str] = set()


class Record(NamedTuple):
    """What is known of one tree.

    Attributes:
        path: The record's own file.
        name: The manager's name.
        marker: The value of `SERVERMGR_TREE` in the tree's environment.
        realm: Where the numbers below mean something; see `identity.realm`.
        owner: The process that called `start`.
        guardian: The guardian.
        worker: The worker, once it was known.
        session: The session that the command was started in: its launcher's pid.
        argv: The command.
        pidfile: Of a daemonizing server, or None.
        ports: What it was told to listen on, as `host:port`.
        log: The file with its output, or None.
        removes_log: Whether that file goes with the tree.
        keep: Whether the tree may outlive its owner.
        stop_signal: The polite signal for the worker.
        grace_period: Seconds from the polite signal to the forced one.
        crash_grace: The same once the owner is gone.
        started: Seconds on the monotonic clock of its realm.
    """

    path: str
    name: str
    marker: str
    realm: str
    owner: Identity
    guardian: Identity
    worker: Identity | None
    session: int
    argv: tuple[str, ...]
    pidfile: str | None
    ports: tuple[str, ...]
    log: str | None
    removes_log: bool
    keep: bool
    stop_signal: int
    grace_period: float
    crash_grace: float
    started: float


def directory() -> str:
    """Where the records are: `$SERVERMGR_LEDGER`, else `servermgr/ledger` in the user's state directory."""
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given:
        return os.path.abspath(given)
    from platformdirs import user_state_path  # noqa: PLC0415  # with the first tree, not with the import

    return str(user_state_path("servermgr") / "ledger")


def prepare() -> str | None:
    """The directory, made if need be, after a look at whose it is. None, said once, where there can be none."""
    path = directory()
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        complaint = distrust(os.lstat(path), directory=True)
    except OSError as error:
        complaint = str(error)
    if complaint:
        _say_once(
            f"no record of running servers can be kept in {path} ({complaint}): if this process and the guardian are "
            f"both killed, sweep will not find what they leave; set {DIRECTORY_VARIABLE} to a directory of your own"
        )
        return None
    return path


def distrust(seen: os.stat_result, *, directory: bool = False) -> str:
    """Why a file or directory of the ledger must not be believed; empty if it may be."""
    if not (stat.S_ISDIR if directory else stat.S_ISREG)(seen.st_mode):
        return "it is a link or something else than it should be"
    getuid = getattr(os, "getuid", None)
    if getuid is None:  # Windows: the user's own profile is protected by its access list
        return ""
    if seen.st_uid != getuid():
        return f"it belongs to uid {seen.st_uid}"
    if seen.st_mode & 0o022 or (directory and seen.st_mode & 0o077):
        return f"others may write or look into it (mode {stat.S_IMODE(seen.st_mode):o})"
    return ""


def say_unrecorded(why: str) -> None:
    """A record could not be written: say so, once."""
    _say_once(f"a running server could not be recorded in {directory()} ({why}); see servermgr.ledger.prepare")


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        _log.warning("%s", text)


def draft(spec: LaunchSpec, *, name: str, ports: tuple[str, ...]) -> bytes:
    """The record of a tree to come, all but its last entries, which the guardian adds."""
    owner = Identity.of(os.getpid())
    fields = {
        "version": _VERSION,
        "name": name,
        "marker": spec.marker,
        "realm": realm(),
        "owner": owner,
        "argv": spec.argv,
        "pidfile": spec.pidfile,
        "ports": ports,
        "log": spec.output.path,
        "removes_log": spec.output.removes,
        "keep": spec.keep,
        "stop_signal": spec.stop_signal,
        "grace_period": spec.grace_period,
        "crash_grace": spec.crash_grace,
    }
    text = json.dumps(fields)
    return text[:-1].encode() + b", "


def sketch(spec: LaunchSpec, guardian: int) -> Record:
    """The record of a tree whose own record is gone or never was: what its owner knows."""
    nobody = Identity(0, 0)
    return Record(
        path="",
        name="",
        marker=spec.marker,
        realm=realm(),
        owner=nobody,
        guardian=Identity(guardian, 0),
        worker=None,
        session=0,
        argv=tuple(spec.argv),
        pidfile=spec.pidfile,
        ports=(),
        log=spec.output.path,
        removes_log=spec.output.removes,
        keep=spec.keep,
        stop_signal=spec.stop_signal,
        grace_period=spec.grace_period,
        crash_grace=spec.crash_grace,
        started=0.0,
    )


def record_path(folder: str, marker: str) -> str:
    """Where the record of a tree is."""
    return os.path.join(folder, marker + _SUFFIX)


def records() -> list[Record]:
    """Every record of this user that can be believed, oldest first. Others are left where they are."""
    found = [record for _, record in entries() if record is not None]
    return sorted(found, key=lambda record: record.started)


def entries() -> Iterator[tuple[str, Record | None]]:
    """Every file of the ledger, with its record, or None for one that cannot be believed or read."""
    path = directory()
    try:
        if distrust(os.lstat(path), directory=True):
            return
        names = sorted(os.listdir(path))
    except OSError:
        return
    for name in names:
        full = os.path.join(path, name)
        yield full, (read(full) if name.endswith(_SUFFIX) else None)


def read(path: str) -> Record | None:
    """The record in a file; None if it is gone, half-written, somebody else's, or nonsense."""
    try:
        text = _read_own(path)
        record = _parse(path, json.loads(text))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if os.path.basename(path) == record.marker + _SUFFIX else None


def _read_own(path: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path, flags)
    try:
        if distrust(os.fstat(fd)):
            raise ValueError(path)
        return os.read(fd, _LONGEST)
    finally:
        os.close(fd)


def _parse(path: str, fields: dict[str, Any]) -> Record:
    if fields["version"] != _VERSION:
        raise ValueError(path)
    return Record(
        path=path,
        name=_text(fields["name"]),
        marker=_marker(fields["marker"]),
        realm=_text(fields["realm"]),
        owner=_identity(fields["owner"]),
        guardian=_identity(fields["guardian"]),
        worker=None if fields["worker"] is None else _identity(fields["worker"]),
        session=_number(fields["session"]),
        argv=tuple(map(_text, fields["argv"])),
        pidfile=_optional_text(fields["pidfile"]),
        ports=tuple(map(_text, fields["ports"])),
        log=_optional_text(fields["log"]),
        removes_log=fields["removes_log"] is True,
        keep=fields["keep"] is True,
        stop_signal=_number(fields["stop_signal"], 64),
        grace_period=_seconds(fields["grace_period"]),
        crash_grace=_seconds(fields["crash_grace"]),
        started=_seconds(fields["started"], 1e12),
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _marker(value: object) -> str:
    text = _text(value)
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise ValueError(value)
    return text


def _number(value: object, most: int = 2**63) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(value)
    return value


def _seconds(value: object, most: float = 3600.0) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(value)
    return float(value)


def _identity(value: object) -> Identity:
    if not isinstance(value, list):
        raise TypeError(value)
    pid, start, serial = value
    # 0 and 1 are no process of ours; and kill(2) reads 0 and negative numbers as whole groups.
    if _number(pid, 2**31) <= 1 and os.getpid() != 1:
        raise ValueError(value)
    return Identity(_number(pid, 2**31), _number(start), _number(serial, 2**64))
