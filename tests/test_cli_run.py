"""`servermgr run`: the command is alone with its streams, its terminal and its signals, and nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import census
import psutil
import pytest
from stand_ins import PATIENCE, ROOT, content, is_living, lives, python, script_output, until
from terminal import CTRL_BACKSLASH, CTRL_C, CTRL_Z, terminal

import servermgr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="steps are held on Linux")

RUN = [sys.executable, "-m", "servermgr", "run"]
#: Says "up", counts what it gets of one signal (argument 1), and after the second of silence that follows the first
#: one tells how many there were.
COUNTING = """
import signal, sys, time
number, count = int(sys.argv[1]), 0
def note(*_):
    global count
    count += 1
signal.signal(number, note)
print("up", flush=True)
give_up = time.monotonic() + 30
while not count and time.monotonic() < give_up:
    time.sleep(0.01)
time.sleep(0.25)
print(f"count={count}", flush=True)
"""
#: Starts a daemon (double fork, a session of its own, no environment, no descriptors) and writes its pid to argument 1.
DAEMON = """
import os, sys
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    pid = os.fork()
    if pid == 0:
        os.closerange(0, 64)
        os.execve("/bin/sleep", ["sleep", "77"], {})
    os.write(write, str(pid).encode())
    os._exit(0)
os.wait()
pid = os.read(read, 20).decode()
with open(sys.argv[1], "w") as file:
    file.write(pid + "\\n")
if len(sys.argv) > 2:
    import time
    time.sleep(60)
"""


def run(*argv: str, options: tuple[str, ...] = (), **settings: Any) -> subprocess.CompletedProcess[Any]:
    """Run a step to its end."""
    given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 40, "check": False}
    return subprocess.run([*RUN, *options, "--", *argv], **(given | settings))  # noqa: PLW1510  # given above


@contextlib.contextmanager
def running(*argv: str, options: tuple[str, ...] = (), **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A step that runs while the block does."""
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*RUN, *options, "--", *argv], **(given | settings)) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Wait for a line of its standard output."""
    assert process.stdout is not None
    assert process.stdout.readline() == text + b"\n"


def gone(pid: int) -> bool:
    return until(lambda: not lives(pid), f"the end of {pid}")


def guard_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The guard is the only child that leads a session."""
    children = psutil.Process(process.pid).children()
    return next(child for child in children if os.getsid(child.pid) == child.pid)


# ---- exit status ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["sh", "-c", "kill -INT $$"], 128 + signal.SIGINT),
        (["no-such-command-here"], 127),
        (["./no-such-path"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
    ],
)
def test_the_exit_status_is_the_one_that_a_shell_gives(argv: list[str], status: int) -> None:
    """As a shell gives it, which is asked the same."""
    assert run(*argv).returncode == status
    asked = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *argv], capture_output=True, check=False)
    assert asked.returncode == status


def test_a_script_without_an_interpreter_line_runs(tmp_path: Path) -> None:
    """As execvp(3) has it; one whose interpreter is missing is found, and cannot be run: 126."""
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    plain.write_text('echo "$1"; exit 4\n')
    broken.write_text("#!/no/such/interpreter\n")
    plain.chmod(0o755)
    broken.chmod(0o755)
    done = run(str(plain), "word")
    assert (done.returncode, done.stdout) == (4, "word\n")
    assert run(str(broken)).returncode == 126


def test_what_cannot_be_run_is_said_with_the_remedy() -> None:
    """One line, which names the command."""
    done = run("no-such-command-here")
    assert "error: cannot run 'no-such-command-here'" in done.stderr
    assert "installed" in done.stderr


def test_wrong_usage_is_no_status_of_the_command() -> None:
    """125, as of timeout(1): a job can tell it from a failure of its tests."""
    for words in (["--no-such-option", "--", "true"], [], ["--timeout", "soon", "--", "true"]):
        done = subprocess.run([*RUN, *words], capture_output=True, text=True, check=False, timeout=40)
        assert done.returncode == 125, words
        assert "error" in done.stderr


def test_the_dashes_may_be_left_out() -> None:
    """Options behind the command are the command's."""
    done = subprocess.run([*RUN, "--grace", "1", "echo", "--grace", "2"], capture_output=True, check=False, timeout=40)
    assert (done.returncode, done.stdout) == (0, b"--grace 2\n")


# ---- streams --------------------------------------------------------------------------------------------------


def test_every_byte_goes_through_unchanged() -> None:
    """Standard input, output and error: all values of a byte, more than a pipe holds, and nothing added."""
    data = bytes(range(256)) * 2000
    done = run("sh", "-c", "tee /dev/stderr", stdin=None, input=data, text=False)
    assert done.returncode == 0
    assert done.stdout == data
    assert done.stderr == data


def test_the_reader_of_the_output_sees_its_end_when_the_command_closes_it() -> None:
    """Nobody of ours holds the other end of the command's streams."""
    with running("sh", "-c", "echo up; exec >&-; exec sleep 30") as process:
        assert process.stdout is not None
        began = time.monotonic()
        assert process.stdout.read() == b"up\n"
        assert time.monotonic() - began < 10


def test_other_descriptors_are_handed_on() -> None:
    """As make's jobserver needs it; a closed standard stream stays closed."""
    read, write = os.pipe()
    script = f"echo through >&{write}; exec {write}>&-; [ -e /proc/self/fd/0 ] || echo closed"
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *RUN, "--", "bash", "-c", script],
        pass_fds=[write],
        stdout=subprocess.PIPE,
        check=False,
        timeout=40,
    )
    os.close(write)
    with open(read) as pipe:
        assert pipe.read() == "through\n"
    assert done.stdout == b"closed\n"


def test_a_quiet_step_adds_not_a_word() -> None:
    """Standard error is the command's own as long as there is nothing to say."""
    done = run("sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_helpers_that_end_with_the_command_are_not_called_left_behind() -> None:
    """A program's own helpers, servermgr's among them, notice the end a moment later."""
    code = "import sys, servermgr; servermgr.CommandManager(['sleep', '60']).start(); print('up')"
    done = run(sys.executable, "-c", code, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")


# ---- what is left behind --------------------------------------------------------------------------------------


def test_a_daemon_is_named_and_removed(tmp_path: Path) -> None:
    """One that has forked twice, left the session, and cleared its environment; the status stays the command's."""
    done = run(*python(DAEMON, tmp_path / "pid"))
    pid = int(content(tmp_path / "pid"))
    assert not psutil.pid_exists(pid)
    assert done.returncode == 0
    assert "left behind by" in done.stderr
    assert f"{pid} sleep  sleep 77" in done.stderr


@pytest.mark.parametrize("scenario", ["daemon", "ignores_term", "nohup_disown_exits"])
def test_the_zoo_does_not_outlive_a_step(scenario: str, tmp_path: Path) -> None:
    """Hostile trees, which a `killpg` does not end; those that refuse are killed, and that is said."""
    roster = tmp_path / "roster"
    roster.mkdir()
    options = ("--timeout", "2", "--grace", "0.5")
    zoo = [sys.executable, str(ROOT / "tests" / "zoo.py"), scenario, "--roster", str(roster)]
    with census.innocents():
        done = run(*zoo, options=options)
        assert (roster / "ready").exists(), done.stderr
        assert done.returncode == (0 if scenario == "nohup_disown_exits" else 124)
        for pid in [int(entry.name) for entry in roster.iterdir() if entry.name.isdigit()]:
            assert not lives(pid)
    assert ("had to be killed" in done.stderr) == (scenario == "ignores_term")


def test_the_report_tells_a_machine(tmp_path: Path) -> None:
    """Who, how, seconds, status; --json writes the same to standard error."""
    script = 'sleep 71 & (trap "" TERM; exec sleep 72) & exit 5'
    path = tmp_path / "report.json"
    options = ("--grace", "0.3", "--report", str(path), "--json")
    done = run("sh", "-c", script, options=options)
    report = json.loads(path.read_text())
    assert done.returncode == report["exit_status"] == report["returncode"] == 5
    assert report["command"] == ["sh", "-c", script]
    assert report["signal"] is None
    assert report["timed_out"] is False
    assert 0.3 <= report["seconds"] < 30
    assert {entry["command"]: entry["how"] for entry in report["ended"]} == {"sleep 71": "went", "sleep 72": "killed"}
    assert "left behind" not in done.stderr, "people's words have no place among JSON"


def test_a_report_that_cannot_be_written_is_said_before_the_command_runs(tmp_path: Path) -> None:
    """And not after an hour of tests."""
    done = run("touch", str(tmp_path / "ran"), options=("--report", str(tmp_path / "no" / "report")))
    assert done.returncode == 125
    assert "cannot write the report" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_the_trace_shows_the_step(tmp_path: Path) -> None:
    """A lane for each process, with what was sent to it and how it ended; readable also if it was cut off."""
    path = tmp_path / "trace.json"
    run("sh", "-c", "setsid sleep 74 & exit 5", options=("--trace", str(path)))
    events = json.loads(path.read_text())
    lanes = {event["args"]["name"]: event["pid"] for event in events if event["name"] == "process_name"}
    happened = [(event["pid"], event["name"]) for event in events]
    command, left = lanes["run:sh"], lanes["sleep"]
    assert happened.index((command, "spawn")) < happened.index((command, "exit status 5"))
    assert happened.index((left, "left")) < happened.index((left, "sent SIGTERM"))
    assert (left, "killed by SIGTERM") in happened
    for pid in set(lanes.values()):  # each has a beginning and an end
        assert [event["ph"] for event in events if event["pid"] == pid and event["ph"] in "BE"] in (
            ["B", "E"],
            ["B", "B", "E", "E"],
        )
    path = tmp_path / "cut.json"
    with running("sleep", "60", options=("--trace", str(path))) as process:
        until(lambda: path.exists() and '"spawn"' in path.read_text())
        process.kill()
    assert json.loads(path.read_text())


# ---- time-out -------------------------------------------------------------------------------------------------


def test_a_time_out_ends_all_of_it_and_is_124(tmp_path: Path) -> None:
    """Named are those who still ran; politely first, so that the command can say goodbye."""
    script = 'trap "echo bye; exit 0" TERM; echo up >"$1"; sleep 73 & wait'
    done = run("sh", "-c", script, "sh", str(tmp_path / "up"), options=("--timeout", "1"))
    assert done.returncode == 124
    assert done.stdout == "bye\n"
    assert "time-out: after 1 s" in done.stderr
    assert "sleep 73" in done.stderr


def test_a_step_in_time_knows_nothing_of_the_limit() -> None:
    """Neither the status nor a word."""
    done = run("sh", "-c", "exit 6", options=("--timeout", "30"))
    assert (done.returncode, done.stderr) == (6, "")


def test_no_limit_is_0() -> None:
    """As with timeout(1)."""
    assert run("sleep", "0.2", options=("--timeout", "0")).returncode == 0


# ---- signals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "USR1", "WINCH", "CONT", "RTMIN"])
def test_a_signal_to_run_reaches_the_command(name: str) -> None:
    """Once."""
    number = getattr(signal, f"SIG{name}")
    with running(*python(COUNTING, int(number))) as process:
        said(process, b"up")
        process.send_signal(number)
        said(process, b"count=1")
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "WINCH"])
def test_a_signal_to_the_whole_group_reaches_the_command_once(name: str) -> None:
    """As `kill %1` of a shell, timeout(1), and a runner that cancels a job send it."""
    number = getattr(signal, f"SIG{name}")
    with running(*python(COUNTING, int(number)), start_new_session=True) as process:
        said(process, b"up")
        os.killpg(process.pid, number)
        said(process, b"count=1")
        assert process.wait(PATIENCE) == 0


def test_term_ends_a_command_that_does_not_mind() -> None:
    """And with it the step, with the status of the command."""
    with running("sh", "-c", "echo up; exec sleep 60") as process:
        said(process, b"up")
        process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_ignored_signals_stay_ignored() -> None:
    """What `nohup` and the `&` of a script have said holds for the command, and what Python ignores does not."""
    for before in ("", 'trap "" HUP; ', 'trap "" INT; ', 'trap "" PIPE; '):
        masks = []
        for prefix in ("", " ".join(RUN) + " -- "):
            line = before + prefix + "cat /proc/self/status"
            done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=40, check=False)
            lines = done.stdout.decode().splitlines()
            masks.append([line for line in lines if line.startswith(("SigIgn", "SigBlk", "SigCgt"))])
        if "PIPE" not in before:  # whether its own parent ignored that one Python does not tell
            assert masks[0] == masks[1], before


def test_an_impatient_signal_ends_the_waiting_for_those_left_behind() -> None:
    """Once the command has ended, Ctrl-C or TERM means: now."""
    script = '(trap "" TERM; echo up; exec sleep 60 >&-) & sleep 0.5'
    with running("sh", "-c", script, options=("--grace", "60")) as process:
        said(process, b"up")
        assert process.stderr is not None
        assert b"left behind" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


# ---- deaths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victims", ["run", "group", "guard"])
def test_nothing_outlives_a_killed_run(victims: str, tmp_path: Path) -> None:
    """SIGKILL to `servermgr run`, to its whole process group, or to its guard: the daemon ends all the same."""
    with running(*python(DAEMON, tmp_path / "pid", "stay"), start_new_session=True) as process:
        pid = int(content(tmp_path / "pid"))
        guard = guard_of(process)
        if victims == "run":
            process.kill()
        elif victims == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            guard.kill()
            assert process.wait(PATIENCE) == 125
            assert process.stderr is not None
            assert b"guard of the step was killed" in process.stderr.read()
        assert gone(pid)
        assert gone(guard.pid)
    until(lambda: servermgr.recorded() == [], "the end of its record")


def test_a_step_whose_run_and_guard_are_both_killed_is_swept(tmp_path: Path) -> None:
    """The third net: the ledger has a record of it, and the marker proves who belongs to it."""
    with running("sh", "-c", 'echo $$ >"$1"; exec sleep 60', "sh", str(tmp_path / "pid")) as process:
        pid = int(content(tmp_path / "pid"))
        (record,) = servermgr.recorded()
        assert record.name == "run:sh"
        run_itself, guard = psutil.Process(process.pid), guard_of(process)
        run_itself.suspend()  # else it takes over
        guard.kill()
        run_itself.kill()
    assert is_living(psutil.Process(pid))
    (swept,) = servermgr.sweep()
    assert [found.pid for found in swept.processes] == [pid]
    assert gone(pid)


def test_a_running_step_can_be_stopped_by_name() -> None:
    """It is in the ledger as every tree is."""
    with running("sleep", "60") as process:
        until(lambda: [record.name for record in servermgr.recorded() if record.worker] == ["run:sleep"])
        servermgr.stop("run:sleep")
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_a_stopped_guard_goes_on() -> None:
    """A guard that is stopped guards nobody."""
    with running("sh", "-c", "echo up; exec sleep 60") as process:
        said(process, b"up")
        guard_of(process).suspend()
        process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_steps_within_steps(tmp_path: Path) -> None:
    """The outer one ends what the inner one would have, were it not killed."""
    inner = [*RUN, "--", *python(DAEMON, tmp_path / "pid", "stay")]
    with running(*inner) as process:
        pid = int(content(tmp_path / "pid"))
        process.kill()
        assert gone(pid)


# ---- on a terminal --------------------------------------------------------------------------------------------


def test_ctrl_c_reaches_the_command_once() -> None:
    """And `run` does not mind it itself: the command decides what it means."""
    with terminal(*RUN, "--", *python(COUNTING, int(signal.SIGINT))) as shown:
        shown.until("up")
        shown.type(CTRL_C)
        shown.until("count=1")
        assert shown.wait() == 0


def test_a_command_that_ctrl_c_ends_takes_the_script_along() -> None:
    """`run` ends by SIGINT as the command did, so that a shell does not go on with the next line."""
    script = f"{' '.join(RUN)} -- sh -c 'echo up; exec sleep 60'; echo next"
    with terminal("bash", "-c", script) as shown:
        shown.until("up")
        shown.type(CTRL_C)
        shown.wait()
        assert "next" not in shown.seen
    with terminal("bash", "-c", f"{' '.join(RUN)} -- sh -c 'echo up; exec sleep 60'; echo status $?") as shown:
        shown.until("up")
        shown.type(CTRL_BACKSLASH)
        shown.until(f"status {128 + signal.SIGQUIT}")


def test_the_command_has_the_terminal() -> None:
    """It is one, with its size, its changes of size, and its keys, read from /dev/tty as well."""
    code = 'stty size; trap "stty size" WINCH; echo up; read line </dev/tty; read line </dev/tty; echo "got $line"'
    with terminal(*RUN, "--", "bash", "-c", code) as shown:
        assert "24 100" in shown.until("up")
        shown.resize(30, 90)
        shown.type(b"first\n")
        shown.until("30 90")
        shown.type(b"second\n")
        shown.until("got second")
        assert shown.wait() == 0


WITNESSES = """
import os, signal
from servermgr._cli_step_signals import Wake, Witness
os.setpgid(0, 0)
with Wake((signal.SIGUSR1,)) as wake:
    for _ in range(50):
        witness = Witness()
        os.killpg(0, signal.SIGUSR1)
        assert witness.has(signal.SIGUSR1), "sent to the group"
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not witness.has(signal.SIGUSR1), "sent to this process"
        witness.close()
"""


def test_the_witness_misses_nothing_from_its_first_moment_on() -> None:
    """A group may be signalled while the fork has not begun to run; and what was not sent to it, it has not got."""
    script_output(WITNESSES)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
def test_the_shells_job_control_works() -> None:
    """Ctrl-Z stops the whole job, `fg` continues it; also if the command has stopped itself."""
    with terminal("bash", "--norc", "--noediting", "-i", env={"PS1": "ready> "}) as shown:
        shown.until("ready> ")
        script = "echo u''p; read line; echo got $line; kill -STOP $$; echo again"
        shown.type(f"{' '.join(RUN)} -- sh -c '{script}'\n".encode())
        shown.until("up")
        shown.type(CTRL_Z)
        shown.until("Stopped")
        shown.until("ready> ", times=2)
        # The shell has seen its own child stop. Another process that is still reading has to stop, too, or the
        # kernel hands the next key to it.
        members = psutil.Process(shown.process.pid).children(recursive=True)
        (command,) = (member for member in members if member.name() == "sh")
        until(lambda: command.status() == psutil.STATUS_STOPPED, "the stop of the command")
        shown.type(b"fg\n")
        shown.type(b"word\n")
        shown.until("got word")
        shown.until("Stopped", times=2)
        shown.until("ready> ", times=3)
        shown.type(b"fg\n")
        shown.until("again\r\n")
        shown.type(b"echo status $?; exit\n")
        shown.until("status 0")
        shown.wait()


def test_a_pipeline_on_a_terminal_stays_in_the_foreground() -> None:
    """Its other parts read the keys while the step runs: the foreground is the whole job's."""
    with terminal("bash", "--norc", "--noediting", "-i", env={"PS1": "ready> "}) as shown:
        shown.until("ready> ")
        reader = "sh -c 'cat >/dev/null & read line </dev/tty; echo got $line'"
        shown.type(f"{' '.join(RUN)} -- sleep 1 | {reader}\n".encode())
        time.sleep(0.3)
        shown.type(b"keys\n")
        shown.until("got keys")
        shown.type(b"exit\n")
        shown.wait()


# ---- as the first process of a container ----------------------------------------------------------------------


def in_pid_namespace() -> list[str]:
    """The command that makes its argument PID 1 of a namespace of its own."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        pytest.skip("only root makes pid namespaces")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no pid namespaces here (unshare does not work)")
    return command


def test_as_pid_1_it_reaps_and_passes_signals_on() -> None:
    """TERM reaches the command although PID 1 has no default for it, and no zombie stays."""
    script = """
        trap 'echo bye; exit 9' TERM
        (sleep 0.1 & sleep 0.1 &)
        sleep 0.5
        ps -A -o state= | grep -c Z
        echo up
        while :; do sleep 0.05; done
    """
    command = [*in_pid_namespace(), *RUN, "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        assert process.stdout.readline() == b"up\n"
        first = psutil.Process(process.pid).children()[0]
        assert "servermgr" in first.cmdline()
        first.terminate()
        assert process.wait(PATIENCE) == 9
        assert process.stdout.read() == b"bye\n"


def test_as_pid_1_it_ends_a_daemon_politely(tmp_path: Path) -> None:
    """Before the kernel ends the namespace: what is left gets its grace period."""
    script = """(setsid sh -c 'trap "echo saved >$1; exit" TERM; while :; do sleep 0.05; done' sh "$1" &) ; sleep 0.3"""
    done = subprocess.run(
        [*in_pid_namespace(), *RUN, "--", "sh", "-c", script, "sh", str(tmp_path / "saved")],
        capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "left behind" in done.stderr
    assert content(tmp_path / "saved") == "saved"
