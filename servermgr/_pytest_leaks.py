"""The leak verdict: what a test has started and left behind is found, named and ended.

While it is on, this process is a child subreaper where the system has those: whatever a test starts, however it
detaches itself, its orphans come here. Dead orphans are collected one by one, each known to be an orphan
(`_pytest_reaping`); nobody's exit status is taken away.
"""

from __future__ import annotations

import re
import shlex
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from servermgr import _pytest_ending, platform
from servermgr._pytest_census import BASELINE, HELPER, Census, Origin, command_of
from servermgr._pytest_summary import USE, Summary
from servermgr._pytest_use import current_test
from servermgr.deadline import Deadline
from servermgr.sweeping import sweep_once

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from servermgr._pytest_census import Known
    from servermgr._pytest_use import Use
    from servermgr.platform.stat import ProcessStat

_ROUNDS = 4
_LONGEST_COMMAND = 200
_SESSION = "session"
_EXCUSED = Origin("excused", "")


class Leaks:
    """Judges the tests of this process; as a plugin.

    Args:
        config: Of this run.
        verdict: `warn` or `fail`.
        ignored: Regular expressions; a process whose command line one of them finds is no leak.
        patience: Seconds that what is ending already may take to be gone, when a test is over.
        warning: The class of the warnings.
    """

    def __init__(
        self, config: pytest.Config, verdict: str, ignored: list[str], patience: float, warning: type[Warning]
    ) -> None:
        self._config = config
        self._verdict = verdict
        self._patience = patience
        self._warning = warning
        self._ignored = [re.compile(pattern) for pattern in ignored]
        self._summary = Summary.of(config)
        self._due: set[object] = set()
        self._origins: list[Origin] = [Origin(_SESSION, "outside of any test")]
        sweep_once()  # what a crashed run has left is no fault of this one
        self._reaps = platform.become_subreaper()
        self._census = Census(_reaper() if self._reaps else None)
        self._census.note_all(BASELINE)
        if not self._reaps:
            self._summary.notes.append(
                f"--servermgr-leaks: on this system ({platform.NAME}) processes that detach themselves are not found"
            )

    # --- who starts what ----------------------------------------------------------------------------------------

    def _note(self) -> None:
        self._census.note(self._origins[-1])

    def _during(self, origin: Origin) -> Generator[None, Any, Any]:
        """What is started within the hook belongs to `origin`."""
        self._note()
        self._origins.append(origin)
        try:
            return (yield)
        finally:
            self._note()
            self._origins.pop()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self) -> None:
        """This is the controller of xdist: what comes to it was started by a worker, which could not judge it."""
        self._origins = [Origin(_SESSION, "by a worker that has died since")]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        """An import may start something."""
        return (yield from self._during(Origin(_SESSION, f"in the collection of {collector.nodeid or 'the tests'}")))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """What is not a fixture's, but comes with the setup, belongs to the test."""
        return (yield from self._during(_of_test(item, "in the set-up of")))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """The test itself."""
        return (yield from self._during(_of_test(item, "by")))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """What a fixture starts may live as long as the fixture."""
        where = f"by fixture {fixturedef.argname!r} ({fixturedef.scope} scope), set up for {current_test()}"
        key = ("fixture", id(fixturedef))
        self._census.alive.add(key)
        return (yield from self._during(Origin(key, where)))

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """From now on what the fixture has started must be gone."""
        self._note()
        key = ("fixture", id(fixturedef))
        if key in self._census.alive:
            self._census.alive.discard(key)
            self._due.add(key)

    # --- verdicts -----------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """The verdict on a test, when its fixtures are torn down, and those of a wider scope whose last user it was."""
        try:
            result = yield from self._during(_of_test(item, "in the tear-down of"))
        except (Exception, pytest.fail.Exception, pytest.skip.Exception):
            text = self._judge_test(item)
            if text:  # the test fails already, and by something that came first
                item.add_report_section("teardown", "servermgr leaks", text)
            raise
        text = self._judge_test(item)
        if text and self._verdict_of(item) == "fail":
            pytest.fail(text, pytrace=False)
        if text:
            item.warn(self._warning(text))
        return result

    def _verdict_of(self, item: pytest.Item) -> str:
        marker = item.get_closest_marker("servermgr_leaks")
        return str(marker.args[0]) if marker is not None and marker.args else self._verdict

    def _judge_test(self, item: pytest.Item) -> str:
        keys = {*self._due, ("test", item.nodeid)}
        self._due.clear()
        if self._verdict_of(item) == "off":
            for known in self._census.living(lambda origin: origin.key in keys):
                known.origin = _EXCUSED
            return ""
        return self._judge(lambda origin: origin.key in keys)

    def finish(self) -> None:
        """The verdict on the run: what was left behind by no test in particular, or in a run that was cut short."""
        text = self._judge(lambda origin: origin not in (BASELINE, HELPER, _EXCUSED))
        if not text:
            return
        self._summary.leaks.append(text)
        self._summary.failed = self._verdict == "fail"

    def _judge(self, wanted: Callable[[Origin], bool]) -> str:
        """Find, describe and end; empty if nothing was left behind."""
        found = self._settled(wanted)
        if not found:
            return ""
        lines = [f"left behind: {line}" for line in self._described(found)]
        remaining: list[str] = []
        for _ in range(_ROUNDS):  # one that is ended may start another
            remaining = self._end(found)
            found = self._find(wanted)
            if not found:
                return "\n".join([*lines, "(ended now)"])
        return "\n".join([*lines, *(remaining or ["some of it still runs: it is replaced faster than it is ended"])])

    def _settled(self, wanted: Callable[[Origin], bool]) -> list[Known]:
        """What is there when everything that is just ending has had time to."""
        self._census.note_all(self._origins[-1])  # one reading is never proof: while others die, it may miss the living
        deadline = Deadline(self._patience)
        while (found := self._find(wanted)) and not deadline.expired:
            _wait_for(found, deadline)
        return found

    def _find(self, wanted: Callable[[Origin], bool]) -> list[Known]:
        self._note()
        if not self._census.living(wanted):
            return []
        self._census.note_all(self._origins[-1])
        use: Use | None = self._config.pluginmanager.get_plugin(USE)
        covered = set() if use is None else use.pids()
        return [known for known in self._census.living(wanted, covered) if not self._is_ignored(known)]

    def _is_ignored(self, known: Known) -> bool:
        command = shlex.join(command_of(known.pid)) if self._ignored else ""
        if any(pattern.search(command) for pattern in self._ignored):
            known.origin = _EXCUSED
        return known.origin is _EXCUSED

    # --- ending, telling ----------------------------------------------------------------------------------------

    def _described(self, found: list[Known]) -> Iterator[str]:
        for known, below in self._census.roots(found):
            if known.record is not None:
                what = f"server {known.record.name!r} (pid {_worker(known)}): {shlex.join(known.record.argv)}"
            else:
                what = f"process {known.pid}: {_command(known)}"
                what += f", and {below} below it" if below else ""
            yield f"{what}\n    started {known.origin.text}"

    def _end(self, found: list[Known]) -> list[str]:
        for known, _ in self._census.roots(found):
            if known.record is not None:
                _pytest_ending.end_server(known)
        outcome = _pytest_ending.end_processes(known for known in found if known.record is None)
        return [f"it cannot be ended: {survivor}" for survivor in outcome.survivors]

    # --- pytest-timeout -----------------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """With its method `thread` the process ends within the test: the verdict has to come before that."""
        if settings.method != "thread" and threading.current_thread() is threading.main_thread():
            return None
        timer = threading.Timer(settings.timeout, self._timed_out, (item, settings))
        timer.name = f"servermgr timeout of {item.nodeid}"

        def cancel() -> None:
            timer.cancel()
            timer.join()

        item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout looks for it
        timer.start()
        return True

    def _timed_out(self, item: pytest.Item, settings: Any) -> None:
        pytest_timeout: Any = import_module("pytest_timeout")  # it is there: this is one of its hooks
        try:
            if settings.disable_debugger_detection or not pytest_timeout.is_debugging():
                text = self._judge(lambda origin: origin not in (BASELINE, HELPER, _EXCUSED))
                if text:
                    sys.stderr.write(f"servermgr: {item.nodeid} has run out of time\n{text}\n")
        finally:
            pytest_timeout.timeout_timer(item, settings)


def _of_test(item: pytest.Item, when: str) -> Origin:
    return Origin(("test", item.nodeid), f"{when} {item.nodeid}")


def _worker(known: Known) -> object:
    worker = None if known.record is None else known.record.worker
    return "?" if worker is None else worker.pid


def _command(known: Known) -> str:
    stat = platform.read_stat(known.pid)
    command = shlex.join(command_of(known.pid)) or ("?" if stat is None else f"({stat.name})")
    return command if len(command) <= _LONGEST_COMMAND else f"{command[:_LONGEST_COMMAND]} …"


def _reaper() -> Callable[[Known, ProcessStat], bool]:
    # By name: where there are no subreapers, there is no such module either.
    reap: Callable[[Known, ProcessStat], bool] = import_module("servermgr._pytest_reaping").reap_adopted
    return reap


def _wait_for(found: list[Known], deadline: Deadline) -> None:
    held = [holding for known in found if (holding := _pytest_ending.held_if_same(known)) is not None]
    try:
        _pytest_ending.wait_for(held, deadline)
    finally:
        for process in held:
            process.close()
