"""Claims on ports, as files beside the ledger's records: who holds which port, taken and freed by one step each.

`ports/8123/` is a directory with one file in it while port 8123 is held, and empty or missing while it is not. The
claim is written in a directory of its own, which is then renamed to `ports/8123`: rename(2) puts a directory over an
empty one and never over one with a file in it, so of two takers one gets the port, and a claim is there whole or not
at all. Its file has a name of its own (128 random bits): whoever frees a port (its owner, the guardian of the server
that got it, a sweep) removes that claim, and never the one that somebody else has put in its place meanwhile.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from typing import NamedTuple

from servermgr import _ledger_fields, ledger, platform
from servermgr.identity import Identity, is_of_earlier_boot, realm

_FOLDER = "ports"
#: A claim that has not found its port yet; the pid of its maker follows.
_IN_MAKING = ".new-"
_VERSION = 1
_LONGEST = 4096  # bytes of a claim
_TRIES = 3
#: What rename says of a place that is taken: by a claim (POSIX; Windows), or by what is no directory at all.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.ENOTDIR)

_log = logging.getLogger("servermgr")
_said = False
#: Ports of this process where no file can say so, each with the token of its claim.
_unwritten: dict[int, str] = {}


class _Claim(NamedTuple):
    owner: Identity
    realm: str


def folder() -> str | None:
    """Where claims are, made if need be, after a look at whose it is. None, said once, where there can be none."""
    above = ledger.prepare()
    if above is None:
        _say_once(f"{ledger.directory()} cannot be used")
        return None
    path = os.path.join(above, _FOLDER)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        complaint = ledger.distrust(os.lstat(path), directory=True)
    except OSError as error:
        complaint = str(error)
    if complaint:
        _say_once(f"{path}: {complaint}")
        return None
    return path


def _say_once(why: str) -> None:
    global _said  # noqa: PLW0603  # once for each process
    if not _said:
        _said = True
        _log.warning("ports are drawn without a lease (%s): another program of yours may draw the same one", why)


class Claimant:
    """Takes a port for this process: a context manager that gives the port back, unless it is told to keep it.

    Without a folder, or where nothing can be written to it, only this process knows what it has taken.
    """

    def __init__(self) -> None:
        self._token = os.urandom(16).hex()
        self._folder = folder()
        self._place = ""

    def __enter__(self) -> Claimant:
        if self._folder is not None:
            self._make_or_do_without(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._place:
            free(os.path.join(self._place, self._token))

    def take(self, port: int) -> str | None:
        """Take the port, and give back the one taken before. None if somebody else holds it.

        Returns:
            The file of the claim; where none can be written, a file that does not exist.
        """
        target = os.path.join(self._folder or os.path.join(ledger.directory(), _FOLDER), str(port))
        if not (self._remember(port) if self._folder is None else self._move(target)):
            return None
        self._place = target
        return os.path.join(target, self._token)

    def keep(self) -> None:
        """What was taken last is kept, until `free`."""
        self._place = ""

    def _remember(self, port: int) -> bool:
        if _unwritten.setdefault(port, self._token) != self._token:  # one step, for the other threads
            return False
        _forget(os.path.basename(self._place), self._token)
        return True

    def _move(self, target: str) -> bool:
        for _ in range(_TRIES):
            try:
                os.rename(self._place, target)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                if not _vacate(target):
                    return False
            else:
                return True
        return False

    def _make_or_do_without(self, above: str) -> None:
        try:
            try:
                self._make(above)
            except FileNotFoundError:  # a sweep in another pid namespace, which could not see us alive
                self._make(above)
        except OSError as error:  # a full disk, a file system that is read-only by now
            _say_once(str(error))
            self.__exit__()
            self._folder, self._place = None, ""

    def _make(self, above: str) -> None:
        place = os.path.join(above, f"{_IN_MAKING}{os.getpid()}-{self._token}")
        os.makedirs(place, 0o700, exist_ok=True)  # at the second try it may be there
        self._place = place
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        content = json.dumps({"version": _VERSION, "owner": Identity.of(os.getpid()), "realm": realm()}).encode()
        fd = os.open(os.path.join(place, self._token), flags, 0o600)
        try:
            if os.write(fd, content) != len(content):
                raise OSError(errno.ENOSPC, "the disk is full")
        finally:
            os.close(fd)


def free(path: str) -> None:
    """Remove the claim in a file, if it is there still. Nobody else's claim is ever touched."""
    place, token = os.path.split(path)
    _forget(os.path.basename(place), token)
    _unlink(path)
    _remove_empty(place)


def _forget(port: str, token: str) -> None:
    if port.isdigit() and _unwritten.get(int(port)) == token:
        del _unwritten[int(port)]


def _vacate(place: str) -> bool:
    """Remove the claims of the dead. Returns whether the place may be free now."""
    if not _is_own_directory(place):
        return False
    for path in _files(place):
        if not _is_stale(path, os.path.basename(place)):
            return False
        _unlink(path)
    _remove_empty(place)  # Windows renames over nothing at all
    return True


def tidy() -> None:
    """Free the ports of dead owners, except those that a recorded tree still has."""
    above = os.path.join(ledger.directory(), _FOLDER)
    if not _is_own_directory(os.path.dirname(above)) or not _is_own_directory(above):
        return
    for place in _files(above):
        if not _is_in_making(os.path.basename(place)):
            _vacate(place)


def _is_in_making(name: str) -> bool:
    """Whether a living process is about to put a claim there: the place is empty at first, and is his."""
    maker = name.removeprefix(_IN_MAKING).partition("-")[0] if name.startswith(_IN_MAKING) else ""
    return maker.isascii() and maker.isdigit() and platform.is_alive(int(maker))


def _is_stale(path: str, port: str) -> bool:
    """Whether the claim's owner is dead, and no tree has the port from him. What cannot be believed is not judged."""
    claim = _read(path)
    if claim is None:
        return False
    here = realm()
    if claim.realm != here:
        return is_of_earlier_boot(claim.realm, here)
    # In this order: the tree is recorded before its owner can be dead.
    return not claim.owner.is_alive() and not _is_recorded(path, port, here)


def _is_recorded(path: str, port: str, here: str) -> bool:
    """Whether a tree has the port: it was told to listen there, or to take this very claim with it when it ends."""
    token = os.path.basename(path)
    return any(
        record.realm == here
        and (
            token in map(os.path.basename, record.removes)
            or any(address.rpartition(":")[2] == port for address in record.ports)
        )
        for record in ledger.records()
    )


def _read(path: str) -> _Claim | None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(path, flags)
    except OSError:  # freed meanwhile, or a link
        return None
    try:
        if ledger.distrust(os.fstat(fd)):
            return None
        fields = json.loads(os.read(fd, _LONGEST))
        if fields["version"] != _VERSION:
            return None
        return _Claim(_ledger_fields.identity(fields["owner"], least=1), _ledger_fields.text(fields["realm"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    finally:
        os.close(fd)


def _is_own_directory(path: str) -> bool:
    try:
        return not ledger.distrust(os.lstat(path), directory=True)
    except OSError:
        return False


def _files(path: str) -> list[str]:
    try:
        return [os.path.join(path, name) for name in os.listdir(path)]
    except OSError:  # removed meanwhile
        return []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # freed already, by the guardian as a rule


def _remove_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # gone, or somebody's again
