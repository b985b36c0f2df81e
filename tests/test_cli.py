"""The command line in pipes and on a terminal, and each example of its documentation."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from owners import owner
from stand_ins import PATIENCE, ROOT, SLEEP, sh, until
from terminal import CTRL_C, terminal
from wreckage import wreck

import servermgr

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guardians hold whole trees on Linux")

CLI = [sys.executable, "-m", "servermgr"]
DOCS = ROOT / "docs" / "cli.md"
COMMANDS = ("run", "up", "ps", "stop", "logs", "sweep", "ports", "doctor", "completions")


def cli(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 40, "env": env}
    return subprocess.run([*CLI, *words], **(given | settings), check=False)


def answer(*words: str) -> Any:
    """The JSON answer of a command that does well."""
    done = cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@contextlib.contextmanager
def web(port: int, **options: Any) -> Iterator[servermgr.CommandManager]:
    """A server called `web`."""
    argv = [sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with servermgr.CommandManager(argv, name="web", ready=f"http://127.0.0.1:{port}/", **options) as manager:
        yield manager


# ---- in general -----------------------------------------------------------------------------------------------


def test_help_documents_exit_statuses_and_gives_examples() -> None:
    """Each command for itself, and the whole program."""
    done = cli("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^ +{name}( |$)", done.stdout, re.MULTILINE), name
        shown = cli(name, "--help")
        assert shown.returncode == 0
        assert "exit status:" in shown.stdout
        assert "servermgr" in shown.stdout
        assert "--json" in shown.stdout, "every command has an answer for machines"
        assert max(map(len, shown.stdout.splitlines())) <= 120


def test_wrong_usage_is_2() -> None:
    """With the usage of the command that was meant."""
    for words in (["nonsense"], [], ["ps", "--nonsense"], ["stop"], ["ports", "nowhere"], ["ps", "--watch", "0"]):
        done = cli(*words)
        assert done.returncode == 2, words
        assert "error" in done.stderr


def test_a_command_loads_what_it_needs_and_no_more() -> None:
    """`servermgr run` stands before each step of a job: it loads neither psutil nor the command line's other half."""
    code = (
        "import sys; from servermgr.cli import main; status = main(['run', '--', 'true']);"
        "slow = [name for name in ('psutil', 'rich', 'servermgr.stack', 'asyncio') if name in sys.modules];"
        "print(status, slow, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == "0 []\n"


def test_errors_are_data_for_machines() -> None:
    """One JSON line on standard error."""
    done = cli("stop", "nobody", "--json")
    assert done.returncode == 1
    error = json.loads(done.stderr)
    assert error["error"] == "WorkerError"
    assert "nobody" in error["message"]


def test_a_reader_that_goes_away_is_no_crash() -> None:
    """As in `servermgr ps --watch 0.1 | head -1`."""
    line = f"{' '.join(CLI)} ps --watch 0.1 | head -1"
    done = subprocess.run(["timeout", "10", "sh", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode != 124, "it goes on although nobody reads it"


# ---- ps -------------------------------------------------------------------------------------------------------


def test_ps_shows_trees_with_memory_ports_and_owner(free_port: int) -> None:
    """For people and for machines."""
    with web(free_port) as manager:
        (tree,) = answer("ps")
        (process,) = tree["processes"]
        assert (tree["name"], tree["state"], tree["owner"]) == ("web", "live", os.getpid())
        assert tree["worker"] == process["pid"] == manager.process.pid
        assert process["ports"] == tree["ports"] == [f"127.0.0.1:{free_port}"]
        assert tree["memory"] == process["memory"] > 1_000_000
        assert 0 <= tree["age"] < 60
        assert tree["log"] == manager.log_path
        first, second = cli("ps").stdout.splitlines()
        assert re.match(rf"web  live  \d+ s  \d+\.\d MB  127.0.0.1:{free_port}  owner \S+ \[{os.getpid()}\]", first)
        assert second.startswith("└─ ")
        assert f" [{process['pid']}]  " in second
    assert cli("ps").stdout == "no server is running or left over\n"


def test_ps_tells_live_from_kept_from_left_over() -> None:
    """A tree whose owner is gone was meant to stay, or is left over; sweep ends the one, stop the other."""
    with owner(SLEEP, options={"name": "kept", "keep": True}) as running:
        running.kill()
        assert [tree["state"] for tree in answer("ps")] == ["kept"]
    with wreck(SLEEP, name="left") as doomed:
        doomed.wreck()
        states = {tree["name"]: tree["state"] for tree in answer("ps")}
        assert states == {"kept": "kept", "left": "left over"}
        (found,) = answer("sweep", "--dry-run")
        assert (found["name"], found["verdict"]) == ("left", "would sweep")
        assert "left: " in cli("sweep").stdout
    assert [tree["name"] for tree in answer("ps")] == ["kept"]
    (stopped,) = answer("stop", "kept")
    assert stopped["name"] == "kept"
    assert answer("ps") == []


def test_ps_watches_until_ctrl_c() -> None:
    """On a terminal one picture in the place of the other; in a pipe one below the other, as JSON one in a line."""
    with servermgr.CommandManager(SLEEP, name="watched") as manager:
        with terminal(*CLI, "ps", "--watch", "0.1", env={"PYTHONPATH": str(ROOT), "TERM": "xterm"}) as shown:
            shown.until("watched", times=3)
            shown.type(CTRL_C)
            assert shown.wait() == 0
        pipes = {"stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        with subprocess.Popen([*CLI, "ps", "--watch", "0.1", "--json"], **pipes) as process:
            assert process.stdout is not None
            pictures = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.send_signal(2)
            assert process.wait(PATIENCE) == 0
        assert all(picture[0]["worker"] == manager.process.pid for picture in pictures)


def test_colour_is_for_terminals() -> None:
    """And not where NO_COLOR is set, nor in pipes."""
    pytest.importorskip("rich")
    with servermgr.CommandManager(SLEEP, name="shown"):
        for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            with terminal(*CLI, "ps", env={"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | more) as shown:
                assert shown.wait() == 0
            assert ("\x1b[32mlive" in shown.seen) == coloured, more
        assert "\x1b" not in cli("ps").stdout


def test_without_rich_a_terminal_gets_plain_text() -> None:
    """The extra is for the eye alone."""
    code = (
        "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None; from servermgr.cli import main; main()"
    )
    with servermgr.CommandManager(SLEEP, name="shown"):
        with terminal(sys.executable, "-c", code, "ps", env={"PYTHONPATH": str(ROOT), "TERM": "xterm"}) as shown:
            assert shown.wait() == 0
        assert "shown  live" in shown.seen
        assert "\x1b" not in shown.seen


# ---- stop, logs, ports ----------------------------------------------------------------------------------------


def test_stop_ends_by_name_and_all() -> None:
    """A name that is not there is refused before anything is ended, with the one that may be meant."""
    with servermgr.CommandManager(SLEEP, name="one") as one, servermgr.CommandManager(SLEEP, name="two") as two:
        done = cli("stop", "one", "tow")
        assert done.returncode == 1
        assert "no server is called 'tow': did you mean 'two'?" in done.stderr
        assert one.process.poll() is None
        assert cli("stop", "one").returncode == 0
        assert two.process.poll() is None
        assert {tree["name"] for tree in answer("stop", "all")} == {"two"}
        until(lambda: two.process.poll() is not None)
    assert answer("stop", "all") == []


def test_logs_shows_the_end_and_follows() -> None:
    """The last lines, then what comes, until the server ends; a last line without its end is shown, too."""
    script = 'for i in 1 2 3; do echo "line $i"; done; read x <"$0"; echo later; printf unfinished; sleep 0.3'
    with servermgr.CommandManager(sh(script), name="wordy") as manager:
        until(lambda: len(manager.output_tail()) >= 3 or manager.process.poll() is not None)
    fifo = Path(os.environ["TMPDIR"]) / "fifo"
    os.mkfifo(fifo)
    try:
        with servermgr.CommandManager(sh(script.replace('"$0"', f'"{fifo}"')), name="wordy") as manager:
            until(lambda: len(manager.output_tail()) == 3)
            assert cli("logs", "wordy").stdout == "line 1\nline 2\nline 3\n"
            assert cli("logs", "wordy", "-n", "2").stdout == "line 2\nline 3\n"
            assert cli("logs", "wordy", "-n", "0").stdout == ""
            words = [*CLI, "logs", "wordy", "-n", "1", "-f"]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "line 3\n"
                fifo.write_text("go\n")
                assert process.stdout.read() == "later\nunfinished\n"
                assert process.wait(PATIENCE) == 0
    finally:
        fifo.unlink()


def test_logs_says_why_there_is_none() -> None:
    """No such server; or its output goes elsewhere."""
    with servermgr.CommandManager(SLEEP, name="silent", output=subprocess.DEVNULL):
        done = cli("logs", "silent")
        assert done.returncode == 1
        assert "silent: its output does not go to a file" in done.stderr
        assert "did you mean 'silent'?" in cli("logs", "slient").stderr


def test_ports_names_the_process_and_its_tree(free_port: int, free_ports: Any) -> None:
    """Of ours by name, of others by process, of nobody by status 1."""
    with web(free_port) as manager:
        for address in (f"127.0.0.1:{free_port}", str(free_port), f":{free_port}", f"*:{free_port}"):
            (found,) = answer("ports", address)
            assert found["pid"] == manager.process.pid
            assert found["tree"]["name"] == "web"
        text = cli("ports", str(free_port)).stdout
        assert text.startswith(f"pid {manager.process.pid} (")
        assert f"of the server web (owner {os.getpid()})" in text
    (port,) = free_ports(1)
    done = cli("ports", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (1, f"nobody listens on 127.0.0.1:{port}\n")
    import socket

    with socket.create_server(("127.0.0.1", port)):
        (found,) = answer("ports", str(port))
        assert (found["pid"], found["tree"]) == (os.getpid(), None)


@pytest.mark.parametrize("text", ["::1:80", "host", "host:", "host:0", "host:70000", "host:http", "[::1]"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """With the form that is meant."""
    from servermgr._cli_ports import parse_address

    with pytest.raises(ValueError, match=r"HOST:PORT is meant|in brackets"):
        parse_address(text)


# ---- doctor, completions --------------------------------------------------------------------------------------


def test_doctor_tries_each_guarantee() -> None:
    """As root on this machine all of them hold, or come with a remedy; nothing of the trials stays."""
    done = cli("doctor", "--json")
    findings = json.loads(done.stdout)
    assert len(findings) >= 10
    for finding in findings:
        assert finding["holds"] in ("yes", "missing", "note")
        assert finding["why"]
        assert finding["remedy"] or finding["holds"] != "missing"
    assert done.returncode == int(any(finding["holds"] == "missing" for finding in findings))
    held = {finding["guarantee"]: finding["holds"] for finding in findings}
    assert [holds for text, holds in held.items() if "whole process tree" in text or "SIGKILL" in text] == ["yes"] * 2


def test_doctor_names_what_the_backend_does_not_claim() -> None:
    """On a POSIX system without a subreaper: the daemon of the trial got away, and is ended all the same."""
    done = cli("doctor", env=os.environ | {"PYTHONPATH": str(ROOT), "SERVERMGR_PLATFORM": "posix"})
    assert done.returncode == 1
    assert "NO    a server is held with its whole process tree" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "not claimed (posix): " in line]
    assert "a daemon ends with it that cuts all its links at once" in line


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    """A ledger that others may write to is none: status 1, and what to do."""
    tmp_path.chmod(0o777)
    done = cli("doctor", env=os.environ | {"PYTHONPATH": str(ROOT), "SERVERMGR_LEDGER": str(tmp_path)})
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("NO"))
    assert str(tmp_path) in line
    assert "remedy: set SERVERMGR_LEDGER" in done.stdout


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    script = f"""
        servermgr() {{ {" ".join(CLI)} "$@"; }}
        eval "$(servermgr completions bash)"
        COMP_WORDS=(servermgr "$@"); COMP_CWORD=$#
        _servermgr
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_names() -> None:
    """As its own machinery asks for them."""
    assert completed("s") == ["stop", "sweep"]
    assert completed("sweep", "--d") == ["--dry-run"]
    assert completed("completions", "f") == ["fish"]
    with servermgr.CommandManager(SLEEP, name="my-server"):
        assert completed("stop", "my") == ["my-server"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_understand_theirs(shell: str, tmp_path: Path) -> None:
    """Their own parser reads it."""
    text = cli("completions", shell).stdout
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "completions"
    path.write_text(text)
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- the documentation ----------------------------------------------------------------------------------------


def example(name: str, *, kind: str = "console") -> str:
    """The block of the documentation that is marked so, or the next one of another kind behind it."""
    text = DOCS.read_text().partition(f"<!-- tested: {name} -->")[2]
    assert text, f"there is no example {name}"
    found = re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def told(name: str) -> tuple[str, list[str]]:
    """The commands of an example, as a shell reads them, and the lines that they are said to print."""
    commands, lines = [], []
    for line in example(name).splitlines():
        if line.startswith("$ ") or (commands and commands[-1].endswith("\\")):
            commands.append(line.removeprefix("$ "))
        else:
            lines.append(line)
    return "\n".join(commands), lines


def in_shell(script: str, folder: Path) -> list[str]:
    """What a person sees who types it: both streams, in lines."""
    script = f'servermgr() {{ {" ".join(CLI)} "$@"; }}\n{script}'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=40, cwd=folder, env=env,
    )  # fmt: skip
    return done.stdout.splitlines()


def shape(lines: list[str]) -> list[str]:
    """Without what differs from run to run: numbers, and the name of the interpreter."""
    text = re.sub(r"\S*python[\d.]*(?= |\)|$)", "python", "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"\(user \w+\)", "(user)", re.sub(r"owner \w+ \[", "owner [", text))
    return re.sub(r"\d+(\.\d+)?", "0", text).splitlines()


@pytest.mark.parametrize("name", ["run", "timeout", "sweep", "trace"])
def test_an_example_without_servers(name: str, tmp_path: Path) -> None:
    """It prints what the documentation says."""
    script, lines = told(name)
    assert shape(in_shell(script, tmp_path)) == shape(lines)


def test_the_example_of_up(tmp_path: Path) -> None:
    """The table as it is written, and what comes of it; so of a server that is not declared."""
    (tmp_path / "pyproject.toml").write_text(example("up", kind="toml"))
    for name in ("up", "server"):
        script, lines = told(name)
        assert sorted(shape(in_shell(script, tmp_path))) == sorted(shape(lines))


def test_the_examples_about_a_running_server(free_port: int, tmp_path: Path) -> None:
    """ps, ports, logs and stop."""
    with web(free_port, cwd=tmp_path) as manager:
        for path in ("/", "/favicon.ico"):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{free_port}{path}").close()
        for name in ("ps", "ports", "logs", "stop"):
            script, lines = told(name)
            seen = in_shell(script.replace("8123", str(free_port)), tmp_path)
            if name == "logs":  # a time stamp that no example can have
                seen = [re.sub(r"\[.*?\] ", "", line) for line in seen if "code 404" not in line]
                lines = lines[-len(seen) :]
            assert shape([line.replace(" -u ", " ") for line in seen]) == shape(lines), name
        until(lambda: manager.process is None or manager.process.poll() is not None)


def test_the_examples_of_doctor_and_completions(tmp_path: Path) -> None:
    """Doctor's words are what it says (which of them depends on the machine); the completions load."""
    script, lines = told("doctor")
    said = "\n".join(in_shell(script, tmp_path))
    for line in lines[:2]:
        assert line.partition("  (")[0] in said
    assert in_shell(told("completions")[0] + "\ncomplete -p servermgr", tmp_path) == [
        "complete -o default -F _servermgr servermgr"
    ]


def test_every_command_has_a_tested_example_and_its_exit_statuses() -> None:
    """In the documentation."""
    text = DOCS.read_text()
    for name in COMMANDS:
        section = re.search(rf"^## `{name}`.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, name
        assert f"<!-- tested: {name} -->" in section[0]
        assert "exit status" in section[0].lower()
