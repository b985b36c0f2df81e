"""servermgr.base: the interface of 2010 name by name, starting, getting ready, and the worker's process object."""

from __future__ import annotations

import inspect
import itertools
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from stand_ins import DEAF, DEAF_CHILD, FAMILY, SLEEP, Server, content, living, python, sh, tree_of, until

import servermgr
from servermgr import base, readiness
from servermgr.base import (
    LaunchError,
    Manager,
    ManagerInterface,
    ReadyTimeoutError,
    StopOutcome,
    WorkerError,
    WorkerExitedError,
)
from servermgr.command import CommandManager, signal_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

NO_DEFAULT = inspect.Parameter.empty
#: A time-out that no test waits for: what must end early ends long before.
LONG = 50.0
EARLY = 25.0


def parameters(function: Callable[..., object]) -> list[tuple[str, object]]:
    return [(name, item.default) for name, item in inspect.signature(function).parameters.items()][1:]


def never() -> None:
    raise WorkerError(None, "no answer on port 80")


# ---- the names of 2010 ----------------------------------------------------------------------------------------

OLD_INTERFACE = {
    "health": [],
    "ready_wait": [("timeout", 10.0)],
    "start": [("wait", True), ("timeout", 10.0)],
    "stop": [("wait", True)],
    "wait": [],
}


@pytest.mark.parametrize(("name", "expected"), OLD_INTERFACE.items())
def test_the_interface_has_its_old_signatures(name: str, expected: list[tuple[str, object]]) -> None:
    """Every method of ManagerInterface takes what it took in 2010, by the same names and defaults."""
    assert parameters(getattr(ManagerInterface, name)) == expected


@pytest.mark.parametrize("name", OLD_INTERFACE)
def test_the_interface_implements_nothing(name: str) -> None:
    """Every method of the interface itself raises NotImplementedError."""
    with pytest.raises(NotImplementedError):
        getattr(ManagerInterface(), name)()


@pytest.mark.parametrize("name", OLD_INTERFACE)
def test_a_manager_takes_what_the_interface_takes(name: str) -> None:
    """Manager implements the interface: each method accepts the interface's arguments in their order."""
    assert issubclass(Manager, ManagerInterface)
    assert parameters(getattr(Manager, name))[: len(OLD_INTERFACE[name])] == OLD_INTERFACE[name]


def test_ready_wait_may_speak() -> None:
    """Manager.ready_wait takes `verbose`, off by default."""
    assert parameters(Manager.ready_wait) == [("timeout", 10.0), ("verbose", False)]


def test_a_worker_error_takes_its_cause_first() -> None:
    """WorkerError(exception, *args, **kwargs) as documented."""
    kinds = [(item.name, item.kind) for item in inspect.signature(WorkerError.__init__).parameters.values()][1:]
    assert kinds == [
        ("exception", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        ("args", inspect.Parameter.VAR_POSITIONAL),
        ("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]


def test_a_manager_keeps_name_and_keyword_arguments() -> None:
    """The name is "<unnamed>" unless given; whatever else is given is kept in `kwargs`."""
    assert parameters(Manager.__init__) == [("name", "<unnamed>"), ("trace", None), ("kwargs", NO_DEFAULT)]
    assert (Manager().name, Manager().kwargs) == ("<unnamed>", {})
    manager = Manager("blog", shard=3, color="red")
    assert (manager.name, manager.kwargs) == ("blog", {"shard": 3, "color": "red"})


@pytest.mark.parametrize("name", ["health", "start"])
def test_the_base_knows_no_server(name: str) -> None:
    """How a server is started and asked is a subclass's to say."""
    with pytest.raises(NotImplementedError):
        getattr(Manager(), name)()


@pytest.mark.parametrize(
    "name", ["Manager", "ManagerInterface", "WorkerError", "StopOutcome", "address_in_use", "address_free_check"]
)
def test_the_package_offers_the_names_of_base(name: str) -> None:
    """`servermgr.X` is `servermgr.base.X`."""
    assert getattr(servermgr, name) is getattr(base, name)


def test_every_name_of_the_package_is_there() -> None:
    """What `__all__` lists can be loaded."""
    assert all(getattr(servermgr, name) for name in servermgr.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """`import servermgr` loads names late; one that does not exist fails as in any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = servermgr.no_such_name  # type: ignore[attr-defined]


# ---- before, between and after --------------------------------------------------------------------------------


def test_without_a_process_there_is_nothing_to_do() -> None:
    """Before a start `stop` and `wait` return at once with an empty outcome, and nothing is listed."""
    manager = Manager("idle")
    assert manager.process is None
    assert manager.stop() == StopOutcome()
    assert manager.wait() == StopOutcome()
    assert (manager.processes(), manager.output_tail(), manager.log_path) == ([], [], None)
    assert "not running" in repr(manager)


def test_without_a_process_there_is_nothing_to_wait_for() -> None:
    """ready_wait before a start says what is missing and whose."""
    with pytest.raises(WorkerError, match=r"idle.*start it first"):
        Manager("idle").ready_wait(LONG)


def test_the_process_is_there_while_the_server_runs() -> None:
    """`process` is None before start, the worker from then on, and None again after stop."""
    server = Server(SLEEP)
    assert server.process is None
    server.start()
    pid = server.process.pid
    assert [info.pid for info in server.processes()] == [pid]
    assert str(pid) in repr(server)
    assert server.stop().status == -signal.SIGTERM
    assert server.process is None
    assert server.processes() == []


def test_the_tree_is_listed_parents_first(tmp_path: Path) -> None:
    """`processes` tells pid, parent, name and depth of everyone in the tree, and `format_tree` draws it."""
    server = Server(sh('sh -c \'sleep 60 & echo up >"$1"; wait\' sh "$1" & wait', tmp_path / "up"))
    tree = server.started(tmp_path / "up")
    listed = server.processes()
    assert [(info.pid, info.name, info.depth) for info in listed] == [
        (tree[0].pid, "sh", 0),
        (tree[1].pid, "sh", 1),
        (tree[2].pid, "sleep", 2),
    ]
    assert [info.ppid for info in listed[1:]] == [tree[0].pid, tree[1].pid]
    assert servermgr.format_tree(listed).splitlines() == [
        f"sh [{tree[0].pid}]",
        f"   └─ sh [{tree[1].pid}]",
        f"      └─ sleep [{tree[2].pid}]",
    ]
    server.stop()


def test_the_process_is_gone_after_wait(tmp_path: Path) -> None:
    """`wait` returns when the worker has ended by itself, ends what it left behind, and clears `process`."""
    server = Server(sh('sleep 60 & echo $! >"$1"; exit 5', tmp_path / "child"))
    server.start(wait=False)
    outcome = server.wait()
    assert outcome.status == 5
    assert str(outcome.polite[0].pid) == content(tmp_path / "child")
    assert server.process is None


def test_a_second_start_is_refused() -> None:
    """Starting what runs is an error that leaves the running server alone."""
    with Server(SLEEP) as server:
        first = server.process
        with pytest.raises(WorkerError, match=r"stand-in: .*running already"):
            server.start()
        assert server.process is first
        assert first.poll() is None


def test_a_manager_can_be_started_again_ten_times(tmp_path: Path) -> None:
    """Start and stop go round and round on one object, and each round leaves nobody."""
    server = Server(sh(FAMILY, tmp_path / "up"))
    seen = []
    for _ in range(10):
        seen += server.started(tmp_path / "up")
        server.stop()
        (tmp_path / "up").unlink()
        assert living(seen) == []
    assert len({process.pid for process in seen}) == 20


def test_a_start_after_the_worker_died_by_itself(tmp_path: Path) -> None:
    """A worker that ended without a stop does not stand in the way of the next start; what it left is ended."""
    server = Server(sh("exit 3"))
    server.start(wait=False)
    assert server.process.wait() == 3
    server.stop()
    server.argv = SLEEP
    server.start()
    assert server.process.poll() is None
    server.stop()


# ---- env and cwd mean what they mean to subprocess ------------------------------------------------------------


def worker_says(argv: list[str], **options: Any) -> list[str]:
    server = Server(argv, **options)
    server.start(wait=False)
    server.wait()
    return server.output_tail()


def subprocess_says(argv: list[str], **options: Any) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True, **options).stdout.splitlines()


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A directory with a program of its own."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "tool").write_text("#!/bin/sh\npwd\necho $0 $*\n")
    (folder / "tool").chmod(0o755)
    return folder


def test_the_environment_is_this_process_own_at_the_time_of_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """env=None: whatever stands in os.environ when the server is started."""
    server = Server(sh("echo $TASTE"))
    monkeypatch.setenv("TASTE", "sour")
    server.start(wait=False)
    server.wait()
    assert server.output_tail() == ["sour"]


@pytest.mark.parametrize("env", [{}, {"A": "1", "B": "two words\u00e9"}, {"EMPTY": ""}])
def test_an_environment_is_the_whole_environment(env: dict[str, str]) -> None:
    """env={…}: that and no more, but for the mark by which a lost tree is found again."""
    lines = [line for line in worker_says(["/usr/bin/env"], env=env) if not line.startswith("SERVERMGR")]
    assert sorted(lines) == sorted(f"{name}={value}" for name, value in env.items())


def test_the_directory_is_where_the_command_starts(tmp_path: Path) -> None:
    """cwd, as text or path; this process's own where none is given."""
    assert worker_says(["pwd"], cwd=tmp_path) == [str(tmp_path)]
    assert worker_says(["pwd"], cwd=str(tmp_path)) == [str(tmp_path)]
    assert worker_says(["pwd"]) == [os.getcwd()]


@pytest.mark.parametrize("argv", [["./tool", "a b"], ["tool", "", "*"], ["../tools/tool"]])
def test_a_program_is_found_as_subprocess_finds_it(tool: Path, argv: list[str]) -> None:
    """With a slash: relative to the directory given. Without: in the PATH of the environment given."""
    options = {"cwd": tool, "env": {"PATH": f"/nowhere:{tool}:/usr/bin:/bin"}}
    assert worker_says(argv, **options) == subprocess_says(argv, **options)


def test_arguments_arrive_as_they_are() -> None:
    """No shell looks at them: blanks, quotes, dollars, newlines, empty words and foreign letters arrive whole."""
    words = ["", "two words", "$HOME", "a'b\"c", "*", "\u00fc\u4e2d", "--", "line\nline", "\udcff"]
    code = "import os, sys; print([os.fsencode(word) for word in sys.argv[1:]])"
    assert worker_says(python(code, *words)) == [str([os.fsencode(word) for word in words])]


def test_the_worker_reads_nothing_and_inherits_nothing() -> None:
    """Standard input is empty, and no descriptor of the owner's beyond 0, 1 and 2 is open in the worker."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)  # as a careless program does
    try:
        assert worker_says(sh("cat; ls /proc/$$/fd")) == ["0", "1", "2"]
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_worker_starts_with_default_signals() -> None:
    """What the owner ignores or blocks is not inherited: the polite signal must reach the worker."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        blocked, ignored = worker_says(["/bin/grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
        assert blocked == "SigBlk:\t0000000000000000"
        # Bits 31 and 32 are the C library's own signals, which its posix_spawn(3) leaves ignored; nobody sends them.
        assert int(ignored.removeprefix("SigIgn:"), 16) & ~0x1_8000_0000 == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGTERM, before)


# ---- what cannot be started -----------------------------------------------------------------------------------


def broken_program(folder: Path, kind: str) -> list[str]:
    path = folder / kind
    path.write_bytes(b"\x7fELF nonsense" if kind == "garbage" else b"#!/no/such/interpreter\n")
    path.chmod(0o755 if kind != "plain" else 0o644)
    return [str(path)]


UNSTARTABLE: dict[str, tuple[Callable[[Path], tuple[Any, dict[str, Any]]], type[OSError] | None, str]] = {
    "no such program": (lambda _: (["no-such-program-x"], {}), FileNotFoundError, "no-such-program-x.*installed"),
    "no such path": (lambda _: (["/no/such/program"], {}), FileNotFoundError, "/no/such/program"),
    "no program in this PATH": (lambda tmp: (["sleep"], {"env": {"PATH": str(tmp)}}), FileNotFoundError, "sleep"),
    "not executable": (lambda tmp: (broken_program(tmp, "plain"), {}), PermissionError, "plain"),
    "a directory": (lambda tmp: ([str(tmp)], {}), PermissionError, ""),
    "no interpreter": (lambda tmp: (broken_program(tmp, "script"), {}), FileNotFoundError, "script"),
    "no program format": (lambda tmp: (broken_program(tmp, "garbage"), {}), OSError, "garbage"),
    "no such directory": (lambda tmp: (SLEEP, {"cwd": tmp / "missing"}), FileNotFoundError, "directory.*missing"),
    "directory is a file": (lambda _: (SLEEP, {"cwd": __file__}), NotADirectoryError, "directory.*test_base"),
    "argument too long": (lambda _: (["echo", "x" * 200_000], {}), OSError, "echo"),
    "NUL in an argument": (lambda _: (["echo", "a\0b"], {}), None, "NUL"),
    "NUL in the environment": (lambda _: (SLEEP, {"env": {"A": "\0"}}), None, "NUL"),
    "NUL in the directory": (lambda _: (SLEEP, {"cwd": "/tmp\0"}), None, "NUL"),
    "a bad name in the environment": (lambda _: (SLEEP, {"env": {"A=B": "1"}}), None, "A=B|'='"),
    "a number in the environment": (lambda _: (SLEEP, {"env": {"PORT": 80}}), None, "80"),
    "a command line": (lambda _: ("sleep 60", {}), None, "list of words.*'sleep 60'"),
    "bytes": (lambda _: (b"sleep", {}), None, "list of words"),
    "no words": (lambda _: ([], {}), None, "list of words"),
}


@pytest.mark.parametrize("case", UNSTARTABLE)
def test_what_cannot_be_started_is_one_clear_error(tmp_path: Path, case: str) -> None:
    """A LaunchError that names what is wrong, with the system's own error as its cause; nothing is left."""
    make, cause, text = UNSTARTABLE[case]
    argv, options = make(tmp_path)
    server = Server(argv, **options)
    with pytest.raises(LaunchError, match=f"(?s)stand-in: .*{text}") as caught:
        server.start()
    assert cause is None or isinstance(caught.value.exception, cause)
    assert server.process is None
    server.argv, server.options = SLEEP, {}
    with server:  # and the manager is as good as new
        assert server.process.poll() is None


@pytest.mark.parametrize("argv", ["sleep 60", b"sleep", []])
def test_a_command_manager_wants_a_list_of_words(argv: Any) -> None:
    """A shell line is refused where it is written, not when it is started."""
    with pytest.raises(LaunchError, match="list of words"):
        CommandManager(argv)


def test_a_command_manager_knows_its_options() -> None:
    """A misspelled option is an error, not a silent default."""
    with pytest.raises(TypeError, match="graceperiod"):
        CommandManager(SLEEP, graceperiod=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize("given", [2, "INT", "SIGINT", "int", signal.SIGINT])
def test_a_signal_may_be_given_by_number_or_name(given: int | str) -> None:
    """stop_signal=2, "INT", "SIGINT"."""
    assert signal_number(given) == signal.SIGINT


@pytest.mark.parametrize("given", ["TREM", "", 0, 4711, -15])
def test_a_signal_that_does_not_exist_is_refused(given: int | str) -> None:
    """A misspelled signal is a ValueError that lists those there are."""
    with pytest.raises(ValueError, match=r"no such signal.*HUP, INT"):
        CommandManager(SLEEP, stop_signal=given)


@pytest.mark.parametrize("option", ["grace_period", "crash_grace"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_time_is_never_negative(option: str, value: float) -> None:
    """Seconds below 0 and NaN are refused, and nothing is started."""
    server = Server(SLEEP, **{option: value})
    with pytest.raises(ValueError, match=f"{option} must be 0 or more"):
        server.start()
    assert server.process is None


# ---- getting ready --------------------------------------------------------------------------------------------


def test_ready_is_when_health_is_content() -> None:
    """`health` is asked until it raises no WorkerError, no OSError, and returns anything but False."""
    answers = iter([WorkerError(None, "not yet"), ConnectionRefusedError(), False, False, None])

    def ask() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Server(SLEEP, ask=ask):
        assert list(answers) == []


def test_without_a_time_out_it_waits_on() -> None:
    """timeout=None waits for as long as the worker runs."""
    count = itertools.count()
    with Server(SLEEP, ask=lambda: next(count) > 20) as server:
        server.ready_wait(None)


def test_a_time_out_of_0_asks_once() -> None:
    """timeout=0: one question, and its answer decides."""
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(True)
        return len(asked) > 1

    server = Server(SLEEP, ask=ask)
    with pytest.raises(ReadyTimeoutError, match="not yet"):
        server.start(timeout=0)
    assert len(asked) == 1
    server.start(timeout=0)
    assert len(asked) == 2
    server.stop()


def test_a_time_out_leaves_nobody(tmp_path: Path) -> None:
    """When the time is over the whole tree is ended, a child that does not hear SIGTERM included."""
    server = Server(sh(DEAF_CHILD, tmp_path / "up"), ask=never, grace_period=0.2)
    server.start(wait=False)
    content(tmp_path / "up")
    tree = tree_of(server.process.pid)
    assert len(tree) == 2
    with pytest.raises(ReadyTimeoutError) as caught:
        server.ready_wait(0.1)
    assert living(tree) == []
    assert server.process is None
    assert "not ready within 0.1 s" in str(caught.value)
    assert caught.value.pid == tree[0].pid


def test_the_time_out_says_what_health_said_last() -> None:
    """Its cause is the last word of `health`, and the traceback shows it."""
    words = itertools.count()

    def ask() -> None:
        raise WorkerError(None, f"answer {next(words)}")

    with pytest.raises(ReadyTimeoutError) as caught:
        Server(SLEEP, ask=ask, grace_period=0.0).start(timeout=0.2)
    last = next(words) - 1
    assert caught.value.exception is caught.value.__cause__
    assert f"answer {last}" in str(caught.value)
    assert caught.value.elapsed is not None
    assert caught.value.elapsed >= 0.2


def test_the_time_out_shows_the_last_output() -> None:
    """The error carries what the server has said, also after its log is removed."""
    server = Server(sh("echo checking disks; echo slow disk >&2; exec sleep 60"), ask=never)
    server.start(wait=False)
    until(lambda: len(server.output_tail()) == 2)
    with pytest.raises(ReadyTimeoutError) as caught:
        server.ready_wait(0.05)
    assert list(caught.value.output) == ["checking disks", "slow disk"]
    assert "slow disk" in str(caught.value)
    assert caught.value.log is None  # the private file went with the tree


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("exit 0", 0), ("kill -KILL $$", -9)])
def test_a_worker_that_dies_ends_the_wait_at_once(script: str, status: int) -> None:
    """Long before the time-out, with its status and its last words in the error."""
    server = Server(sh(f"echo 'line 3: no such directive' >&2; sleep 0.1; {script}"), ask=never)
    began = time.monotonic()
    with pytest.raises(WorkerExitedError) as caught:
        server.start(timeout=LONG)
    assert time.monotonic() - began < EARLY
    assert caught.value.status == status
    assert caught.value.name == "stand-in"
    assert list(caught.value.output) == ["line 3: no such directive"]
    assert "no such directive" in str(caught.value)
    assert server.process is None


def test_a_worker_that_dies_during_a_question_is_noticed() -> None:
    """The answer of somebody else's server does not count once the worker is gone."""

    def ask() -> None:
        server.process.wait()

    server = Server(sh("exit 3"), ask=ask)
    with pytest.raises(WorkerExitedError) as caught:
        server.start(timeout=LONG)
    assert caught.value.status == 3


@pytest.mark.parametrize("fault", [KeyError("port"), ZeroDivisionError(), KeyboardInterrupt(), SystemExit(3)])
def test_a_fault_of_health_is_raised_when_the_tree_is_gone(tmp_path: Path, fault: BaseException) -> None:
    """An exception that means no "not yet" comes out as it is, and nobody is left running."""

    def ask() -> None:
        raise fault

    server = Server(sh(FAMILY, tmp_path / "up"), ask=ask)
    server.start(wait=False)
    content(tmp_path / "up")
    tree = tree_of(server.process.pid)
    with pytest.raises(type(fault)) as caught:
        server.ready_wait(LONG)
    assert caught.value is fault
    assert living(tree) == []
    assert server.process is None


def test_a_worker_that_hides_in_the_background_is_told_about_pidfiles(tmp_path: Path) -> None:
    """A command that ends well and leaves others running names them and the option that is missing."""
    server = Server(sh('sleep 60 & echo $! >"$1"', tmp_path / "child"), ask=never)
    with pytest.raises(WorkerExitedError, match=r"background.*pidfile=") as caught:
        server.start(timeout=LONG)
    assert f"({content(tmp_path / 'child')})" in str(caught.value)
    assert caught.value.status == 0
    assert not os.path.exists(f"/proc/{content(tmp_path / 'child')}")


def test_a_verbose_wait_says_what_it_waits_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, now and then; otherwise silence."""
    monkeypatch.setattr(readiness, "_FIRST_WORD", 0.01)
    for verbose in (False, True):
        server = Server(SLEEP, ask=never)
        server.start(wait=False)
        with pytest.raises(ReadyTimeoutError):
            server.ready_wait(0.2, verbose)
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert bool(lines) is verbose
        assert len(lines) < 8  # twice the time for each further word
        assert all(line.startswith("stand-in: not ready after") and "no answer on port 80" in line for line in lines)


def test_ready_wait_may_be_asked_again() -> None:
    """A server that was ready can be waited for again; one that fails then is ended."""
    content_with_it = True

    def ask() -> bool:
        return content_with_it

    with Server(SLEEP, ask=ask) as server:
        server.ready_wait(LONG)
        content_with_it = False
        with pytest.raises(ReadyTimeoutError):
            server.ready_wait(0.05)
        assert server.process is None


# ---- the worker's process object ------------------------------------------------------------------------------


def test_the_process_reads_like_a_popen() -> None:
    """pid, args, poll, returncode and repr, while it runs."""
    with Server(SLEEP) as server:
        process = server.process
        assert process.args == SLEEP
        assert tree_of(process.pid)[0].cmdline() == SLEEP
        assert (process.poll(), process.returncode) == (None, None)
        assert str(process.pid) in repr(process)
        assert "sleep" in repr(process)


def test_waiting_for_the_process_has_a_limit() -> None:
    """wait(timeout) raises subprocess.TimeoutExpired, as Popen does; 0 only looks."""
    with Server(SLEEP) as server:
        for seconds in (0, 0.05):
            with pytest.raises(subprocess.TimeoutExpired) as caught:
                server.process.wait(seconds)
            assert (caught.value.cmd, caught.value.timeout) == (SLEEP, seconds)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.01)


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda process: process.terminate(), -signal.SIGTERM),
        (lambda process: process.kill(), -signal.SIGKILL),
        (lambda process: process.send_signal(signal.SIGHUP), -signal.SIGHUP),
    ],
)
def test_a_signal_to_the_process_is_its_status(act: Callable[[Any], None], status: int) -> None:
    """terminate, kill and send_signal reach the worker; its status is the negative number of the signal."""
    with Server(SLEEP) as server:
        process = server.process
        act(process)
        assert process.wait(LONG) == status
        assert (process.poll(), process.returncode) == (status, status)


def test_a_signal_reaches_the_worker_alone(tmp_path: Path) -> None:
    """What is done to the process object is done to the worker; the rest of the tree lives until `stop`."""
    server = Server(sh('trap "" HUP; sleep 60 & trap "exit 4" USR1; echo up >"$1"; wait', tmp_path / "up"))
    worker, child = server.started(tmp_path / "up")
    server.process.send_signal(signal.SIGUSR1)
    assert server.process.wait(LONG) == 4
    assert living([worker, child]) == [child]
    assert server.stop().status == 4
    assert living([child]) == []


def test_an_ended_process_stays_readable() -> None:
    """Whoever kept the object reads its status after stop, and signals to it go to nobody."""
    server = Server(sh("exit 6"))
    server.start(wait=False)
    process = server.process
    pid = process.pid
    server.wait()
    for act in (process.terminate, process.kill, lambda: process.send_signal(signal.SIGUSR1)):
        act()
    assert (process.pid, process.poll(), process.returncode, process.wait(0), process.wait()) == (pid, 6, 6, 6, 6)


def test_a_stopped_worker_has_its_signal_as_status(tmp_path: Path) -> None:
    """The kept object says by which signal `stop` ended the worker."""
    server = Server(sh(DEAF, tmp_path / "up"), grace_period=0.1)
    server.started(tmp_path / "up")
    process = server.process
    server.stop()
    assert process.returncode == -signal.SIGKILL
