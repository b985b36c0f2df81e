"""What a step has to tell to a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servermgr._trace_story import Story

if TYPE_CHECKING:
    from typing import Any


class StepStory(Story):
    """The story of a step, from the messages of its guard; see `_cli_step_guard` and `_cli_step_tree`."""

    def take(self, message: dict[str, Any]) -> None:
        """Take one of them."""
        kind, at = message["is"], message.get("at")
        if kind == "event":
            self.hear(message)
        elif kind == "launched":
            self.hear({"what": "guardian", "pid": message["guard"], "at": at})
            self.hear({"what": "spawn", "pid": message["pid"], "at": at, "name": ""})
        elif kind in ("left", "timeout"):
            for pid, process, command in message["processes"]:
                self.begin(pid, process, at)
                self.happen(pid, kind, at, command=command)
        elif kind == "lost":
            self.note("lost")
        elif kind == "done":
            self.over(survivors=bool(message["survivors"]))
