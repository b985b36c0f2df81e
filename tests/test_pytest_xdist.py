"""Servers and pytest-xdist: one for all workers, or one for each, and who ends them whoever is killed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from inner_runs import Inner, gone
from stand_ins import PATIENCE, is_living, until

import servermgr

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["pytester"]

#: xdist may run, the rest of what only costs time may not.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:timeout")


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inner]:
    pytest.importorskip("xdist")
    inner = Inner(pytester, monkeypatch)
    yield inner
    for name in inner.records():  # what a test that has failed may have left: these servers have no owner
        servermgr.stop(name)


#: Each test uses the server, and two of them never run in one worker.
USED = """
import os, signal, sys, time, urllib.request
import pytest
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture
from note import note, noted

class Web(CommandManager):
    def __init__(self, directory):
        self.directory = directory
        command = [sys.executable, "-u", "-m", "http.server", "{{port}}", "--bind", "127.0.0.1", "-d", directory]
        super().__init__(command, name="web", port=0, ready="http://127.0.0.1:{{port}}/", grace_period=2.0)

    def start(self, wait=True, timeout=10.0):
        note(os.getpid(), "started-by")
        super().start(wait, timeout)

web = server_fixture(lambda tmp_path_factory: Web(tmp_path_factory.mktemp("web")), scope="{scope}")

def all_here(count):
    for _ in range(2000):
        if len(set(noted("worker"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the other workers have not come")

@pytest.mark.parametrize("number", range({workers}))
def test_it(web, number):
    note(os.getpid(), "worker")
    note(web.pid if {shared} else web.process.pid, "server")
    note(web.port, "port")
    assert urllib.request.urlopen(f"http://127.0.0.1:{{web.port}}/{{number}}/..").status == 200
    all_here({workers})
    {body}
"""


def used(scope: str = "run", workers: int = 2, body: str = "pass") -> str:
    return USED.format(scope=scope, workers=workers, shared=scope == "run", body=body)


# ---- one word apart --------------------------------------------------------------------------------------------------


def test_scope_run_is_one_server_for_all_workers(inner: Inner) -> None:
    """Started once, told to everyone, and stopped with the last of them; its log goes to failures in any worker."""
    inner.write(test_it=used(workers=3, body="assert False"))
    result = inner.run("-n3", "-v", without=WITHOUT)
    result.assert_outcomes(failed=3)
    assert len(set(inner.noted(3, "worker"))) == 3
    assert len(inner.noted(word="started-by")) == 1
    assert len(set(inner.noted(3, "server"))) == 1
    assert len(set(inner.noted(3, "port"))) == 1
    assert gone(inner.noted(word="server"))
    assert inner.files() == []
    shown = result.stdout.str()
    assert shown.count("servermgr: output of web during this test") == 3
    for number in range(3):
        assert f'"GET /{number}/.. HTTP' in shown
    assert shown.count("s  web  (gw") == 1


def test_scope_session_is_one_server_for_each_worker(inner: Inner) -> None:
    """Each with its own port and directory."""
    inner.write(test_it=used(scope="session"))
    inner.run("-n2", without=WITHOUT).assert_outcomes(passed=2)
    assert set(inner.noted(2, "started-by")) == set(inner.noted(2, "worker"))
    assert len(set(inner.noted(2, "server"))) == 2
    assert len(set(inner.noted(2, "port"))) == 2
    assert gone(inner.noted(2, "server"))
    assert inner.files() == []


def test_without_xdist_scope_run_is_the_session(inner: Inner) -> None:
    """The value reads the same: what can be told of the manager, and no more."""
    inner.write(
        test_it=used(
            workers=1,
            body="""
    assert (web.name, web.grace_period, web.directory) == ("web", 2.0, str(web.directory))
    assert not hasattr(web, "stop")
    with pytest.raises(AttributeError, match="has no 'sockets'; of its manager it has: .*port"):
        web.sockets
""",
        )
    )
    inner.run().assert_outcomes(passed=1)
    assert gone(inner.noted(word="server"))
    assert inner.files() == []


# ---- somebody is killed ----------------------------------------------------------------------------------------------


def test_the_server_outlives_the_worker_that_has_started_it(inner: Inner) -> None:
    """A worker killed by SIGKILL takes nothing from the others, and does not keep the server alive either."""
    body = """
    if os.getpid() in noted("started-by"):
        os.kill(os.getpid(), signal.SIGKILL)
    started_by, = noted("started-by")
    while os.path.exists(f"/proc/{started_by}") and open(f"/proc/{started_by}/stat").read().split()[2] != "Z":
        time.sleep(0.01)
    time.sleep(0.2)
    assert urllib.request.urlopen(f"http://127.0.0.1:{web.port}/").status == 200
"""
    inner.write(test_it=used(workers=2, body=body))
    result = inner.run("-n2", "--max-worker-restart=0", "--servermgr-leaks=fail", without=WITHOUT)
    result.assert_outcomes(passed=1, failed=1)
    assert len(inner.noted(word="started-by")) == 1
    assert len(set(inner.noted(2, "server"))) == 1
    assert gone(inner.noted(word="server"))
    assert inner.files() == []


ENDS = {
    "sigterm": lambda run: run.terminate(),
    "sigkill": lambda run: run.kill(),
    "ctrl-c": lambda run: os.killpg(run.pid, signal.SIGINT),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_controller_is_the_end_of_all_servers(inner: Inner, end: str) -> None:
    """Shared or not, and soon: not when xdist's workers notice by themselves, fifteen seconds later."""
    inner.write(
        test_it=used(
            body="""
    time.sleep(60)

own = server_fixture(lambda: CommandManager(["sleep", "60"]), scope="session", name="own", autouse=True)

@pytest.fixture(autouse=True)
def tidy(own, web):
    note(own.process.pid, "server")
    yield
    note(0, "tidied")
"""
        )
    )
    with inner.running("-n2", without=WITHOUT) as run:
        inner.noted(2, "port")
        servers = inner.noted(4, "server")
        workers = inner.noted(2, "worker")
        ENDS[end](run)
        assert gone(servers, 10.0)
        assert gone(workers, 10.0)
        run.communicate(timeout=PATIENCE)
    assert len(inner.all_noted("tidied")) == 2
    until(lambda: inner.files() == [], "an empty ledger")


def test_a_sigterm_for_a_worker_is_left_to_xdist(inner: Inner) -> None:
    """It dies at once, as without us, and another takes its place."""
    body = "if number == 0: os.kill(os.getpid(), signal.SIGTERM)"
    inner.write(test_it=used(scope="session", body=body))
    result = inner.run("-n2", without=WITHOUT)
    result.assert_outcomes(passed=1, failed=1)
    assert "crashed while running 'test_it.py::test_it[0]'" in result.stdout.str()
    assert gone(inner.noted(2, "server"))


def test_what_all_of_them_have_left_the_next_run_ends(inner: Inner) -> None:
    """Controller, caretaker and workers die together; the next run that uses servers finds the one they shared."""
    inner.write(test_it=used(body="time.sleep(60)"), test_next="def test_it(servermgr): pass")
    with inner.running("-n2", "test_it.py", without=WITHOUT) as run:
        server = psutil.Process(inner.noted(2, "server")[0])
        workers = inner.noted(2, "worker")
        caretaker = next(record for record in servermgr.recorded() if record.name.startswith("pytest-run-"))
        assert caretaker.worker is not None
        for pid in (caretaker.worker.pid, run.pid, *workers):
            os.kill(pid, signal.SIGKILL)
    gone([caretaker.worker.pid, *workers])
    assert is_living(server)
    inner.run("test_next.py").assert_outcomes(passed=1)
    assert not is_living(server)
    assert inner.files() == []


def test_a_worker_killed_while_it_starts_the_server_is_replaced(inner: Inner) -> None:
    """What it had begun is ended, and the next worker starts it anew."""
    inner.write(
        test_it="""
import os, signal, time
import pytest
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture
from note import note, noted

def ready():
    if len(noted("try")) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return True

class Slow(CommandManager):
    def spawn(self, argv, **options):
        process = super().spawn(argv, **options)
        note(process.pid, "try")
        return process

server = server_fixture(lambda: Slow(["sleep", "60"], name="slow", ready=ready), scope="run")

@pytest.mark.parametrize("number", range(2))
def test_it(server, number):
    note(server.pid, "used")
    time.sleep(0.3)
"""
    )
    result = inner.run("-n2", without=WITHOUT)
    result.assert_outcomes(passed=1, failed=1)
    assert len(inner.noted(word="try")) == 2
    assert set(inner.noted(word="used")) == {inner.noted(word="try")[1]}
    assert gone(inner.noted(2, "try"))
    assert inner.files() == []


# ---- it cannot be ----------------------------------------------------------------------------------------------------


def test_a_server_that_cannot_be_started_is_tried_once(inner: Inner) -> None:
    """Every worker hears why."""
    inner.write(
        test_it="""
import pytest
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture
from note import note

def make():
    note(0, "try")
    return CommandManager(["sh", "-c", "echo no fuel; exit 7"], name="engine", ready="log:up")

server = server_fixture(make, scope="run")

@pytest.mark.parametrize("number", range(4))
def test_it(server, number):
    pass
"""
    )
    result = inner.run("-n2", without=WITHOUT)
    result.assert_outcomes(errors=4)
    assert len(inner.noted(word="try")) == 1
    assert result.stdout.str().count("no fuel") >= 4
    assert "another worker could not start it" in result.stdout.str()


def test_a_manager_without_a_guardian_cannot_be_shared(inner: Inner) -> None:
    """It would end with the worker that has started it: an error says so, and nothing of it is left."""
    inner.write(
        test_it="""
import subprocess
import servermgr.base
from servermgr.pytest_plugin import server_fixture
from note import note

class Old(servermgr.base.Manager):
    def start(self, wait=True, timeout=10.0):
        self.process = subprocess.Popen(["sleep", "60"])
        note(self.process.pid)

old = server_fixture(Old("old"), scope="run")

def test_it(old):
    pass
"""
    )
    result = inner.run("-n1", without=WITHOUT)
    result.assert_outcomes(errors=1)
    assert "cannot be shared with other workers: its manager does not start it by `self.spawn`" in result.stdout.str()
    assert gone(inner.noted())
    assert inner.files() == []


def test_without_filelock_the_error_says_what_to_install(inner: Inner) -> None:
    inner.write(test_it=used(workers=1), filelock="raise ImportError('not installed')")
    result = inner.run("-n1", without=WITHOUT)
    result.assert_outcomes(errors=1)
    assert "needs filelock: pip install servermgr[pytest]" in result.stdout.str()


# ---- to be kept ------------------------------------------------------------------------------------------------------


def test_keep_leaves_a_shared_server_after_a_failure_in_any_worker(inner: Inner) -> None:
    """And stops it where all is well, as without the option."""
    inner.write(test_it=used(body="assert number or not os.environ.get('FAIL')"))
    inner.run("-n2", "--servermgr-keep", without=WITHOUT).assert_outcomes(passed=2)
    assert gone(inner.noted(2, "server"))
    inner.pids_file.unlink()
    os.environ["FAIL"] = "yes"
    try:
        result = inner.run("-n2", "--servermgr-keep", without=WITHOUT)
    finally:
        del os.environ["FAIL"]
    result.assert_outcomes(passed=1, failed=1)
    server = psutil.Process(inner.noted(2, "server")[0])
    assert is_living(server)
    (name,) = inner.records()
    assert f"stop: python -m servermgr stop {name}" in result.stdout.str()
    servermgr.stop(name)
    assert not is_living(server)
    assert inner.files() == []
