"""The servers that the fixtures of this process have started: their logs, their end, and who is left on purpose.

Made when the first fixture asks for it; from then on it takes part in the run as a plugin of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from servermgr._pytest_keeping import Keeping, parts
from servermgr._pytest_logs import LogMark, title_of
from servermgr._pytest_run import sweep_runs
from servermgr._pytest_signals import Terminated
from servermgr._pytest_summary import USE, Kept, Startup, Summary
from servermgr._pytest_workers import controller_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

    from servermgr.identity import Identity
    from servermgr.interface import ManagerInterface

_REPORTED = pytest.StashKey[bool]()


class Running:
    """One server, or a stack of them, between its start and its stop by a fixture.

    Args:
        manager: Whom to start and stop; None for a server that somebody else stops.
        fixture: The name of the fixture that it belongs to.
        servers: Those with a log of their own.
        keepings: How each of them is kept; empty without `--servermgr-keep`.

    Attributes:
        failed_in: The test that failed and had touched it; empty as long as there is none.
    """

    def __init__(
        self, manager: ManagerInterface | None, fixture: str, servers: Iterable[Any], keepings: Iterable[Keeping] = ()
    ) -> None:
        self.manager = manager
        self.fixture = fixture
        self.servers = list(servers)
        self.keepings = list(keepings)
        self.failed_in = ""
        self.stopped = False
        self.mark_logs(started_now=True)

    def mark_logs(self, *, started_now: bool) -> None:
        """Another test begins: what was written before is none of its business."""
        self._marks = [(server, LogMark(server, started_now=started_now)) for server in self.servers]

    def sections(self) -> list[tuple[str, str]]:
        """Title and text for each server that has written something in this test."""
        found = [(server.name, mark.written()) for server, mark in self._marks]
        return [(title_of(name), text) for name, text in found if text]

    def pids(self) -> set[int]:
        """Everyone who belongs to it, its guardians included."""
        found = set()
        for server in () if self.manager is None else self.servers:
            for info in getattr(server, "processes", list)():
                found |= {info.pid} if info.depth else {info.pid, info.ppid}
            process = getattr(server, "process", None)
            found |= set() if process is None or process.pid is None else {process.pid}
        return found


class Use:
    """What a process knows of its servers.

    Args:
        config: Of this run.
        controller: Whose worker this process is, in a run of xdist on this machine; else None.

    Attributes:
        others_pids: Processes that are no leak although no fixture of this process stops them.
        at_end: Called when all fixtures are gone.
    """

    def __init__(self, config: pytest.Config, *, controller: Identity | None) -> None:
        self.summary = Summary.of(config)
        self.keep: bool = config.getoption("servermgr_keep")
        self.others_pids: set[int] = set()
        self.at_end: list[Callable[[], object]] = []
        self._running: list[Running] = []
        self._signal = Terminated(controller)
        self.summary.notes += sweep_runs()  # of crashed runs; crashed owners are swept with the first start

    @classmethod
    def of(cls, config: pytest.Config) -> Use:
        """The one of this process."""
        use: Use | None = config.pluginmanager.get_plugin(USE)
        if use is None:
            use = cls(config, controller=controller_of(getattr(config, "workerinput", {})))
            config.pluginmanager.register(use, USE)
        return use

    # --- what fixtures do ---------------------------------------------------------------------------------------

    def start(self, manager: ManagerInterface, fixture: str, timeout: float | None) -> Running:
        """Start a manager for a fixture, and remember it once it is ready."""
        members = parts(manager)
        keepings = [Keeping(member) for member in members] if self.keep else []
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            for keeping in keepings:
                stack.enter_context(keeping.during_start())
            try:
                manager.start(timeout=timeout)
            except BaseException:  # somebody else's `start` may not have put away what it had begun
                with contextlib.suppress(Exception):
                    manager.stop()
                raise
        name = str(getattr(manager, "name", type(manager).__name__))
        self.started(name, fixture, time.monotonic() - began)
        return self.remember(Running(manager, fixture, [part for part in members if has_log(part)], keepings))

    def started(self, name: str, fixture: str, seconds: float) -> None:
        """Note how long a start took."""
        self.summary.startups.append(Startup(seconds, name, fixture, current_test()))

    def remember(self, running: Running) -> Running:
        """From now on its logs go to the reports of the tests that use its fixture."""
        self._running.append(running)
        return running

    def stop(self, running: Running) -> None:
        """Stop a server, unless a test that used it has failed and it is to be looked at."""
        running.stopped = True
        if running.manager is None:
            return
        if running.failed_in and running.keepings:
            self._leave(running, running.manager)
        else:
            running.manager.stop()

    def _leave(self, running: Running, manager: ManagerInterface) -> None:
        self.others_pids |= running.pids()
        for server, keeping in zip(parts(manager), running.keepings, strict=True):
            process = getattr(server, "process", None)
            if process is None:
                continue
            if not keeping.used:
                server.stop()
                self.summary.notes.append(f"{server.name} was not kept: its manager started it without a guardian")
                continue
            self.summary.kept.append(Kept(keeping.name, process.pid, server.log_path, running.failed_in))
            keeping.let_go()

    def managers(self) -> set[int]:
        """The managers whose logs are shown by `Running.sections`, each by its `id`."""
        return {id(server) for running in self._running for server in running.servers}

    def pids(self) -> set[int]:
        """Processes of servers whose fixture lives, and of those that are left on purpose."""
        found = set(self.others_pids)
        for running in self._running:
            found |= set() if running.stopped else running.pids()
        return found

    # --- what pytest does ---------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Forget what is stopped, and mark where the logs of the others stand."""
        item.stash[_REPORTED] = False  # it may be a second try
        self._running = [running for running in self._running if not running.stopped]
        for running in self._running:
            running.mark_logs(started_now=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach to a failure what its servers have said."""
        report = yield
        if report.failed:
            self._attach(item, report)
        return report

    def _attach(self, item: pytest.Item, report: pytest.TestReport) -> None:
        names = fixtures_of(item)
        touched = [running for running in self._running if running.fixture in names]
        for running in touched:
            running.failed_in = item.nodeid
        if not item.stash.get(_REPORTED, False):
            item.stash[_REPORTED] = True
            report.sections += [section for running in touched for section in running.sections()]

    def finish(self) -> None:
        """All fixtures are gone."""
        self._signal.finishing = True
        for act in self.at_end:
            act()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Obey a SIGTERM that has come meanwhile."""
        self._signal.restore()


def has_log(server: object) -> bool:
    """Whether it is a manager whose output can be read; other implementations of the interface have none."""
    return hasattr(server, "log_path") and hasattr(server, "output_tail")


def fixtures_of(item: pytest.Item) -> set[str]:
    """Names of the fixtures that the test uses, also those it has asked for while it ran."""
    request = getattr(item, "_request", None)  # pytest has no public way to those; without it some logs are missing
    return set(getattr(request, "fixturenames", ())) | set(getattr(item, "fixturenames", ()))


def current_test() -> str:
    """The test that runs now, as pytest tells everybody; empty outside of any."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
