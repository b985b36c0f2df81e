"""The pytest plugin: servers as fixtures, and a verdict on what tests leave behind.

It comes with the package and does nothing until it is asked. In a test::

    def test_it(servermgr):
        web = servermgr.command([sys.executable, "-m", "http.server", "8123"], ready="tcp://127.0.0.1:8123")

or, for a fixture of any scope from any manager, in `conftest.py`::

    from servermgr.pytest_plugin import server_fixture

    def make_cache(tmp_path_factory):
        return redis.Manager("127.0.0.1", 0, tmp_path_factory.mktemp("redis"))

    cache = server_fixture(make_cache, scope="session")

`scope="run"` instead of `"session"` makes it one server for all workers of pytest-xdist.

Options: `--servermgr-leaks=off|warn|fail` (also `servermgr_leaks` in the configuration), `--servermgr-keep`; with
`-v` the start-up times are shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from servermgr._pytest_summary import USE, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Any, Literal, TypeAlias

    from _pytest.terminal import TerminalReporter

    from servermgr._pytest_leaks import Leaks
    from servermgr._pytest_servers import Servers
    from servermgr._pytest_use import Use
    from servermgr.interface import ManagerInterface

    Scope: TypeAlias = Literal["function", "class", "module", "package", "session", "run"]

__all__ = ["LeakWarning", "server_fixture"]

_VERDICTS = ("off", "warn", "fail")
_LEAKS = "servermgr-leaks"
#: Of a controller: the name that xdist gives to the run.
_RUN = pytest.StashKey[str]()


class LeakWarning(pytest.PytestWarning):
    """A test has left a process behind; with `--servermgr-leaks=warn`."""


# ---- fixtures --------------------------------------------------------------------------------------------------------


def _servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    from servermgr._pytest_servers import Servers  # noqa: PLC0415  # with the first server, not with every pytest
    from servermgr._pytest_use import Use  # noqa: PLC0415

    servers = Servers(Use.of(request.config), str(request.fixturename))
    yield servers
    servers.close()


@pytest.fixture(name="servermgr")
def _for_function(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Start servers: `.start(manager)`, `.command(argv, ready=…)`. They are stopped after the test."""
    yield from _servers(request)


@pytest.fixture(name="servermgr_class", scope="class")
def _for_class(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Start servers: `.start(manager)`, `.command(argv, ready=…)`. They are stopped after the class."""
    yield from _servers(request)


@pytest.fixture(name="servermgr_module", scope="module")
def _for_module(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Start servers: `.start(manager)`, `.command(argv, ready=…)`. They are stopped after the module."""
    yield from _servers(request)


@pytest.fixture(name="servermgr_session", scope="session")
def _for_session(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Start servers: `.start(manager)`, `.command(argv, ready=…)`. They are stopped after the last test."""
    yield from _servers(request)


_shares = False


def server_fixture(
    make: Callable[..., ManagerInterface] | ManagerInterface,
    *,
    scope: Scope = "function",
    name: str | None = None,
    timeout: float | None = 10.0,
    autouse: bool = False,
    params: Sequence[object] | None = None,
    ids: Any = None,
) -> Any:
    """A fixture that starts a server and stops it.

    Assign it to the fixture's name, in a module of tests or in `conftest.py`::

        web = server_fixture(lambda tmp_path: nginx.Manager("127.0.0.1", 8080, tmp_path))

    Args:
        make: Makes the manager; its arguments are fixtures (`request` among them). Or a manager.
        scope: One of pytest's: the value is the manager, started. With xdist, `session` is one server for each
            worker. Or `run`: one server for all workers. The first of them that needs it starts it, with `make`; the
            last one stops it; one that is killed does not keep it alive; and when pytest itself is killed, the server
            is ended by a caretaker. The value is then, also without xdist, a `SharedServer`: what can be told of the
            manager (`host`, `port`, `url`, `pid`, …) and no way to stop it. That needs `servermgr[pytest]`, and a
            manager that starts its server by `self.spawn`, as all of this package do.
        name: The fixture's name; None for the name that it is assigned to.
        timeout: Seconds for the server to become ready; None waits for ever.
        autouse: As for `pytest.fixture`; `params` and `ids`, too.
        params: See there. `request.param` is the current one.
        ids: See there.
    """
    global _shares  # noqa: PLW0603  # without any, nobody needs to look for those that use one
    from servermgr._pytest_declaring import declared  # noqa: PLC0415

    _shares = _shares or scope == "run"
    fixture = declared(make, scope, name, timeout)
    pytest_scope: Any = "session" if scope == "run" else scope
    return pytest.fixture(scope=pytest_scope, name=name, autouse=autouse, params=params, ids=ids)(fixture)


# ---- hooks -----------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("servermgr", "servers and what they leave (servermgr)")
    group.addoption(
        "--servermgr-leaks",
        choices=_VERDICTS,
        help="what happens to a test that leaves a process behind: nothing (off, the default), a warning, a failure; "
        "with warn and fail the process is ended",
    )
    group.addoption(
        "--servermgr-keep",
        action="store_true",
        help="leave the servers of a test that fails running, for a look; they are named at the end",
    )
    parser.addini("servermgr_leaks", "default for --servermgr-leaks", default="off")
    parser.addini("servermgr_leaks_ignore", "regular expressions for command lines that are no leak", type="linelist")
    parser.addini("servermgr_leaks_patience", "seconds for what is just ending when a test is over", default="1.0")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch for leaks, if that is asked for."""
    config.addinivalue_line(
        "markers", "servermgr_leaks(verdict): off, warn or fail for this test, whatever the run says"
    )
    verdict = config.getoption("servermgr_leaks") or config.getini("servermgr_leaks")
    if verdict not in _VERDICTS:
        raise pytest.UsageError(f"servermgr_leaks must be one of {', '.join(_VERDICTS)}, not {verdict!r}")
    if verdict != "off" and not config.option.help:
        from servermgr._pytest_leaks import Leaks  # noqa: PLC0415
        from servermgr._pytest_use import Use  # noqa: PLC0415

        Use.of(config)  # for a SIGTERM, which would leave everything behind
        leaks = Leaks(config, verdict, config.getini("servermgr_leaks_ignore"), _patience(config), LeakWarning)
        config.pluginmanager.register(leaks, _LEAKS)


def _patience(config: pytest.Config) -> float:
    given = config.getini("servermgr_leaks_patience")
    try:
        return float(given)
    except ValueError:
        raise pytest.UsageError(f"servermgr_leaks_patience must be a number of seconds, not {given!r}") from None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take part in the servers that the workers of a run share, before any of them has finished."""
    if not _shares or not hasattr(session.config, "workerinput"):
        return
    if any(getattr(func, "__servermgr_run__", False) for item in session.items for func in _fixture_functions(item)):
        from servermgr._pytest_shared import hold  # noqa: PLC0415
        from servermgr.errors import WorkerError  # noqa: PLC0415

        try:
            hold(session.config)
        except WorkerError:
            pass  # the fixture meets it again, where it is the error of a test


def _fixture_functions(item: pytest.Item) -> Iterator[object]:
    info = getattr(item, "_fixtureinfo", None)  # without it a worker takes part when it needs the first server
    for definitions in getattr(info, "name2fixturedefs", {}).values():
        for definition in definitions:
            yield definition.func


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the managers have said that a failed test has started without our fixtures."""
    report = yield
    if report.failed and call.excinfo is not None and "servermgr.base" in sys.modules:
        from servermgr._pytest_logs import of_frames  # noqa: PLC0415

        use: Use | None = item.config.pluginmanager.get_plugin(USE)
        report.sections += of_frames(call.excinfo.value, () if use is None else use.managers())
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker who the controller is."""
    from servermgr._pytest_workers import for_workers  # noqa: PLC0415

    node.workerinput["servermgr"] = for_workers()
    node.config.stash[_RUN] = node.workerinput["testrunuid"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what an xdist worker has to tell."""
    data = getattr(node, "workeroutput", {}).get("servermgr")
    if data:
        Summary.of(node.config).add(data, node.gateway.id)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fixtures are gone, in the controller workers are, too: end what the run has shared, and judge what is left."""
    config = session.config
    summary = Summary.of(config)
    use: Use | None = config.pluginmanager.get_plugin(USE)
    if use is not None:
        use.finish()
    if _RUN in config.stash:
        from servermgr._pytest_run import end_run  # noqa: PLC0415

        summary.notes += end_run(config.stash[_RUN])
    leaks: Leaks | None = config.pluginmanager.get_plugin(_LEAKS)
    if leaks is not None:
        leaks.finish()
    if hasattr(config, "workeroutput"):
        config.workeroutput["servermgr"] = summary.as_data()
    elif summary.failed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Tell what there is to tell."""
    Summary.of(config).write(terminalreporter, verbose=config.option.verbose > 0)
