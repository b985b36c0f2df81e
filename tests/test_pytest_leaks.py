"""The leak verdict: what a test has started and left behind is found, named and ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from inner_runs import Inner, gone, processes_of
from stand_ins import PATIENCE, is_living

from servermgr import platform

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(platform.NAME != "linux", reason="only Linux has child subreapers")

FAIL = "--servermgr-leaks=fail"
#: What ends here at all ends in this time; without it each leak would cost a second.
INI = "[pytest]\nservermgr_leaks_patience = 0.3\n"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inner]:
    inner = Inner(pytester, monkeypatch)
    inner.write(start=START)
    inner.pytester.makefile(".ini", pytest=INI)
    yield inner
    for process in processes_of(inner.all_noted()):  # of a test that has failed, and of a run without a verdict
        process.kill()


#: Ways to start a process and to leave it behind. Each notes the pid of one that lives for a minute.
START = """
import multiprocessing, os, subprocess, sys, threading, time
from servermgr import CommandManager
from note import alive, note, noted

def child():
    process = subprocess.Popen(["sleep", "60"])
    note(process.pid)
    return process

def thread():
    runner = threading.Thread(target=child)
    runner.start()
    runner.join()

def session():
    note(subprocess.Popen(["sleep", "60"], start_new_session=True).pid)

def fork():
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    note(pid)

def spawned():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
    process.start()
    note(process.pid)

DAEMON = '''
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
with open(sys.argv[1], "a") as file: file.write(f"{os.getpid()} x\\\\n")
for fd in range(64):
    try: os.close(fd)
    except OSError: pass
os.execve("/bin/sleep", ["innocent", "60"], {})
'''

def count():
    try:
        return len(noted())
    except OSError:
        return 0

def daemon():
    before = count()
    subprocess.run([sys.executable, "-S", "-c", DAEMON, os.environ["PIDS"]], check=True)
    while count() == before:
        time.sleep(0.01)

def deaf():
    before = count()
    script = 'trap "" TERM HUP INT; echo "$$ x" >> "$PIDS"; while :; do sleep 1; done'
    subprocess.Popen(["setsid", "sh", "-c", script])
    while count() == before:
        time.sleep(0.01)

def orphan():
    before = count()
    subprocess.run(["sh", "-c", 'sleep 60 & echo "$! x" >> "$PIDS"'])
    assert count() > before

def manager():
    left = CommandManager(["sleep", "60"], name="left")
    left.start()
    note(left.process.pid)
"""
#: Left by one test each: a verdict waits before it is given.
GROUPS = {
    "children": ("child", "thread", "session", "fork", "spawned"),
    "daemons": ("daemon", "deaf", "orphan"),
    "managers": ("manager",),
}


def leaking(**groups: tuple[str, ...]) -> str:
    """One test for each group, and one after it that leaves nothing."""
    tests = [
        "\n    ".join([f"def test_{name}():", *(f"start.{way}()" for way in ways)])
        + f"\n\ndef test_after_{name}():\n    pass\n"
        for name, ways in groups.items()
    ]
    return "\n".join(["import start\n", *tests])


def error_of(test: str, shown: str) -> str:
    """What pytest shows of a test's error in the teardown."""
    _, _, part = shown.partition(f" ERROR at teardown of {test} ")
    return part.partition("\n___")[0].partition("\n===")[0]


# ---- found, named, ended ---------------------------------------------------------------------------------------------


def test_whatever_a_test_leaves_is_found_named_and_ended(inner: Inner) -> None:
    """Children, those of threads, in sessions of their own, daemons, the deaf, orphans; and managers, by their name."""
    inner.write(test_leaks=leaking(**GROUPS))
    result = inner.run(FAIL, "-W", "ignore")
    result.assert_outcomes(passed=2 * len(GROUPS), errors=len(GROUPS))
    pids = inner.noted(sum(map(len, GROUPS.values())))
    assert not any(map(is_living, processes_of(pids)))
    places = [(f"test_{group}", way) for group, ways in GROUPS.items() for way in ways]
    for (test, way), pid in zip(places, pids, strict=True):
        said = error_of(test, result.stdout.str())
        what = f"server 'left' (pid {pid}): sleep 60\n" if way == "manager" else f"process {pid}: "
        assert f"left behind: {what}" in said
        assert f"    started by test_leaks.py::{test}\n" in said
        assert said.endswith("(ended now)")
    assert inner.files() == []


def test_without_the_option_nothing_is_judged(inner: Inner) -> None:
    """And nobody is ended: what the other test finds is there."""
    inner.write(test_leaks=leaking(one=("child",), two=("daemon",)))
    inner.run("-W", "ignore").assert_outcomes(passed=4)
    assert all(map(is_living, processes_of(inner.noted(2))))
    assert len(processes_of(inner.noted(2))) == 2


def test_warn_is_a_warning_and_ends_them_all_the_same(inner: Inner) -> None:
    inner.write(test_leaks=leaking(one=("child",), two=("daemon",)))
    result = inner.run("--servermgr-leaks=warn")
    result.assert_outcomes(passed=4, warnings=2)
    assert result.ret == 0
    assert "LeakWarning: left behind: process" in result.stdout.str()
    assert gone(inner.noted(2))


def test_the_configuration_can_ask_for_it_and_a_marker_makes_exceptions(inner: Inner) -> None:
    """So can a list of command lines that are nobody's fault."""
    ini = "servermgr_leaks = fail\nservermgr_leaks_ignore =\n    ^sleep 47$\n    ^nothing like it$\n"
    inner.pytester.makefile(".ini", pytest=INI + ini)
    inner.write(
        test_leaks="""
import subprocess
import pytest
from note import note

@pytest.mark.servermgr_leaks("off")
def test_off():
    note(subprocess.Popen(["sleep", "60"]).pid)

@pytest.mark.servermgr_leaks("warn")
def test_warned():
    note(subprocess.Popen(["sleep", "60"]).pid, "ended")

def test_ignored():
    note(subprocess.Popen(["sleep", "47"]).pid)

def test_failed():
    note(subprocess.Popen(["sleep", "60"]).pid, "ended")
"""
    )
    inner.run().assert_outcomes(passed=4, errors=1, warnings=1)
    assert gone(inner.noted(2, "ended"))
    assert len(processes_of(inner.noted(2))) == 2
    inner.run("--servermgr-leaks=off").assert_outcomes(passed=4)
    for word in ("x", "ended"):
        for process in processes_of(inner.noted(4, word)):
            process.kill()


def test_a_test_that_fails_anyway_keeps_its_own_error(inner: Inner) -> None:
    """In its call and in its teardown; what it has left is told beside it."""
    inner.write(
        test_leaks="""
import pytest, start

def test_call():
    start.child()
    assert False, "my own fault"

@pytest.fixture
def broken():
    yield
    raise OSError("the fixture's fault")

def test_teardown(broken):
    start.child()
"""
    )
    result = inner.run(FAIL, "-W", "ignore")
    result.assert_outcomes(failed=1, passed=1, errors=2)
    shown = result.stdout.str()
    assert "my own fault" in shown
    assert "OSError: the fixture's fault" in shown
    assert "servermgr leaks" in shown
    assert shown.count("left behind: process") >= 2
    assert gone(inner.noted(2))


# ---- not a leak ------------------------------------------------------------------------------------------------------


def test_what_a_fixture_has_started_may_live_as_long_as_the_fixture(inner: Inner) -> None:
    """Then it must be gone. The verdict names the fixture, and the test for which it was set up."""
    inner.write(
        test_one="""
import subprocess
import pytest, start
from note import note

@pytest.fixture(scope="module")
def good():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield
        process.kill()

@pytest.fixture(scope="module")
def bad(good):
    start.daemon()

@pytest.fixture
def asks(request):
    request.getfixturevalue("bad")
    start.child()

def test_first(asks):
    pass

def test_second(bad):
    pass

def test_last():
    pass
""",
        test_two="""
def test_other():
    pass
""",
    )
    result = inner.run(FAIL, "-W", "ignore")
    result.assert_outcomes(passed=4, errors=2)
    daemon, child = inner.noted(2)
    first, last = (error_of(test, result.stdout.str()) for test in ("test_first", "test_last"))
    assert f"process {child}: sleep 60\n    started by fixture 'asks' (function scope)" in first
    assert f"process {daemon}: innocent 60\n    started by fixture 'bad' (module scope)" in last
    assert "(module scope), set up for test_one.py::test_first\n" in last
    assert gone([daemon, child])


def test_servers_of_a_wider_scope_are_no_leak(inner: Inner) -> None:
    """Wherever they are started, started anew, or start children of their own; shared and kept ones neither."""
    inner.write(
        test_servers="""
import subprocess, time
import pytest
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture
from note import note

FORKING = 'sleep 60 & trap "setsid sleep 60 & sleep 60 &" USR1; echo up; while :; do wait; done'

@pytest.fixture(scope="module")
def its_own():
    with CommandManager(["sleep", "60"], name="its-own") as manager:
        yield manager

shared = server_fixture(lambda: CommandManager(["sleep", "60"], name="shared"), scope="run")
forking = server_fixture(lambda: CommandManager(["sh", "-c", FORKING], ready="log:up"), scope="session")

@pytest.fixture(scope="session")
def plain():
    with subprocess.Popen(["sh", "-c", FORKING]) as process:
        yield process
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)])
        process.kill()

def test_start(servermgr_session, its_own, shared, forking, plain):
    servermgr_session.start(CommandManager(["sleep", "60"], name="late"))

def test_start_anew(servermgr_session, its_own, forking):
    its_own.stop()
    its_own.start()
    forking.stop()
    forking.start()

def test_children(forking, plain):
    time.sleep(0.1)
    forking.process.send_signal(10)
    plain.send_signal(10)
    time.sleep(0.3)

def test_idle():
    pass
"""
    )
    result = inner.run(FAIL)
    result.assert_outcomes(passed=4)
    assert "left behind" not in result.stdout.str()


def test_what_is_just_ending_is_given_time(inner: Inner) -> None:
    """And what has ended, and nobody has waited for yet, is no process any more."""
    inner.write(
        test_ending="""
import subprocess

def test_ending():
    subprocess.Popen(["sh", "-c", "sleep 0.2"]).poll()

def test_zombie():
    subprocess.Popen(["true"])

def test_stopped(servermgr):
    slow = "trap 'sleep 0.2; exit' TERM; echo up; sleep 60 & wait"
    servermgr.command(["sh", "-c", slow], ready="log:up").stop(wait=False)
"""
    )
    inner.pytester.makefile(".ini", pytest="[pytest]\n")
    inner.run(FAIL, "-W", "ignore").assert_outcomes(passed=3)


def test_nobody_loses_an_exit_status(inner: Inner) -> None:
    """Of subprocess, asyncio, multiprocessing and bare forks, while orphans die all around."""
    inner.write(
        test_status="""
import asyncio, multiprocessing, os, subprocess, sys, time
import pytest

def orphans():
    for _ in range(5):
        subprocess.run(["sh", "-c", "sleep 0.05 & setsid sleep 0.05 & exit 3"])

def leave(status):
    sys.exit(status)

@pytest.fixture(scope="module")
def started():
    process = multiprocessing.Process(target=leave, args=(4,))
    process.start()
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    return {
        "popen": subprocess.Popen(["sh", "-c", "exit 6"], start_new_session=True),
        "ended": subprocess.Popen(["sh", "-c", "sleep 0.1; exit 9"]),
        "process": process, "pid": pid,
    }

@pytest.mark.parametrize("number", range(3))
def test_meanwhile(started, number):
    orphans()

def test_asyncio():
    async def main():
        processes = [await asyncio.create_subprocess_exec("sh", "-c", f"exit {n}") for n in range(3)]
        orphans()
        return [await process.wait() for process in processes]
    assert asyncio.run(main()) == [0, 1, 2]

def test_all(started):
    assert started["popen"].wait() == 6
    assert started["ended"].wait() == 9
    assert os.waitstatus_to_exitcode(os.waitpid(started["pid"], 0)[1]) == 5
    started["process"].join()
    assert started["process"].exitcode == 4

def test_killed_by_the_verdict():
    global left
    left = subprocess.Popen(["sleep", "60"])

def test_its_status():
    assert left.wait() == -15
"""
    )
    inner.run(FAIL, "-W", "ignore").assert_outcomes(passed=7, errors=1)


def test_dead_orphans_are_collected(inner: Inner) -> None:
    """Those that are certainly orphans: a suite of daemons does not fill the table of processes."""
    inner.write(
        test_orphans="""
import subprocess, time
import psutil, pytest

@pytest.mark.parametrize("number", range(10))
def test_daemons(number):
    subprocess.run(["setsid", "-w", "sh", "-c", "(true) & (true) & exit 0"])
    time.sleep(0.05)

def test_after():
    zombies = [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    assert len(zombies) <= 2
"""
    )
    inner.run(FAIL).assert_outcomes(passed=11)


# ---- no test's fault, or cut short -----------------------------------------------------------------------------------


def test_what_no_test_has_started_is_judged_at_the_end(inner: Inner) -> None:
    """An import's and a plugin's; with fail the run fails."""
    inner.write(test_import="import start\nstart.child()\n\ndef test_it():\n    pass\n")
    result = inner.run(FAIL, "-W", "ignore")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (pid,) = inner.noted()
    shown = result.stdout.str()
    assert "= left behind by this run =" in shown
    assert f"process {pid}: sleep 60\n    started in the collection of test_import.py" in shown
    assert gone([pid])
    result = inner.run("--servermgr-leaks=warn", "-W", "ignore")
    assert result.ret == 0
    assert gone(inner.noted(2))


def test_a_run_that_is_cut_short_is_judged_all_the_same(inner: Inner) -> None:
    """Ctrl-C within a test, and `-x` with fixtures still to be torn down."""
    inner.write(
        test_long="""
import time
import pytest, start
from note import note

@pytest.fixture(scope="session")
def bad():
    start.daemon()

def test_it(bad):
    start.child()
    note(0, "up")
    time.sleep(60)
"""
    )
    with inner.running(FAIL) as run:
        inner.noted(word="up")
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert gone(inner.noted(2))
    assert "started by test_long.py::test_it" in output
    assert "started by fixture 'bad' (session scope), set up for test_long.py::test_it" in output


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_under_pytest_timeout(inner: Inner, method: str) -> None:
    """With `thread` the process ends within the test, and the verdict comes before that."""
    inner.write(
        test_slow="""
import time
import start

def test_it():
    start.child()
    start.daemon()
    start.manager()
    time.sleep(60)
"""
    )
    without = ("-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:xdist")
    result = inner.run(FAIL, "--timeout=1.5", f"--timeout-method={method}", without=without)
    assert result.ret == 1
    shown = result.stdout.str()
    for pid in inner.noted(3):
        assert f"process {pid}: " in shown or f"server 'left' (pid {pid})" in shown
    assert "started by test_slow.py::test_it" in shown
    assert gone(inner.noted(3))


# ---- xdist -----------------------------------------------------------------------------------------------------------


def test_with_xdist_each_worker_judges_and_the_controller_ends_what_a_dead_one_has_left(inner: Inner) -> None:
    inner.write(
        test_some="""
import os
import pytest, start

def test_leaks():
    start.daemon()

def test_dies():
    start.daemon()
    os._exit(1)
"""
    )
    without = ("-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:timeout")
    result = inner.run(FAIL, "-n1", "--max-worker-restart=0", without=without)
    result.assert_outcomes(passed=1, failed=1, errors=1)
    assert gone(inner.noted(2))
    shown = result.stdout.str()
    first, second = inner.noted(2)
    assert f"process {first}: innocent 60\n    started by test_some.py::test_leaks" in shown.replace("E   ", "")
    assert "left behind by this run" in shown
    assert f"process {second}: innocent 60\n    started by a worker that has died since" in shown
