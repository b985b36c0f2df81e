"""Several managers as one: started in the order of their needs, all or none, and stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stand_ins import DEAF, PATIENCE, ROOT, SLEEP, Server, living, script_output, sh, tree_of, until

import servermgr
from servermgr import CommandManager, Stack, nginx
from servermgr.base import ManagerInterface
from servermgr.errors import LaunchError, ReadyTimeoutError, SurvivorsError, WorkerError, WorkerExitedError
from servermgr.tree import StopOutcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="process trees are not held on Windows yet")
HTTP = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]


class Story:
    """What happened to the stand-ins of a test, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)

    def before(self, first: str, second: str) -> bool:
        return self.lines.index(first) < self.lines.index(second)


class StandIn(ManagerInterface):
    """A manager without a server, as a user may write one: it notes when it is called, and does as it is told.

    `start` waits for `gate` if there is one, or until it is stopped; `end` lets `wait` return.
    """

    def __init__(
        self,
        name: str,
        story: Story,
        *,
        gate: threading.Event | threading.Barrier | None = None,
        start_fails: BaseException | None = None,
        stop_fails: BaseException | None = None,
        answer: object = None,
    ) -> None:
        self.name = name
        self.story = story
        self.gate = gate
        self.start_fails = start_fails
        self.stop_fails = stop_fails
        self.answer = answer
        self.started: list[tuple[bool, float | None]] = []
        self.up = False
        self.end = threading.Event()

    def start(self, wait: bool = True, timeout: float | None = 10.0) -> None:
        self.started.append((wait, timeout))
        self.story.add(f"{self.name} begins")
        self.end.clear()
        if isinstance(self.gate, threading.Barrier):
            self.gate.wait(PATIENCE)
        elif self.gate is not None:
            while not self.gate.wait(0.005):
                if self.end.is_set():
                    raise WorkerExitedError(None, "stopped while it started", name=self.name)
        if self.start_fails is not None:
            self.story.add(f"{self.name} fails")
            raise self.start_fails
        self.up = True
        self.story.add(f"{self.name} is up")

    def ready_wait(self, timeout: float | None = 10.0) -> None:
        self.story.add(f"{self.name} is waited for")

    def health(self) -> object:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def stop(self, wait: bool = True) -> StopOutcome:
        self.end.set()
        if not wait:
            return StopOutcome(finished=False)
        if self.stop_fails is not None:
            self.story.add(f"{self.name} cannot be stopped")
            raise self.stop_fails
        if self.up:
            self.story.add(f"{self.name} is down")
        self.up = False
        return StopOutcome(seconds=1.0)

    def wait(self) -> StopOutcome:
        assert self.end.wait(PATIENCE)
        return StopOutcome(status=7)


def stand_ins(names: str, **options: Any) -> tuple[Story, list[StandIn]]:
    story = Story()
    return story, [StandIn(name, story, **options) for name in names]


def http(name: str, folder: Path, **options: Any) -> CommandManager:
    return CommandManager(HTTP, name=name, port=0, ready="tcp://127.0.0.1:{port}", cwd=folder, **options)


def get(manager: CommandManager) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{manager.port}/", timeout=PATIENCE) as answer:
        return int(answer.status)


# ---- order ----------------------------------------------------------------------------------------------------


def test_those_that_need_nobody_start_in_parallel() -> None:
    """Each of them waits for the three others to have begun, so that one after the other none would ever be up."""
    story, managers = stand_ins("abcd", gate=threading.Barrier(4))
    with Stack(*managers):
        assert all(manager.up for manager in managers)
    assert not any(manager.up for manager in managers)
    assert len(story.lines) == 12


def test_one_that_needs_others_starts_when_they_are_ready_and_stops_before_them() -> None:
    story, (db, cache, app, proxy) = stand_ins("abcd")
    with Stack(proxy, app, cache, db, needs={app: [db, cache], proxy: app}):
        assert all(story.before(f"{needed} is up", "c begins") for needed in "ab")
        assert story.before("c is up", "d begins")
    down = [line for line in story.lines if line.endswith("down")]
    assert down[:2] == ["d is down", "c is down"]
    assert set(down[2:]) == {"a is down", "b is down"}


def test_one_starts_as_soon_as_what_it_needs_is_ready_whatever_others_wait_for() -> None:
    story, (slow, fast, above) = stand_ins("abc")
    slow.gate = threading.Event()
    above.gate = threading.Event()
    above.gate.set()
    stack = Stack(slow, fast, above, needs={above: fast})
    starting = threading.Thread(target=stack.start)
    starting.start()
    until(lambda: above.up, "the start of the one above the fast one")
    assert not slow.up
    slow.gate.set()
    starting.join(PATIENCE)
    stack.stop()
    assert story.before("c is up", "a is up")


def test_every_order_of_a_deeper_graph_is_kept() -> None:
    """A diamond with a tail, its managers given in each possible order."""
    for order in itertools.permutations(range(5)):
        story, managers = stand_ins("abcde")
        base, left, right, top, tail = managers
        needs = {left: base, right: [base], top: (left, right), tail: {top, base}}
        with Stack(*(managers[number] for number in order), needs=needs):
            pass
        for above, below in ((left, base), (right, base), (top, left), (top, right), (tail, top)):
            assert story.before(f"{below.name} is up", f"{above.name} begins")
            assert story.before(f"{above.name} is down", f"{below.name} is down")


def test_needs_may_be_names_and_a_stack_may_be_part_of_another() -> None:
    story, (db, cache, app) = stand_ins("abc")
    stores = Stack(db, cache, name="stores")
    with Stack(app, stores, needs={"c": ["stores"]}) as whole:
        assert story.lines[-1] == "c is up"
        assert whole.managers == (app, stores)
    assert story.before("c is down", "a is down")
    assert "stack" in repr(whole)
    assert "stores" in repr(whole)


def test_an_empty_stack_does_nothing() -> None:
    with Stack() as stack:
        assert stack.health() is None
        assert stack.wait() == StopOutcome()
    assert stack.stop().finished


def test_what_is_no_stack_is_refused_with_one_clear_error() -> None:
    _, (db, cache, app) = stand_ins("abc")
    with pytest.raises(
        ValueError, match=r"circle: (a needs c needs b needs a|c needs b needs a needs c|b needs a needs c needs b)$"
    ):
        Stack(db, cache, app, needs={db: app, app: cache, cache: db})
    with pytest.raises(ValueError, match="circle: a needs a"):
        Stack(db, needs={db: db})
    with pytest.raises(ValueError, match="'c' is not in the stack; its managers are: a, b"):
        Stack(db, cache, needs={app: db})
    with pytest.raises(ValueError, match="'d' is not in the stack"):
        Stack(db, needs={db: "d"})
    with pytest.raises(ValueError, match="a is in the stack twice"):
        Stack(db, cache, db)
    with pytest.raises(ValueError, match="2 managers are called 'a'"):
        Stack(db, StandIn("a", Story()), app, needs={app: "a"})
    with pytest.raises(TypeError, match=r"Stack\(db, app\)"):
        Stack([db, cache])  # type: ignore[arg-type]


def test_managers_that_say_they_are_equal_are_told_apart() -> None:
    class Equal(StandIn):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = StandIn.__hash__

    story = Story()
    one, other = Equal("a", story), Equal("b", story)
    with Stack(one, other, needs={"a": "b"}):
        pass
    assert story.before("b is up", "a begins")


def test_options_reach_every_manager() -> None:
    """Without wait, those that others need are waited for all the same."""
    _, (db, app) = stand_ins("ab")
    stack = Stack(db, app, needs={app: db})
    stack.start(timeout=3.0)
    stack.stop()
    stack.start(wait=False, timeout=None)
    stack.ready_wait(4.0)
    stack.stop()
    assert db.started == [(True, 3.0), (True, None)]
    assert app.started == [(True, 3.0), (False, None)]


# ---- failures -------------------------------------------------------------------------------------------------


def test_the_first_failure_stops_what_runs_and_begins_nothing_more() -> None:
    story, (db, bad, app, last) = stand_ins("abcd")
    bad.start_fails = LaunchError(None, "no such program", output=["line one", "line two"])
    stack = Stack(db, bad, app, last, needs={bad: db, app: bad, last: db})
    with pytest.raises(LaunchError) as caught:
        stack.start()
    assert caught.value is bad.start_fails
    assert str(caught.value) == "b: no such program\nlast output:\n    line one\n    line two"
    assert "c begins" not in story.lines
    assert "a is down" in story.lines
    assert not any(manager.up for manager in stack.managers)  # type: ignore[attr-defined]


def test_those_that_are_starting_are_stopped_when_another_one_fails() -> None:
    story, (slow, bad) = stand_ins("ab")
    slow.gate = threading.Event()  # which is never set
    bad.start_fails = WorkerError(None, "wrong")
    with pytest.raises(WorkerError, match="b: wrong") as caught:
        Stack(slow, bad).start()
    assert "further" not in caught.value.details  # that the slow one did not start is our own doing
    assert "a is up" not in story.lines


def test_an_error_of_another_kind_says_whose_it_is() -> None:
    _, (bad,) = stand_ins("b", start_fails=ZeroDivisionError("by zero"))
    with pytest.raises(WorkerError, match="b: ZeroDivisionError: by zero") as caught:
        Stack(bad).start()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_else_fails_is_told_with_the_first_failure() -> None:
    """It is in the error's details, which can be pickled, and in its traceback where Python has notes."""
    _, (db, bad) = stand_ins("ab")
    bad.start_fails = WorkerError(None, "wrong")
    db.stop_fails = WorkerError(None, "lives on")
    with pytest.raises(WorkerError, match="b: wrong") as caught:
        Stack(db, bad, needs={bad: db}).start()
    (further,) = caught.value.details["further"]
    assert str(further) == "a: lives on"
    assert getattr(caught.value, "__notes__", ["also failed: a: lives on"]) == ["also failed: a: lives on"]
    assert str(pickle.loads(pickle.dumps(caught.value)).details["further"][0]) == "a: lives on"  # noqa: S301


def test_stop_stops_everybody_though_one_cannot_be_stopped() -> None:
    story, (db, cache, app) = stand_ins("abc")
    app.stop_fails = ZeroDivisionError("by zero")
    cache.stop_fails = SurvivorsError(None, "somebody lives on", survivors=["x"])
    stack = Stack(db, cache, app, needs={app: [db, cache]})
    stack.start()
    with pytest.raises(WorkerError, match="c: ZeroDivisionError") as caught:
        stack.stop()
    assert caught.value.details["further"] == (cache.stop_fails,)
    assert story.lines[-1] == "a is down"


def test_what_runs_already_is_neither_started_nor_ended(tmp_path: Path) -> None:
    _, (other,) = stand_ins("b")
    with Server(SLEEP) as running:
        with pytest.raises(WorkerError, match="stand-in: runs already"):
            Stack(other, running).start()
        assert other.started == []
        assert running.process.poll() is None


def test_a_stack_that_is_being_started_is_not_started_twice() -> None:
    _, (slow,) = stand_ins("a", gate=threading.Event())
    stack = Stack(slow)
    starting = threading.Thread(target=stack.start)
    starting.start()
    until(lambda: slow.started, "the start")
    with pytest.raises(WorkerError, match="stack: is being started already"):
        stack.start()
    slow.gate.set()  # type: ignore[union-attr]
    starting.join(PATIENCE)
    assert slow.up
    stack.stop()


def test_a_stop_from_another_thread_ends_the_start() -> None:
    """It returns when nothing runs and the start has given up."""
    story, (slow, app) = stand_ins("ab")
    slow.gate = threading.Event()
    stack = Stack(slow, app, needs={app: slow})
    failures: list[WorkerError] = []

    def start() -> None:
        with pytest.raises(WorkerError) as caught:
            stack.start()
        failures.append(caught.value)

    starting = threading.Thread(target=start)
    starting.start()
    until(lambda: slow.started, "the start")
    stack.stop()
    starting.join(PATIENCE)
    assert str(failures[0]) == "stack: stopped before it was ready"
    assert "b begins" not in story.lines


def test_no_thread_outlives_a_start_that_failed() -> None:
    before = threading.active_count()
    _, managers = stand_ins("abcdef", gate=threading.Event())
    _, (bad,) = stand_ins("x", start_fails=WorkerError(None, "wrong"))
    with pytest.raises(WorkerError):
        Stack(*managers, bad).start()
    assert threading.active_count() == before


# ---- health, wait ---------------------------------------------------------------------------------------------


def test_health_asks_everybody() -> None:
    _, (db, app) = stand_ins("ab")
    stack = Stack(db, app)
    assert stack.health() is None
    app.answer = False
    assert stack.health() is False
    app.answer = WorkerError(None, "no answer")
    with pytest.raises(WorkerError, match="b: no answer"):
        stack.health()
    db.answer = ConnectionRefusedError("refused")
    with pytest.raises(WorkerError, match="a: ConnectionRefusedError"):
        stack.health()


@posix_only
def test_a_manager_without_health_is_well_while_it_runs() -> None:
    with Stack(Server(SLEEP)) as stack:
        stack.health()
    with pytest.raises(WorkerError, match="stand-in: it does not run"):
        stack.health()


def test_wait_returns_when_the_first_one_ends_and_the_others_are_stopped() -> None:
    story, (db, app) = stand_ins("ab")
    stack = Stack(db, app, needs={app: db})
    stack.start()
    db.end.set()
    outcome = stack.wait()
    assert outcome.status == 7
    assert stack.ended is db
    assert story.lines[-2:] == ["b is down", "a is down"]


@posix_only
def test_wait_with_real_servers_tells_who_ended_and_how(tmp_path: Path) -> None:
    web, job = http("web", tmp_path), CommandManager(SLEEP, name="job")
    with Stack(web, job, needs={job: web}) as stack:
        tree = tree_of(web.process.pid)
        job.process.kill()
        outcome = stack.wait()
        assert stack.ended is job
        assert outcome.status == -signal.SIGKILL
        assert len(outcome.polite) == 1  # counted once, though it was waited for by two
        assert not living(tree)


# ---- real servers ---------------------------------------------------------------------------------------------


@pytest.mark.server("redis-server")
@pytest.mark.server("nginx")
def test_three_real_servers_are_started_used_and_gone_twice(
    tmp_path: Path, require_server: Callable[[str], str]
) -> None:
    """A store, a web server, and a proxy in front of that, which needs both."""
    redis = [require_server("redis-server"), "--port", "{port}", "--save", "", "--dir", str(tmp_path)]
    store = CommandManager(redis, name="store", port=0, ready="tcp://127.0.0.1:{port}")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page").write_text("the page")
    with servermgr.ports.lease() as lease:
        web = CommandManager(HTTP, name="web", port=lease.port, ready="http://127.0.0.1:{port}/", cwd=tmp_path / "site")
        proxy = nginx.Manager("127.0.0.1", 0, tmp_path / "nginx", name="proxy")
        proxy.add_http_mapping("/", f"http://127.0.0.1:{lease.port}")
        stack = Stack(proxy, web, store, needs={proxy: [web, store]})
        for _ in range(2):
            with stack:
                trees = [tree_of(manager.process.pid) for manager in (store, web, proxy)]
                with urllib.request.urlopen(proxy.url + "page", timeout=PATIENCE) as answer:
                    assert answer.read() == b"the page"
                with socket.create_connection(("127.0.0.1", store.port or 0), timeout=PATIENCE) as connection:
                    connection.sendall(b"SET key value\r\nGET key\r\n")
                    with connection.makefile("rb") as stream:
                        assert [stream.readline().strip() for _ in range(3)] == [b"+OK", b"$5", b"value"]
                stack.health()
            assert not any(living(tree) for tree in trees)


@posix_only
def test_the_error_of_a_real_server_has_its_name_its_status_and_its_last_output(tmp_path: Path) -> None:
    web = http("web", tmp_path)
    bad = CommandManager(sh("echo cannot open the database >&2; exit 3"), name="app", ready="tcp://127.0.0.1:9")
    never = CommandManager(SLEEP, name="never")
    with pytest.raises(WorkerExitedError) as caught:
        Stack(web, bad, never, needs={bad: web, never: bad}).start(timeout=PATIENCE)
    assert (caught.value.name, caught.value.status) == ("app", 3)
    assert "app: " in str(caught.value)
    assert "    cannot open the database" in str(caught.value)
    assert web.process is None
    assert web.processes() == []
    assert never.process is None


@posix_only
def test_a_server_that_will_never_be_ready_is_stopped_as_soon_as_another_one_fails(tmp_path: Path) -> None:
    """Long before its own time is over: a Stack whose start took that long would run into the test's limit."""
    waiting = CommandManager(SLEEP, name="waiting", ready=lambda: False)
    bad = CommandManager(sh('until [ -e "$1" ]; do sleep 0.01; done; exit 3', tmp_path / "go"), name="bad")
    bad.probe = waiting.probe
    stack = Stack(waiting, bad)
    threading.Timer(0.0, lambda: (until(lambda: waiting.process, "the start"), (tmp_path / "go").touch())).start()
    with pytest.raises(WorkerExitedError, match="bad"):
        stack.start(timeout=None)
    assert waiting.process is None


@posix_only
def test_a_server_that_is_not_ready_in_time_is_named_and_the_others_are_stopped(tmp_path: Path) -> None:
    """Also when the start did not wait, and `ready_wait` does."""
    web, late = http("web", tmp_path), CommandManager(SLEEP, name="late", ready=lambda: False)
    stack = Stack(web, late)
    stack.start(wait=False)
    tree = tree_of(late.process.pid)
    with pytest.raises(ReadyTimeoutError, match=r"late: not ready within 2 s"):
        stack.ready_wait(2.0)
    assert (web.process, late.process) == (None, None)
    assert not living(tree)


@posix_only
def test_servers_that_do_not_hear_are_killed_side_by_side(tmp_path: Path) -> None:
    """Three grace periods at the same time."""
    files = [tmp_path / f"up{number}" for number in range(3)]
    deaf = [CommandManager(sh(DEAF, file), name=file.name, grace_period=2.0, ready=file.exists) for file in files]
    with Stack(*deaf) as stack:
        outcome = stack.stop()
    assert len(outcome.killed) == 3
    assert outcome.seconds < 5


#: A program with a stack of two servers, the second of which is never ready.
INTERRUPTED = """
import signal, threading
from servermgr import CommandManager, Stack
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background job of a shell ignores it
up = CommandManager(["sleep", "60"], name="up")
late = CommandManager(["sleep", "60"], name="late", ready=lambda: print("asked", flush=True) and False)
stack = Stack(up, late, needs={late: up})
try:
    stack.start(timeout=None)
except KeyboardInterrupt:
    print("interrupted", up.process, late.process, len(up.processes()), threading.active_count(), flush=True)
"""


@posix_only
def test_ctrl_c_during_the_start_stops_everybody() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "asked\n"
        owner.send_signal(signal.SIGINT)
        rest = owner.communicate(timeout=PATIENCE)[0].split("\n")
        assert [line for line in rest if line not in ("asked", "")] == ["interrupted None None 0 1"]
        assert owner.returncode == 0
    finally:
        owner.kill()
        owner.communicate()


@posix_only
def test_ctrl_c_during_wait_stops_everybody_and_a_signal_handler_may_stop_too() -> None:
    code = """
import os, signal, threading
from servermgr import CommandManager, Stack
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background job of a shell ignores it
managers = [CommandManager(["sleep", "60"], name=name) for name in "ab"]
stack = Stack(*managers, needs={"b": "a"})
stack.start()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    stack.wait()
except KeyboardInterrupt:
    print("interrupted", [manager.process for manager in managers])
signal.signal(signal.SIGTERM, lambda *_: stack.stop())
stack.start()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
print("ended", stack.wait().status, [manager.process for manager in managers])
late = CommandManager(["sleep", "60"], name="late", ready=lambda: os.kill(os.getpid(), signal.SIGTERM))
stack = Stack(*managers, late, needs={late: managers})
try:
    stack.start(timeout=None)
except Exception as error:
    print(error, [manager.process for manager in stack.managers], threading.active_count())
"""
    assert script_output(code).splitlines() == [
        "interrupted [None, None]",
        "ended -15 [None, None]",
        "stack: stopped before it was ready [None, None, None] 1",
    ]


@posix_only
def test_async_with_starts_and_stops_and_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    async def use() -> int:
        async with Stack(http("web", tmp_path)) as stack:
            return await asyncio.to_thread(get, stack.managers[0])

    assert asyncio.run(use()) == 200
    up, late = CommandManager(SLEEP, name="up"), CommandManager(SLEEP, name="late", ready=lambda: False)

    async def cancelled() -> None:
        starting = asyncio.ensure_future(Stack(up, late).__aenter__())
        while late.process is None:
            await asyncio.sleep(0.01)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        assert starting.cancelled()

    asyncio.run(cancelled())
    assert up.process is None
    assert late.process is None


@posix_only
def test_a_killed_owner_takes_the_whole_stack_with_it(tmp_path: Path) -> None:
    code = """
import sys
from servermgr import CommandManager, Stack
stack = Stack(*(CommandManager(["sleep", "60"], name=name) for name in "abc"))
stack.start()
print(*(manager.process.pid for manager in stack.managers), flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as owner:
        assert owner.stdout is not None
        trees = [tree_of(int(pid)) for pid in owner.stdout.readline().split()]
        owner.kill()
    assert len(trees) == 3
    until(lambda: not any(living(tree) for tree in trees), "the end of the stack")
