"""The ledger: one record for each running tree, in a directory of this user's own.

It is the second net, for the case that owner and guardian are both gone: `sweep` reads it and ends what has
no living owner. A record is a hint like a pidfile; nothing in it gets a process signalled without proof.

The guardian writes the record of its tree before the command runs, appends to it who the worker is, and removes it when
the tree is gone; see `guardian.record`.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from servermgr import _ledger_fields
from servermgr.identity import Identity, realm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from servermgr.tree import LaunchSpec

#: Names the directory of the ledger, instead of the user's state directory.
DIRECTORY_VARIABLE = "SERVERMGR_LEDGER"
_VERSION = 1
_LONGEST = 262144  # bytes: what `draft` can make of the longest paths, and then some
_SHOWN = 2048  # characters of the command: it is for people to read, nobody runs it again
_MOST_REMOVES = 16  # files: leases are the first and often the only ones
_MOST_GRACE = 3600.0  # seconds that a sweep waits at most, whatever the server's own patience
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
        guardian: The guardian; see `is_guarded`.
        worker: The worker, once it was known; the launcher of a daemonizing server until then.
        session: The session that the command was started in: its launcher's pid.
        argv: The command.
        pidfile: Of a daemonizing server, or None.
        ports: What it was told to listen on, as `host:port`.
        removes: Files that go with the tree. Nobody removes them on a record's word; a lease among them is the tree's.
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
    removes: tuple[str, ...]
    log: str | None
    removes_log: bool
    keep: bool
    stop_signal: int
    grace_period: float
    crash_grace: float
    started: float

    @property
    def is_guarded(self) -> bool:
        """Whether it is a guardian; on Windows the entry names the owner instead, or the worker of a kept tree."""
        return self.guardian not in (self.owner, self.worker)


def directory() -> str:
    """Where the records are: `$SERVERMGR_LEDGER`, else `servermgr/ledger` in the user's state directory.

    Not an absolute path for a user without a home directory, and then nowhere.
    """
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given:
        return os.path.abspath(given)
    from platformdirs import user_state_path  # noqa: PLC0415  # with the first tree, not with the import

    try:
        return str(user_state_path("servermgr") / "ledger")
    except RuntimeError:  # from platformdirs 4.4 on; before, it returned the path with its "~"
        return "~/.local/state/servermgr/ledger"


def prepare() -> str | None:
    """The directory, made if need be, after a look at whose it is. None, said once, where there can be none."""
    path = directory()
    try:
        complaint = _make(path)
    except OSError as error:
        complaint = str(error)
    if complaint:
        _say_once(
            f"no record of running servers can be kept in {path} ({complaint}): if this process and the guardian are "
            f"both killed, sweep will not find what they leave; set {DIRECTORY_VARIABLE} to a directory of your own"
        )
        return None
    return path


def _make(path: str) -> str:
    if not os.path.isabs(path):  # "~" would become a folder wherever this program happens to be
        return "this user has no home directory"
    os.makedirs(path, mode=0o700, exist_ok=True)
    return distrust(os.lstat(path), directory=True)


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
        "name": str(name).replace("\0", ""),  # managers are named with any object, and are found by it all the same
        "marker": spec.marker,
        "realm": realm(),
        "owner": owner,
        "argv": _shown(spec.argv),
        "pidfile": spec.pidfile,
        "ports": ports,
        "removes": spec.removes[:_MOST_REMOVES],
        "log": spec.output.path,
        "removes_log": spec.output.removes,
        "keep": spec.keep,
        "stop_signal": spec.stop_signal,
        "grace_period": spec.grace_period,
        "crash_grace": spec.crash_grace,
    }
    text = json.dumps(fields)
    return text[:-1].encode() + b", "


def _shown(argv: list[str]) -> list[str]:
    """The command, cut to a length: a record that is too long to be read back would be none."""
    shown: list[str] = []
    room = _SHOWN
    for word in argv:
        if room <= 0:
            return [*shown, "…"]
        shown.append(word[:room])
        room -= len(word) + 1
    return shown


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
        removes=(),
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


def marker_of(path: str) -> str:
    """The marker of the tree whose record a file is, by its name; empty for any other file."""
    name = os.path.basename(path)
    try:
        return _ledger_fields.marker(name.removesuffix(_SUFFIX)) if name.endswith(_SUFFIX) else ""
    except ValueError:
        return ""


def records() -> list[Record]:
    """Every record of this user that can be believed, oldest first. Others are left where they are."""
    found = [record for _, record in entries() if record is not None]
    return sorted(found, key=lambda record: record.started)


def entries() -> Iterator[tuple[str, Record | None]]:
    """Every file of the ledger, with its record, or None for one that cannot be believed or read."""
    path = directory()
    try:
        if not os.path.isabs(path) or distrust(os.lstat(path), directory=True):
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
        record = _parse(path, _ledger_fields.joined(text))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
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
        name=_ledger_fields.text(fields["name"]),
        marker=_ledger_fields.marker(fields["marker"]),
        realm=_ledger_fields.text(fields["realm"]),
        # The main program of a container is 1, and may own servers; nobody ever signals an owner.
        owner=_ledger_fields.identity(fields["owner"], least=1),
        guardian=_ledger_fields.identity(fields["guardian"]),
        worker=None if fields["worker"] is None else _ledger_fields.identity(fields["worker"]),
        session=_ledger_fields.number(fields["session"]),
        argv=tuple(map(_ledger_fields.text, fields["argv"])),
        pidfile=_ledger_fields.optional_text(fields["pidfile"]),
        ports=tuple(map(_ledger_fields.text, fields["ports"])),
        removes=tuple(map(_ledger_fields.text, fields["removes"])),
        log=_ledger_fields.optional_text(fields["log"]),
        removes_log=fields["removes_log"] is True,
        keep=fields["keep"] is True,
        stop_signal=_ledger_fields.number(fields["stop_signal"], 64),
        grace_period=min(_MOST_GRACE, _ledger_fields.seconds(fields["grace_period"])),
        crash_grace=min(_MOST_GRACE, _ledger_fields.seconds(fields["crash_grace"])),
        started=_ledger_fields.seconds(fields["started"]),
    )
