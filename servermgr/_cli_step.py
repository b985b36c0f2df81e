"""One step: a command in the place of this process, and nothing of it left when this returns.

::

    run (this process) ──fork──▶ guard, a session of its own ──fork, exec──▶ command, in the session of `run`
        │  ▲                        │                                          │
        │  └──── what happens ──────┘        adopts whoever loses his parent ◀─┘
        └──fork──▶ witness: has the whole group got this signal?

When `run` is killed the guard ends the tree; when the guard is killed its orphans come to `run`, which ends them; when
both are, the ledger has a record. Descriptors, session, process group and terminal of the command are those of `run`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING

assert sys.platform != "win32"  # see _cli_step_signals

from servermgr import platform
from servermgr._cli_step_guard import Order, start
from servermgr._cli_step_outcome import Outcome
from servermgr._cli_step_signals import Wake, Witness, close_quietly, inherited, open_descriptors, passed_on
from servermgr._cli_step_tree import StepTree
from servermgr.deadline import Deadline
from servermgr.guardian import protocol
from servermgr.guardian.record import unlink
from servermgr.tree import CRASH_GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servermgr.guardian.protocol import Message

#: Of those, one means "now" once the command itself has ended.
_IMPATIENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run_step(
    argv: Sequence[str],
    *,
    tell: Callable[[Message], None],
    timeout: float | None = None,
    grace: float = 5.0,
    name: str = "",
    env: Mapping[str, str] | None = None,
    trace: bool = False,
) -> Outcome:
    """Run a command as if it stood in the place of this process, and end all that it leaves.

    Standard input and output of this process are closed meanwhile, and stay so: they are the command's alone.

    Args:
        argv: The command.
        tell: Called with each message that the guard sends; see `_cli_step_tree`.
        timeout: Seconds until all of it is ended; None for no limit.
        grace: Seconds from the polite signal to the forced one; 0 kills at once.
        name: What the ledger calls it.
        env: Added to the environment of this process.
        trace: Whether `tell` is to hear of each signal and each end of a process, too.
    """
    record, draft, marker = _record(argv, name, grace)
    told = {**os.environb, **{os.fsencode(key): os.fsencode(value) for key, value in (env or {}).items()}, **marker}
    manners = inherited()
    _occupy_standard_descriptors()
    order = Order([os.fsencode(word) for word in argv], told, manners, timeout, grace, record, draft, trace)
    with Wake((*passed_on(), signal.SIGCHLD)) as wake:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        return _Front(order, wake, tell).run()


def _record(argv: Sequence[str], name: str, grace: float) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    """Where the record of the step goes, its beginning, and the entry of the environment by which its tree is known."""
    import subprocess  # noqa: PLC0415

    from servermgr import ledger  # noqa: PLC0415
    from servermgr.output import Output  # noqa: PLC0415
    from servermgr.tree import MARKER_VARIABLE, LaunchSpec  # noqa: PLC0415

    output = Output(subprocess.DEVNULL)
    output.close()
    spec = LaunchSpec(argv, output=output, env={}, grace_period=grace, crash_grace=min(grace, CRASH_GRACE))
    marker = {MARKER_VARIABLE.encode(): spec.marker.encode()}
    folder = ledger.prepare()
    if folder is None:
        return b"", b"", marker
    return os.fsencode(ledger.record_path(folder, spec.marker)), ledger.draft(spec, name=name, ports=()), marker


def _occupy_standard_descriptors() -> None:
    """Where one of the three is closed, ours must not come to lie; the command finds it closed all the same."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < 3:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


class _Front:
    """The end of it that this process is."""

    def __init__(self, order: Order, wake: Wake, tell: Callable[[Message], None]) -> None:
        self._order = order
        self._wake = wake
        self._tell = tell
        self._elapsed = Deadline(None)
        self._pid: int | None = None
        self._status: int | None = None
        self._errno = 0
        self._done: Message | None = None
        self._names: dict[int, tuple[str, str]] = {}
        self._timed_out = self._interrupted = self._lost = False

    def run(self) -> Outcome:
        platform.become_subreaper()  # whoever loses the guard comes to us
        self._witness = Witness()  # before the command, at whose first word somebody may signal the group
        self._guard, self._socket = start(self._order)
        self._reader = protocol.Reader(self._socket)
        try:
            _leave_streams_to_command()
            self._follow()
            self._witness.close()
            if self._done is None and not self._errno:
                self._take_over()
        finally:
            self._socket.close()
        return self._outcome()

    # --- following the guard ------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Until the guard has ended: pass signals on to it, and hear what it says."""
        poll = select.poll()
        for fd in (self._wake.fd, self._socket.fileno()):
            poll.register(fd, select.POLLIN)
        alive = True
        while alive:
            ready = {fd for fd, _ in poll.poll()}
            for number in self._wake.numbers():
                if number == signal.SIGCHLD:
                    alive = self._reap()
                else:
                    self._pass_on(number)
            if self._socket.fileno() in ready and not self._hear():
                poll.unregister(self._socket.fileno())
        while self._hear():
            pass  # what it said last

    def _reap(self) -> bool:
        """Collect the dead: as PID 1 of a container also those of others. Returns whether the guard lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if os.WIFSTOPPED(status):
                os.kill(pid, signal.SIGCONT)  # a guard that is stopped guards nobody, and our child keeps its number
            elif pid == self._guard:
                return False
            elif pid == self._pid:  # the guard was killed, and this is the command, which came to us and has ended
                self._status = os.waitstatus_to_exitcode(status)

    def _pass_on(self, number: int) -> None:
        self._interrupted |= number == signal.SIGINT
        if self._status is not None and number in _IMPATIENT:
            self._say({"do": "hurry"})
        elif not self._witness.has(number):
            self._say({"do": "signal", "signal": number})

    def _say(self, message: Message) -> None:
        try:
            protocol.send(self._socket, message)
        except protocol.Closed:
            pass  # its end is the next thing that we hear of

    def _hear(self) -> bool:
        """Take what the guard says; False once it will say no more."""
        try:
            messages = self._reader.receive()
        except protocol.Closed:
            return False
        for message in messages:
            self._note(message)
            self._tell(message)
        return True

    def _note(self, message: Message) -> None:
        kind = message["is"]
        if kind == "launched":
            self._pid = message["pid"]
        elif kind == "failed":
            self._errno = message["errno"]
        elif kind == "ended":
            self._status = message["status"]
        elif kind in ("left", "timeout"):
            self._timed_out |= kind == "timeout"
            self._names |= {pid: (name, command) for pid, name, command in message["processes"]}
        elif kind == "done":
            self._done = message

    # --- in the place of the guard ------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """The guard was killed, and all whom it held have come to us: end them."""
        self._lost = True
        self._tell({"is": "lost"})
        tree = StepTree(
            self._pid or 0, self._heard_from_tree, limits=(None, self._order.grace), trace=self._order.trace
        )
        tree.status = self._status if self._pid else 0
        tree.stop(self._order.grace)
        poll = select.poll()
        poll.register(self._wake.fd, select.POLLIN)
        due = tree.advance()
        while not tree.finished:
            poll.poll(None if due is None else max(1.0, due * 1000))
            if any(number in _IMPATIENT for number in self._wake.numbers()):
                tree.stop(0.0)
            due = tree.advance()
        if self._done is not None and not self._done["survivors"]:
            unlink(self._order.record)

    def _heard_from_tree(self, message: Message) -> None:
        self._note(message)
        self._tell(message)

    # --- the end ------------------------------------------------------------------------------------------------

    def _outcome(self) -> Outcome:
        return Outcome(
            self._pid,
            self._status,
            self._errno,
            self._timed_out,
            self._interrupted,
            tuple(self._ended()),
            self._lost,
            self._elapsed.elapsed,
        )

    def _ended(self) -> list[tuple[int, str, str, str]]:
        done = self._done or {"polite": [], "killed": [], "survivors": []}
        how = [(pid, name, "went") for pid, name in done["polite"]]
        how += [(pid, name, "killed") for pid, name in done["killed"]]
        how += [(pid, name, f"alive: {why}") for pid, name, why in done["survivors"]]
        return [
            (pid, self._names.get(pid, (name, ""))[0], self._names.get(pid, ("", name))[1], what)
            for pid, name, what in how
            if pid != self._pid
        ]


def _leave_streams_to_command() -> None:
    """Close what this process has of the command's: a reader of its output is to see the end when the command ends.

    Standard error stays, for what has to be said.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd, inheritable=False)
    os.close(null)
    for fd in open_descriptors():
        if fd > 2 and _is_inherited(fd):
            close_quietly(fd)


def _is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)  # whatever Python or we have opened is not
    except OSError:
        return False
