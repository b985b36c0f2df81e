"""The recorded trees as the command line shows them: who is in them, how big, and where they listen."""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from servermgr import platform, sweeping
from servermgr._cli_look import WARNING
from servermgr.errors import WorkerError
from servermgr.leftovers import Leftovers
from servermgr.tree import infos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servermgr._cli_look import Look
    from servermgr.ledger import Record
    from servermgr.tree import ProcessInfo

LIVE, KEPT, LEFT_OVER = "live", "kept", "left over"


class Member(NamedTuple):
    """A process of a tree.

    Attributes:
        pid, ppid, name, depth: As `tree.ProcessInfo`.
        memory: Resident bytes; None where this user may not know.
        ports: Where it listens, as `host:port`.
    """

    pid: int
    ppid: int
    name: str
    depth: int
    memory: int | None
    ports: tuple[str, ...]


class Standing(NamedTuple):
    """A recorded tree as it stands now.

    Attributes:
        record: What the ledger knows.
        state: `live` (its owner lives), `kept` (meant to outlive its owner) or `left over`.
        age: Seconds since its start.
        owner: The owner's name; None once he is dead.
        members: Who lives in it, parents before their children.
    """

    record: Record
    state: str
    age: float
    owner: str | None
    members: tuple[Member, ...]

    @property
    def memory(self) -> int:
        """Resident bytes of all of it, as far as they are known."""
        return sum(member.memory or 0 for member in self.members)

    def data(self) -> dict[str, Any]:
        """All of it for machines."""
        record = self.record
        return {
            "name": record.name,
            "state": self.state,
            "worker": None if record.worker is None else record.worker.pid,
            "guardian": record.guardian.pid,
            "owner": record.owner.pid,
            "owner_name": self.owner,
            "age": round(self.age, 3),
            "memory": self.memory,
            "ports": list(record.ports),
            "argv": list(record.argv),
            "pidfile": record.pidfile,
            "log": record.log,
            "processes": [member._asdict() for member in self.members],
        }


def standing(records: Sequence[Record] | None = None) -> list[Standing]:
    """The recorded trees, or those given, as they stand."""
    return [_standing(record) for record in (sweeping.recorded() if records is None else records)]


def _standing(record: Record) -> Standing:
    stat = platform.read_stat(record.owner.pid) if record.owner.is_alive() else None
    members = tuple(_member(info) for info in processes(record))
    age = max(0.0, time.monotonic() - record.started)
    return Standing(record, _state(record), age, None if stat is None else stat.name, members)


def _state(record: Record) -> str:
    if sweeping.is_left_over(record):
        return LEFT_OVER
    return LIVE if record.owner.is_alive() else KEPT


def tell_unreadable(look: Look) -> None:
    """Say which records cannot be read, and what can be done about them."""
    for found in sweeping.unreadable():
        remedy = _ALIVE.format(", ".join(map(str, found.pids))) if found.pids else _DEAD
        head = (f"a record cannot be read: {found.path}", WARNING)
        look.say(head, f": {found.why}; {remedy}", event="unreadable", **found._asdict())


#: What to do about a record that cannot be read.
_ALIVE = "of its server there live {}, to be ended by the version that started it; then delete the file"
_DEAD = "no process is known to be of its server: if none is, delete the file"


def processes(record: Record) -> list[ProcessInfo]:
    """Who lives in a recorded tree, parents before their children."""
    if record.is_guarded and record.guardian.is_alive():
        return infos(platform.descendants(record.guardian.pid))
    leftovers = Leftovers(record)
    try:
        stats = {pid: platform.read_stat(pid) for pid in leftovers.listing()}
    finally:
        leftovers.close()
    return infos({pid: stat.ppid for pid, stat in stats.items() if stat is not None})


def _member(info: ProcessInfo) -> Member:
    import psutil  # noqa: PLC0415  # only once there is something to look at

    memory: int | None = None
    ports: tuple[str, ...] = ()
    try:
        process = psutil.Process(info.pid)
        memory = process.memory_info().rss
        ports = tuple(_listening(process))
    except (psutil.Error, OSError):  # it has ended, or is another user's
        pass
    return Member(*info, memory, ports)


def _listening(process: Any) -> list[str]:
    from servermgr.addresses import endpoint  # noqa: PLC0415

    ask = getattr(process, "net_connections", None) or process.connections  # before psutil 6
    found = [endpoint(row.laddr.ip, row.laddr.port) for row in ask("tcp") if row.status == "LISTEN" and row.laddr]
    return sorted(set(found))


def named(name: str) -> list[Record]:
    """The recorded trees of that name.

    Raises:
        WorkerError: There is none; the text says which there are.
    """
    there = sweeping.recorded()
    found = [record for record in there if record.name == name]
    if not found:
        known = sorted({record.name for record in there})
        raise WorkerError(None, f"no server is called {name!r}{did_you_mean(name, known)}", known=known)
    return found


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a sentence that has refused a word."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    return f"; there are: {', '.join(known) or 'none at all'}"


def shown_age(seconds: float) -> str:
    """A time span for people."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def shown_memory(size: int | None) -> str:
    """Bytes for people."""
    return "?" if size is None else f"{size / 1048576:.1f} MB"
