"""The pytest plugin: fixtures that start servers, what is said of them, and the end of all of them.

Every run is a real one, in a process of its own.
"""

from __future__ import annotations

import re
import signal
from typing import NamedTuple

import pytest
from inner_runs import Inner, gone
from stand_ins import PATIENCE, ROOT, lives, until

import servermgr

pytest_plugins = ["pytester"]


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    return Inner(pytester, monkeypatch)


# ---- until it is asked for -----------------------------------------------------------------------------------------


def test_it_does_nothing_until_it_is_used(inner: Inner) -> None:
    """A run without it loads none of it but its options, and leaves signals and the disk alone."""
    inner.write(
        test_none="""
import os, signal, sys

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("servermgr")
    loaded = {name for name in sys.modules if name.partition(".")[0] in ("servermgr", "psutil")}
    assert loaded == {"servermgr", "servermgr.pytest_plugin", "servermgr._pytest_summary"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not os.path.exists(os.environ["SERVERMGR_LEDGER"])
"""
    )
    inner.run("-W", "error").assert_outcomes(passed=1)


def test_its_options_and_fixtures_say_what_they_do(inner: Inner) -> None:
    shown = inner.run("--help").stdout.str()
    assert "--servermgr-leaks={off,warn,fail}" in shown
    assert "--servermgr-keep" in shown
    assert "servermgr_leaks_ignore (linelist):" in shown
    shown = inner.run("--fixtures").stdout.str()
    for name in ("servermgr", "servermgr_class [class", "servermgr_module [module", "servermgr_session [session"):
        assert f"\n{name} " in shown


def test_a_wrong_verdict_in_the_configuration_is_refused(inner: Inner) -> None:
    inner.pytester.makefile(".ini", pytest="[pytest]\nservermgr_leaks = perhaps\n")
    result = inner.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "servermgr_leaks must be one of off, warn, fail, not 'perhaps'" in result.stderr.str()


# ---- scopes ----------------------------------------------------------------------------------------------------------


def test_a_server_lives_as_long_as_the_scope_of_its_fixture(inner: Inner) -> None:
    """The test's until its end, the class's, the module's, the session's."""
    inner.write(
        test_first="""
from note import alive, note, noted

class TestClass:
    def test_start(self, servermgr, servermgr_class, servermgr_module, servermgr_session):
        for servers, word in (
            (servermgr, "function"), (servermgr_class, "class"), (servermgr_module, "module"),
            (servermgr_session, "session"),
        ):
            note(servers.command(["sleep", "60"]).process.pid, word)

    def test_function(self):
        assert not alive(noted("function")[0])
        assert alive(noted("class")[0])

def test_class():
    assert not alive(noted("class")[0])
    assert alive(noted("module")[0])
""",
        test_second="""
from note import alive, noted

def test_module():
    assert not alive(noted("module")[0])
    assert alive(noted("session")[0])
""",
    )
    inner.run().assert_outcomes(passed=4)
    assert gone(inner.noted(word="session"))
    assert inner.files() == []


def test_servers_are_stopped_in_reverse_and_one_that_fails_holds_up_nobody(inner: Inner) -> None:
    """The failure is the test's, in its teardown; of several each is told."""
    inner.write(
        test_order="""
import servermgr.base
from note import alive, note, noted

class Bad(servermgr.CommandManager):
    def stop(self, wait=True):
        note(0, self.name)
        super().stop(wait)
        if self.name.startswith("bad"):
            raise OSError(f"the pipes of {self.name} are rusty")

def test_one(servermgr):
    for name in ("a", "bad", "b"):
        note(servermgr.start(Bad(["sleep", "60"], name=name)).process.pid)

def test_two(servermgr):
    for name in ("bad-c", "bad-d"):
        note(servermgr.start(Bad(["sleep", "60"], name=name)).process.pid)
"""
    )
    result = inner.run()
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.re_match_lines(["E .*OSError: the pipes of bad are rusty"])
    result.stdout.re_match_lines([".*2 servers could not be stopped: .*bad-d are rusty; .*bad-c are rusty"])
    order = [line.split()[1] for line in inner.pids_file.read_text().splitlines() if line.startswith("0 ")]
    assert order == ["b", "bad", "a", "bad-d", "bad-c"]
    assert gone(inner.noted(5))


def test_a_server_that_does_not_start_fails_the_test_with_its_output(inner: Inner) -> None:
    """Nothing of it is left, and neither of what a careless manager had begun."""
    inner.write(
        test_bad="""
import subprocess
import servermgr.base
from note import note

def test_exits(servermgr):
    servermgr.command(["sh", "-c", "echo no fuel; exit 7"], name="engine", ready="log:up")

class Careless(servermgr.base.Manager):
    def start(self, wait=True, timeout=10.0):
        note(self.spawn(["sleep", "60"]).pid)
        raise LookupError("the map")

def test_careless(servermgr):
    servermgr.start(Careless("careless"))
"""
    )
    result = inner.run()
    result.assert_outcomes(failed=2)
    result.stdout.re_match_lines([".*WorkerExitedError: engine: .*exit status 7.*", ".*no fuel"])
    assert gone(inner.noted())


# ---- server_fixture --------------------------------------------------------------------------------------------------


def test_a_fixture_is_declared_in_one_line_from_any_manager(inner: Inner) -> None:
    """Of any scope; the arguments are fixtures; a manager itself will do; parameters work as in any fixture."""
    inner.write(
        conftest="""
import pytest
from servermgr import CommandManager, Stack
from servermgr.pytest_plugin import server_fixture

@pytest.fixture(scope="session")
def seconds():
    return "60"

first = server_fixture(lambda seconds, tmp_path_factory: CommandManager(["sleep", seconds]), scope="session")
second = server_fixture(lambda tmp_path, request: CommandManager(["sleep", "60"], name=request.node.name))
third = server_fixture(CommandManager(["sleep", "60"], name="ready-made"), scope="module")
named = server_fixture(lambda: CommandManager(["sleep", "60"]), name="fourth")
chosen = server_fixture(lambda request: CommandManager(["sleep", request.param]), params=["60", "61"])
both = server_fixture(lambda: Stack(*(CommandManager(["sleep", "60"], name=name) for name in "xy")))
""",
        test_them="""
from note import alive, note, noted

def test_all(first, second, third, fourth, both):
    assert second.name == "test_all"
    assert third.name == "ready-made"
    for manager in (first, second, third, fourth, *both.managers):
        note(manager.process.pid, "wide" if manager in (first, third) else "narrow")

def test_scopes(first, third):
    assert [first.process.pid, third.process.pid] == noted("wide")
    assert not any(map(alive, noted("narrow")))

def test_params(chosen):
    note(chosen.argv[1], "argument")
""",
    )
    inner.run().assert_outcomes(passed=4)
    assert inner.noted(word="argument") == [60, 61]
    assert gone(inner.noted(2, "wide"))


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_a_failure_shows_what_its_servers_have_written_during_the_test(inner: Inner) -> None:
    """Not what they wrote before, nor what servers say that the test does not use; nothing where all is well."""
    inner.write(
        conftest="""
import time
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture

class Talker(CommandManager):
    def __init__(self, name):
        super().__init__(["sh", "-c", f"touch {name}.in; exec tail -s 0.02 -f {name}.in"], name=name)

    def say(self, text):
        with open(f"{self.name}.in", "a") as file:
            print(text, file=file)
        for _ in range(1000):
            if text.splitlines()[-1] in self.output_tail(1000):
                return
            time.sleep(0.01)

used = server_fixture(lambda: Talker("used"), scope="session")
other = server_fixture(lambda: Talker("other"), scope="session")
""",
        test_talk="""
import pytest
from conftest import Talker

def test_well(used, other):
    used.say("old words")
    other.say("words of another")

def test_fails(used, servermgr):
    own = servermgr.start(Talker("own"))
    used.say("new words")
    own.say("its own words")
    assert False, "on purpose"

def test_asks_for_it_late(request):
    request.getfixturevalue("used").say("late words")
    assert False

def test_stops_it_itself(servermgr):
    own = servermgr.start(Talker("brief"))
    own.say("last words")
    own.stop()
    assert False

def test_says_much(used):
    used.say("\\n".join(f"word {number:05}" for number in range(5000)))
    assert False

@pytest.fixture
def broken(used):
    used.say("words in the set-up")
    raise OSError

def test_set_up(broken):
    pass

def test_says_nothing(used):
    assert False
""",
    )
    result = inner.run("-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=5, errors=1)
    shown = result.stdout.str()
    part = {name: text for name, _, text in (part.partition(" ____") for part in shown.split("____ ")[1:])}
    fails, late, own, much = (
        part[f"test_{name}"] for name in ("fails", "asks_for_it_late", "stops_it_itself", "says_much")
    )
    assert "servermgr: output of used during this test" in fails
    assert "new words" in fails
    assert "servermgr: output of own during this test" in fails
    assert "its own words" in fails
    assert "old words" not in shown
    assert "of another" not in shown
    assert "late words" in late
    assert "last words" in own
    assert "word 04999" in much
    assert "word 04890" not in much
    assert "(the last of it; there was more before: /" in much
    assert "words in the set-up" in part["ERROR at setup of test_set_up"]
    assert "output of" not in part["test_says_nothing"]


def test_a_failure_shows_the_servers_that_a_test_has_started_by_itself(inner: Inner) -> None:
    """Without any fixture of ours, and stopped by now; but not again what the error has said already."""
    inner.write(
        test_plain="""
from servermgr import CommandManager

def use(manager):
    with manager:
        raise LookupError

def test_uses():
    use(CommandManager(["sh", "-c", "echo words of a server; exec sleep 60"], name="plain", ready="log:words"))

def test_does_not_start():
    use(CommandManager(["sh", "-c", "echo no fuel; exit 7"], name="engine", ready="log:up"))

def test_well():
    with CommandManager(["sh", "-c", "echo all is well; exec sleep 60"], name="well", ready="log:well"):
        pass
"""
    )
    result = inner.run()
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.re_match_lines(["-+ servermgr: output of plain during this test -+", "words of a server"])
    assert "output of engine" not in result.stdout.str()
    assert "output of well" not in result.stdout.str()


def test_start_up_times_are_shown_with_v(inner: Inner) -> None:
    inner.write(
        test_it="""
def test_it(servermgr):
    servermgr.command(["sleep", "60"], name="sleeper")
"""
    )
    shown = inner.run("-v").stdout.str()
    assert "start-up times of servers" in shown
    assert "s  sleeper  (servermgr, in test_it.py::test_it)" in shown
    assert "start-up" not in inner.run().stdout.str()


# ---- to be kept ------------------------------------------------------------------------------------------------------


def test_keep_leaves_the_servers_of_a_failed_test_for_a_look(inner: Inner) -> None:
    """Those alone: they are named, with their log and the command that stops them, which does."""
    inner.write(
        test_it="""
import subprocess
import servermgr.base
from servermgr import CommandManager, Stack
from note import note

def test_well(servermgr):
    note(servermgr.command(["sleep", "60"], name="well").process.pid, "well")

def test_bad(servermgr):
    kept = servermgr.command(["sh", "-c", "echo hello; exec sleep 60"], name="kept", ready="log:hello")
    stack = servermgr.start(Stack(*(CommandManager(["sleep", "60"], name=name) for name in "xy")))
    assert kept.name == "kept"
    for manager in (kept, *stack.managers):
        note(manager.process.pid, "bad")
    assert False

class Old(servermgr.base.Manager):
    def start(self, wait=True, timeout=10.0):
        self.process = subprocess.Popen(["sleep", "60"])

def test_cannot(servermgr):
    note(servermgr.start(Old("old")).process.pid, "old")
    assert False
"""
    )
    result = inner.run("--servermgr-keep")
    result.assert_outcomes(passed=1, failed=2)
    kept = inner.noted(3, "bad")
    try:
        assert gone(inner.noted(word="well") + inner.noted(word="old"))
        assert all(map(is_living_pid, kept))
        names = sorted(inner.records())
        assert [name.rpartition("-")[0] for name in names] == ["kept", "x", "y"]
        shown = result.stdout.str()
        assert f"{names[0]} (pid {kept[0]}), after the failure of test_it.py::test_bad" in shown
        assert f"stop: python -m servermgr stop {names[0]}" in shown
        log = next(line.split()[1] for line in shown.splitlines() if line.startswith("    log:") and names[0] in line)
        with open(log) as file:
            assert file.read() == "hello\n"
        assert "old was not kept" in shown
    finally:
        for name in inner.records():
            servermgr.stop(name)
    assert gone(kept)
    assert inner.files() == []


def is_living_pid(pid: int) -> bool:
    return lives(pid)


# ---- the end of a run ------------------------------------------------------------------------------------------------

LONG = """
import os, time, pytest
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture
from note import note

DAEMON = 'trap "" TERM; setsid sleep 60 & sleep 60 & echo $! >&2; echo up; wait'
server = server_fixture(
    lambda: CommandManager(["sh", "-c", DAEMON], name="long", ready="log:up", grace_period=0.3, crash_grace=0.3),
    scope="session",
)

@pytest.fixture
def tidy():
    yield
    note(0, "tidied")

def test_it(server, tidy):
    for info in server.processes():
        note(info.pid)
    note(0, "up")
    {body}

def test_never(server):
    note(0, "never")
"""

ENDS = {
    "ctrl-c": ("time.sleep(60)", signal.SIGINT, pytest.ExitCode.INTERRUPTED),
    "sigterm": ("time.sleep(60)", signal.SIGTERM, -signal.SIGTERM),
    "sigkill": ("time.sleep(60)", signal.SIGKILL, -signal.SIGKILL),
    "sighup": ("time.sleep(60)", signal.SIGHUP, -signal.SIGHUP),
    "os._exit": ("os._exit(3)", None, 3),
    "first failure": ("assert False", None, pytest.ExitCode.TESTS_FAILED),
    "pytest.exit": ("pytest.exit('enough', 9)", None, 9),
    "internal error": ("item_hook_fails", None, pytest.ExitCode.INTERNAL_ERROR),
}


@pytest.mark.parametrize("end", ENDS)
def test_however_a_run_ends_nothing_of_its_servers_is_left(inner: Inner, end: str) -> None:
    """Where pytest can still act, fixtures are torn down, too; and a SIGTERM is obeyed in the end."""
    body, number, status = ENDS[end]
    hook = ""
    if end == "internal error":
        body = "pass"
        hook = "def pytest_runtest_logreport(report):\n    if report.when == 'call':\n        raise RuntimeError\n"
    inner.write(test_long=LONG.format(body=body), conftest=hook)
    with inner.running("-x") as run:
        inner.noted(word="up")
        pids = inner.noted(3)
        if number is not None:
            run.send_signal(number)
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == status, output
    assert gone(pids)
    assert inner.all_noted("never") == []
    dies_at_once = end in ("sigkill", "sighup", "os._exit")
    assert bool(inner.all_noted("tidied")) is not dies_at_once
    until(lambda: not inner.files(), "an empty ledger")


def test_maxfail_leaves_nothing(inner: Inner) -> None:
    body = "assert False\n\ndef test_again(server):\n    assert False"
    inner.write(test_long=LONG.format(body=body))
    result = inner.run("--maxfail=2")
    result.assert_outcomes(failed=2)
    assert gone(inner.noted(3))
    assert inner.all_noted("never") == []


def test_a_second_sigterm_ends_the_run_at_once(inner: Inner) -> None:
    """As the first does, where a test swallows everything."""
    body = """
    while True:
        try:
            time.sleep(60)
        except BaseException:
            note(0, "deaf")
"""
    inner.write(test_long=LONG.format(body=body))
    with inner.running() as run:
        inner.noted(word="up")
        pids = inner.noted(3)
        run.send_signal(signal.SIGTERM)
        inner.noted(word="deaf")
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=PATIENCE)
    assert run.returncode == -signal.SIGTERM
    assert gone(pids)


def test_a_handler_of_somebody_else_is_left_alone(inner: Inner) -> None:
    """Also one that was set while ours was there."""
    inner.write(
        conftest="""
import signal

mine = lambda *_: None

def pytest_configure(config):
    if config.getoption("--strict-markers"):
        signal.signal(signal.SIGTERM, mine)

def pytest_unconfigure():
    if signal.getsignal(signal.SIGTERM) is mine:
        print("it is still mine")
""",
        test_it="""
import signal, conftest

def test_it(servermgr):
    if signal.getsignal(signal.SIGTERM) is not conftest.mine:
        assert "Terminated" in repr(signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, conftest.mine)
""",
    )
    assert "it is still mine" in inner.run("--strict-markers").stdout.str()
    assert "it is still mine" in inner.run().stdout.str()


# ---- the documentation -----------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """A section of the page: its files, its commands with what they show, and how they end."""

    title: str
    files: dict[str, str]
    commands: list[tuple[str, list[str]]]
    outcome: dict[str, int]
    needs: list[str]


def examples() -> list[Example]:
    page = (ROOT / "docs" / "pytest.md").read_text("utf-8")
    found = [example_of(section) for section in page.split("\n## ")[1:]]
    return [example for example in found if example.commands]


def example_of(section: str) -> Example:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    files = {text.split()[1]: text for kind, text in blocks if kind == "python"}
    consoles = [text.splitlines() for kind, text in blocks if kind == "console"]
    notes = dict(re.findall(r"<!-- (outcome|needs): (.*?) -->", section))
    outcome = {name: int(count) for name, count in (pair.split("=") for pair in notes.get("outcome", "").split())}
    commands = [(lines[0].removeprefix("$ pytest"), lines[1:]) for lines in consoles]
    return Example(section.partition("\n")[0], files, commands, outcome, notes.get("needs", "").split())


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_the_examples_of_the_documentation_do_what_it_says(inner: Inner, example: Example) -> None:
    for module in example.needs:
        pytest.importorskip(module)
    for name, text in example.files.items():
        inner.pytester.path.joinpath(name).write_text(text)
    for options, shown in example.commands:
        result = inner.run(*options.split(), without=("-p", "no:cacheprovider", "-p", "no:timeout"))
        result.assert_outcomes(**example.outcome)
        for line in shown:
            assert line.strip("-= ") in result.stdout.str()
    assert inner.files() == []


def test_the_documentation_has_examples() -> None:
    assert len(examples()) >= 6
    assert all(example.files and example.outcome for example in examples())
