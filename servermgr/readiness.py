"""Waiting for a server to be ready: ask, pause, ask again; the end of the worker ends the wait at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from servermgr import addresses, platform
from servermgr.deadline import Deadline, pace
from servermgr.errors import AddressInUseError, LaunchError, ReadyTimeoutError, WorkerError, WorkerExitedError
from servermgr.pidfile import PidfileError, read_pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from servermgr.tree import Tree

#: Longest single question, in seconds, for a server that accepts a connection and then says nothing.
ATTEMPT_LIMIT = 5.0
#: Shortest, so that a time-out of 0 or one that is nearly over still hears the answer of a server that is well.
ATTEMPT_LEAST = 0.25
#: Seconds until a verbose wait says the first word; each further word comes after twice the time.
_FIRST_WORD = 1.0


class Wait:
    """One wait for readiness.

    Args:
        tree: Whose worker is waited for.
        name: The manager's name, for the progress lines.
        ask: Called with the seconds it may take; content when it returns anything but False.
        address: Where the listener must be one of the tree's; None where there is none or it is not known.
        pidfile: Where the worker will write its pid; None for one that stays in the foreground.
        say: Called with a line of text now and then on a long wait; None for silence.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        name: str,
        ask: Callable[[float], object],
        address: tuple[str, int] | None,
        pidfile: str | None,
        say: Callable[[str], None] | None,
    ) -> None:
        self._tree = tree
        self._name = name
        self._ask = ask
        self._address = address
        self._pidfile = pidfile
        self._say = say
        self._next_word = _FIRST_WORD

    def until_ready(self, timeout: float | None) -> None:
        """Return when ready. Raises the `WorkerError` that says why it is not; ends nothing itself."""
        deadline = Deadline(timeout)
        self._refuse_ended(deadline)
        while True:
            began = deadline.elapsed
            reason = self._attempt(deadline)
            if reason is None:
                self._refuse_ended(deadline)  # one that has just failed to bind: somebody else answered for it
                return
            if deadline.expired:
                raise self._too_late(reason, deadline)
            self._report(reason, deadline)
            now = deadline.elapsed
            if self._tree.wait_worker(deadline.within(pace(now, now - began))):
                self._refuse_ended(deadline)

    def _attempt(self, deadline: Deadline) -> WorkerError | OSError | None:
        """Ask once. Returns why it is not ready, or None."""
        if not self._tree.wait_known(0.0):
            return WorkerError(None, self._why_unknown())
        try:
            content = self._ask(max(ATTEMPT_LEAST, deadline.within(ATTEMPT_LIMIT)))
        except NotImplementedError:  # nothing to ask: a worker that runs is all that there is to know
            content = None
        except (AddressInUseError, LaunchError):  # neither comes right by waiting
            raise
        except (WorkerError, OSError) as error:
            return error
        if content is False:
            return WorkerError(None, "the health check says: not yet")
        self._refuse_stranger()
        return None

    def _why_unknown(self) -> str:
        """Why the pidfile has named nobody so far, for the person who reads the error."""
        where = f"the pidfile {self._pidfile}"
        try:
            pid = read_pid(self._pidfile or "")
        except PidfileError as error:
            return f"{where} {error}"
        if pid is None:
            return f"{where} has not been written"
        stat = platform.read_stat(pid)
        if stat is None:
            return f"{where} names {pid}, which does not run (stale?)"
        return f"{where} names {pid} ({stat.name}), which is no process of this server's tree, or is not new"

    def _refuse_ended(self, deadline: Deadline) -> None:
        if not self._tree.wait_worker(0.0):
            return
        text = "the worker ended before it was ready"
        left = self._tree.processes()
        if self._tree.status == 0 and self._pidfile is None and left:
            names = ", ".join(f"{info.name} ({info.pid})" for info in left[:5])
            text += f", leaving {names}: a command that puts itself into the background needs pidfile=…"
        elif self._pidfile is not None and self._tree.pid is None:
            text = f"the launcher ended and left no daemon ({self._why_unknown()})"
        raise WorkerExitedError(None, text, pid=self._tree.pid, status=self._tree.status, elapsed=deadline.elapsed)

    def _too_late(self, reason: WorkerError | OSError, deadline: Deadline) -> ReadyTimeoutError:
        return ReadyTimeoutError(
            reason, f"not ready within {deadline.seconds:g} s", pid=self._tree.pid, elapsed=deadline.elapsed
        )

    def _report(self, reason: WorkerError | OSError, deadline: Deadline) -> None:
        if self._say is not None and deadline.elapsed >= self._next_word:
            self._say(f"{self._name}: not ready after {deadline.elapsed:.0f} s: {reason}")
            self._next_word *= 2

    # --- whose listener is it? ----------------------------------------------------------------------------------

    def _refuse_stranger(self) -> None:
        if self._address is None:
            return
        host, port = self._address
        inodes = addresses.listening_inodes(host, port)
        if not inodes or self._is_ours(inodes):
            return
        holders = addresses.holders(host, port)
        ours = {info.pid for info in self._tree.processes()}
        if not holders or any(holder.pid in ours or holder.pid is None for holder in holders):
            return  # not to be known as this user; the server has answered, so it has the benefit of the doubt
        names = [str(holder) for holder in holders]
        text = f"{host}:{port} is answered by somebody else: {'; '.join(names)}"
        raise AddressInUseError(None, text, host=host, port=port, holders=names)

    def _is_ours(self, inodes: set[int]) -> bool:
        return any((platform.socket_inodes(info.pid) or set()) & inodes for info in self._tree.processes())


def say_on_stderr(text: str) -> None:
    """What a verbose wait does with its words."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # asked for
