"""What the plugin tells at the end of a run, from wherever it happened: this process, or an xdist worker."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from typing import Any

    from _pytest.terminal import TerminalReporter

#: The name of the plugin that is there once this process uses servers; see `_pytest_use`.
USE = "servermgr-use"
#: How many start-up times are listed, the longest first.
_MOST_STARTUPS = 20


class Startup(NamedTuple):
    """One start of a server: how long, which, for which fixture, in which test."""

    seconds: float
    name: str
    fixture: str
    test: str


class Kept(NamedTuple):
    """A server that was left running on purpose: its name in the ledger, its pid, its log, the test that failed."""

    name: str
    pid: int | None
    log: str | None
    test: str


class Summary:
    """What there is to tell.

    Attributes:
        startups: Every start of a server.
        kept: Servers that were left running, since `--servermgr-keep` asks for it.
        leaks: What was left behind by nobody's test in particular, as text.
        notes: Whatever else somebody should know.
        failed: Whether `leaks` are a failure.
    """

    def __init__(self) -> None:
        self.startups: list[Startup] = []
        self.kept: list[Kept] = []
        self.leaks: list[str] = []
        self.notes: list[str] = []
        self.failed = False

    @classmethod
    def of(cls, config: pytest.Config) -> Summary:
        """The summary of this process."""
        return config.stash.setdefault(_KEY, cls())

    def as_data(self) -> dict[str, Any]:
        """For the way from a worker to the controller."""
        return {
            "startups": [tuple(startup) for startup in self.startups],
            "kept": [tuple(kept) for kept in self.kept],
            "leaks": self.leaks,
            "notes": self.notes,
            "failed": self.failed,
        }

    def add(self, data: dict[str, Any], worker: str) -> None:
        """Take in what a worker has to tell."""
        self.startups += [
            Startup(seconds, name, f"{worker}: {fix}", test) for seconds, name, fix, test in data["startups"]
        ]
        self.kept += [Kept(*kept) for kept in data["kept"]]
        self.leaks += [f"{worker}: {text}" for text in data["leaks"]]
        self.notes += [f"{worker}: {text}" for text in data["notes"]]
        self.failed = self.failed or data["failed"]

    def write(self, reporter: TerminalReporter, *, verbose: bool) -> None:
        """Tell it."""
        if self.startups and verbose:
            _section(reporter, "start-up times of servers", self._startup_lines())
        if self.leaks:
            _section(reporter, "left behind by this run", self.leaks, red=self.failed, yellow=not self.failed)
        if self.kept:
            _section(reporter, "servers left running (--servermgr-keep)", self._kept_lines(), yellow=True)
        if self.notes:
            _section(reporter, "servermgr", self.notes, yellow=True)

    def _startup_lines(self) -> list[str]:
        longest = sorted(self.startups, reverse=True)
        lines = [
            f"{start.seconds:7.3f} s  {start.name}  ({start.fixture}, in {start.test or 'no test'})"
            for start in longest[:_MOST_STARTUPS]
        ]
        return lines + ([f"… and {len(longest) - len(lines)} more"] if len(longest) > len(lines) else [])

    def _kept_lines(self) -> list[str]:
        lines = []
        for kept in {kept.name: kept for kept in self.kept}.values():  # several workers may have seen it in a failure
            lines.append(f"{kept.name} (pid {kept.pid or '?'}), after the failure of {kept.test}")
            lines += [f"    log:  {kept.log}"] if kept.log else []
            lines.append(f"    stop: python -m servermgr stop {shlex.quote(kept.name)}")
        return lines


_KEY = pytest.StashKey[Summary]()


def _section(
    reporter: TerminalReporter, title: str, lines: list[str], *, red: bool = False, yellow: bool = False
) -> None:
    reporter.section(title, red=red, yellow=yellow)
    for line in lines:
        reporter.line(line)
