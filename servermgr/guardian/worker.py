"""Who is the worker now: the command itself, or whom its pidfile names."""

from __future__ import annotations

import os

from servermgr.deadline import Deadline, pace
from servermgr.pidfile import Pidfile, PidfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from servermgr.guardian.brood import Brood
    from servermgr.guardian.protocol import Message

#: The status of a worker that ended where nobody could read its status (asyncio's child watchers say the same).
UNKNOWN_STATUS = 255
#: Longest pause between two looks at a pidfile that is late, in seconds.
_LONGEST_PAUSE = 0.25
#: Seconds for the successor of a worker that ended in order to write its pidfile. Some servers look only once a
#: second whether the process that they replace has gone.
SUCCESSION_PATIENCE = 2.0
_MOST_STATUSES = 256


class Worker:
    """Follows the worker from launcher to daemon, through re-exec, to its end.

    Args:
        pidfile: Where a daemonizing server writes its pid; None for one that stays in the foreground.

    Attributes:
        pid: The worker's pid; None while it is unknown and after it has ended.
        status: Its status as `Popen.returncode`; None until it has ended.
        ended: Whether it has ended for good.
    """

    def __init__(self, pidfile: bytes | None) -> None:
        self._pidfile = Pidfile(os.fsdecode(pidfile)) if pidfile else None
        self._since = Deadline(None)
        self._launcher = 0
        self._statuses: dict[int, int] = {}
        self._named: int | None = None
        self._succession: Deadline | None = None
        self._is_child = True
        self.pid: int | None = None
        self.status: int | None = None
        self.ended = False

    def launched(self, pid: int) -> None:
        """The command runs as `pid`."""
        self._launcher = pid
        self.pid = None if self._pidfile else pid

    def child_ended(self, pid: int, status: int) -> None:
        """A direct child of the guardian was reaped."""
        # While the worker is unknown it may be anyone: a daemon that dies at once is reaped before it is named.
        unknown = self.pid is None and len(self._statuses) < _MOST_STATUSES
        if unknown or pid in (self._launcher, self.pid, self._named):
            self._statuses[pid] = status

    def follow(self, brood: Brood) -> list[Message]:
        """Look again. Returns what the owner should hear."""
        if self.ended:
            return []
        if self._pidfile is None:
            return self._end(self._launcher) if self._launcher in self._statuses else []
        return self._follow_pidfile(self._pidfile, brood)

    def pause(self, glance: float) -> float | None:
        """Seconds until the next look; None where only an event can change something.

        Args:
            glance: Seconds between two looks at a worker that is no child of the guardian.
        """
        if self.ended or self._pidfile is None:
            return None
        if self.pid is None:
            elapsed = (self._succession or self._since).elapsed
            return min(_LONGEST_PAUSE, max(pace(elapsed), elapsed / 100))
        # A worker that is no child of the guardian cannot be waited for; its end shows in the listing.
        return None if self._is_child else glance

    def remove_pidfile(self) -> None:
        """Remove the pidfile that the last worker left behind, if it still names it."""
        if self._pidfile is not None and self._named is not None:
            self._pidfile.remove_if_names(self._named)

    def _follow_pidfile(self, pidfile: Pidfile, brood: Brood) -> list[Message]:
        if self.pid is not None and not self._has_ended(self.pid, brood):
            return []
        candidate = self._candidate(pidfile)
        if candidate is not None and brood.accepts(candidate, *pidfile.written):
            return self._now(candidate, brood)
        self.pid = None
        if self._named is None or self._named == self._launcher:
            return self._failed_launch(brood)
        return [] if self._may_be_succeeded(self._named, pidfile, brood) else self._end(self._named)

    def _may_be_succeeded(self, ended: int, pidfile: Pidfile, brood: Brood) -> bool:
        """Whether one of those left may be about to take over, as after a server has replaced its program."""
        if brood.empty() or self._statuses.get(ended, 0) != 0 or pidfile.names(ended):
            return False  # nobody is left, or it crashed: who ends in order, for another or not, cleans up
        if self._succession is None:
            self._succession = Deadline(SUCCESSION_PATIENCE)
        return not self._succession.expired

    def _has_ended(self, pid: int, brood: Brood) -> bool:
        if pid in self._statuses:
            return True
        if not self._is_child:  # its parent may be gone by now, which makes it ours
            self._is_child = brood.is_child(pid)
        return not self._is_child and not brood.holds(pid)

    def _candidate(self, pidfile: Pidfile) -> int | None:
        try:
            return pidfile.fresh_pid()
        except PidfileError:
            return None  # the owner, who has a deadline and a person to tell, says what is wrong with it

    def _now(self, pid: int, brood: Brood) -> list[Message]:
        self.pid = self._named = pid
        self._succession = None
        self._statuses.pop(pid, None)  # of a dead one whose number it has been given
        self._is_child = brood.is_child(pid)
        return [{"is": "worker", "pid": pid}]

    def _failed_launch(self, brood: Brood) -> list[Message]:
        """The launcher failed, or left nobody behind: then nobody will ever write the pidfile."""
        status = self._statuses.get(self._launcher)
        if status is None or (status == 0 and not brood.empty()):
            return []
        # A daemon that failed after its launcher said "fine" has the more telling status.
        failed = [pid for pid, ended in self._statuses.items() if ended != 0]
        return self._end(failed[-1] if failed else self._launcher)

    def _end(self, pid: int) -> list[Message]:
        self.status = self._statuses.get(pid, UNKNOWN_STATUS)
        self.pid = None
        self.ended = True
        return [{"is": "ended", "status": self.status}]
