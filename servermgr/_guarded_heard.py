"""What an owner knows of a tree below a guardian: what that one has said of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from servermgr import ledger, nursery, request
from servermgr._guarded_guardian import Guardian

if TYPE_CHECKING:
    from servermgr.guardian.protocol import Message
    from servermgr.tree import LaunchSpec, StopOutcome

_log = logging.getLogger("servermgr")


class Heard:
    """The state of a tree, as it is told. Messages are those of `guardian.protocol`.

    Attributes:
        spec: What was launched.
        pid: The worker's pid; None while it is not known.
        status: The worker's exit status as `Popen.returncode`; None while it has not ended.
        guardian: The guardian's pid; None before the launch.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.status: int | None = None
        self.guardian: int | None = None
        self._outcome: StopOutcome | None = None
        self._failure: Message | None = None
        self._asked = False
        self._adopts = True
        self._members: dict[int, int] | None = None
        self._held: Guardian | None = None
        self._story = spec.story

    def _hear(self, message: Message, fds: list[int]) -> None:
        """Take a message in. Descriptors that came with it are taken out of `fds`."""
        if message["is"] == "launched":
            self._held = Guardian(message, fds)
        getattr(self, f"_heard_{message['is']}")(message)

    def _heard_launched(self, message: Message) -> None:
        self.guardian = message["guardian"]
        self._adopts = message["adopts"]
        if not self._adopts:
            nursery.say_scattered()
        if message["unrecorded"]:
            ledger.say_unrecorded(message["unrecorded"])
        if self.spec.pidfile is None:
            self.pid = message["pid"]

    def _heard_failed(self, message: Message) -> None:
        self._failure = message

    def _heard_members(self, message: Message) -> None:
        self._members = message["parents"]

    def _heard_worker(self, message: Message) -> None:
        self.pid = message["pid"]

    def _heard_ended(self, message: Message) -> None:
        self.status = message["status"]

    def _heard_asked(self, _: Message) -> None:
        self._asked = True

    def _heard_event(self, message: Message) -> None:
        if self._story is not None:
            self._story.hear(message)

    def _heard_crashed(self, message: Message) -> None:
        _log.error("a guardian failed and its tree is being ended: %s", message["text"])

    def _heard_done(self, message: Message) -> None:
        if self.status is None:
            self.status = message["status"]
        if message["note"]:
            _log.error("%s: %s", self.spec.argv[0], message["note"])
        self._outcome = request.outcome(message)
        if self._story is not None:
            how = "gone: its guardian was killed" if message["note"] else "gone"
            self._story.over(how, survivors=bool(message["survivors"]))
