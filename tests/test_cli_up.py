"""`servermgr up`: declared servers in the order of their needs, for one command, and nothing left of either."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from stand_ins import ANSWERING, PATIENCE, ROOT, content, lives, until
from terminal import CTRL_C, terminal

import servermgr

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="steps are held on Linux")

UP = [sys.executable, "-m", "servermgr", "up"]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
#: Tells its environment, then listens on the port (argument 1); what else it is told it does.
SERVER = """
import os, signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
seen = {name: value for name, value in os.environ.items() if name.startswith(("FIRST", "SECOND", "GIVEN"))}
print("up", sorted(seen.items()), flush=True)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "noting" in sys.argv:
    def note(*_):
        print("polite", flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, note)
while True:
    listener.accept()[0].close()
"""


def declare(folder: Path, **servers: dict[str, Any]) -> None:
    """Write a pyproject.toml."""
    lines = []
    for name, entries in servers.items():
        lines.append(f"[tool.servermgr.servers.{name}]")
        lines += [f"{key} = {toml(value)}" for key, value in entries.items()]
    (folder / "pyproject.toml").write_text("\n".join(lines))


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def server(folder: Path, *words: str, **more: Any) -> dict[str, Any]:
    """The declaration of a stand-in."""
    script = folder / "server.py"
    script.write_text(SERVER)
    command = [sys.executable, "-S", str(script), "{port}", *words]
    return {"command": command, "port": 0, "ready": "tcp://127.0.0.1:{port}", **more}


def up(folder: Path, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    given = {
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "text": True,
        "timeout": 40,
        "cwd": folder,
        "env": ENV,
    }
    return subprocess.run([*UP, *words], **(given | settings), check=False)


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`up` without a command, once it has said where its servers are."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*UP, *words], **pipes, text=True, cwd=folder, env=ENV) as process:
        try:
            yield process
        finally:
            process.kill()


def members() -> list[int]:
    """Everyone below a guardian of the ledger."""
    from servermgr import _cli_trees

    return [member.pid for tree in _cli_trees.standing() for member in tree.members]


@pytest.fixture(autouse=True)
def _nothing_of_them_stays() -> Iterator[None]:
    yield
    until(lambda: servermgr.recorded() == [], "the end of all servers")


# ---- with a command -------------------------------------------------------------------------------------------


def test_two_servers_and_a_command(tmp_path: Path) -> None:
    """Started in the order of their needs; each finds those that it needs in its environment, and the command all."""
    first = server(tmp_path, output="first.log")
    second = server(tmp_path, output="second.log", needs="first", env={"GIVEN": "port {port}"})
    declare(tmp_path, second=second, first=first)
    script = "echo $FIRST_HOST $FIRST_PORT $FIRST_URL; echo $SECOND_URL; exit 7"
    done = up(tmp_path, "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    where, other = done.stdout.splitlines()
    host, port, url = where.split()
    assert (host, url) == ("127.0.0.1", f"tcp://127.0.0.1:{port}")
    lines = done.stderr.splitlines()
    assert [line for line in lines if "ready after" in line] == [lines[1], lines[2]]
    assert lines[1].startswith("servermgr: first: ready after ")
    assert lines[1].endswith(f" at {url}")
    assert "FIRST" not in (tmp_path / "first.log").read_text()
    seen = (tmp_path / "second.log").read_text()
    assert f"('FIRST_URL', '{url}')" in seen
    assert f"('GIVEN', 'port {other.rpartition(':')[2]}')" in seen


def test_only_what_is_named_and_what_that_needs(tmp_path: Path) -> None:
    """In any order of writing."""
    declare(tmp_path, a=server(tmp_path, needs=["b"]), b=server(tmp_path), c=server(tmp_path))
    done = up(tmp_path, "a", "--", "sh", "-c", "echo ${A_PORT:+a} ${B_PORT:+b} ${C_PORT:+c}")
    assert (done.returncode, done.stdout) == (0, "a b\n")


def test_a_table_above_is_found_and_paths_are_its(tmp_path: Path) -> None:
    """As other tools look for pyproject.toml; the command runs where it was called."""
    declare(tmp_path, web=server(tmp_path, output="web.log", url="http://{host}:{port}/start"))
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    done = up(below, "--", "sh", "-c", "pwd; echo $WEB_URL")
    assert done.stdout.startswith(f"{below}\nhttp://127.0.0.1:")
    assert done.stdout.endswith("/start\n")
    assert (tmp_path / "web.log").exists()


def test_a_server_of_the_command_line(tmp_path: Path) -> None:
    """`--server`, and what follows it up to the next one; no table is needed, or looked at."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    command = f"{sys.executable} -S {script} {{port}}"
    ready = ["--ready", "tcp://127.0.0.1:{port}", "--port", "0"]
    words = ["--server", command, *ready, "--name", "one", "--server", command, *ready, "--name", "my-other"]
    done = up(tmp_path, *words, "--", "sh", "-c", "echo $ONE_PORT $MY_OTHER_PORT")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ \d+\n", done.stdout)


def test_a_ready_http_server_has_a_url_of_http(tmp_path: Path, free_port: int) -> None:
    """And a port that was chosen is told as well."""
    script = tmp_path / "answering.py"
    script.write_text(ANSWERING)
    command = [sys.executable, "-S", str(script), str(free_port), "HTTP/1.0 200 OK\r\n\r\n"]
    declare(tmp_path, web={"command": command, "ready": f"http://127.0.0.1:{free_port}/"})
    done = up(tmp_path, "--", "sh", "-c", "echo $WEB_URL")
    assert done.stdout == f"http://127.0.0.1:{free_port}\n"


@pytest.mark.server("redis-server")
def test_a_kind_needs_no_more_than_its_name(tmp_path: Path) -> None:
    """A free port, and a directory that goes with the run."""
    declare(tmp_path, cache={"kind": "redis"})
    done = up(tmp_path, "--", "sh", "-c", "echo $CACHE_URL $CACHE_HOST:$CACHE_PORT")
    assert done.returncode == 0, done.stderr
    url, address = done.stdout.split()
    assert url == f"redis://{address}/0"


def test_the_streams_and_the_status_are_the_commands(tmp_path: Path) -> None:
    """Standard output holds nothing of ours."""
    declare(tmp_path, web=server(tmp_path))
    data = "".join(map(chr, range(32, 1000)))
    done = up(tmp_path, "--", "cat", stdin=None, input=data)
    assert (done.returncode, done.stdout) == (0, data)
    assert up(tmp_path, "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert up(tmp_path, "--timeout", "0.3", "--", "sleep", "60").returncode == 124


def test_messages_for_machines(tmp_path: Path) -> None:
    """One JSON object in a line of standard error."""
    declare(tmp_path, web=server(tmp_path))
    done = up(tmp_path, "--json", "--", "sh", "-c", "echo $WEB_URL")
    (ready,) = map(json.loads, done.stderr.splitlines())
    assert (ready["event"], ready["name"]) == ("ready", "web")
    assert ready["addresses"]["WEB_URL"] == done.stdout.strip()


# ---- what goes wrong ------------------------------------------------------------------------------------------


def test_a_failing_server_is_named_with_its_log_and_its_last_lines(tmp_path: Path) -> None:
    """The command never runs, the others are stopped, and the log is kept for a look."""
    failing = {"command": ["sh", "-c", "echo no such table; exit 3"], "ready": "log:never", "needs": "good"}
    declare(tmp_path, good=server(tmp_path), bad=failing)
    done = up(tmp_path, "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 1
    assert not (tmp_path / "ran").exists()
    assert "error: bad: the worker ended before it was ready" in done.stderr
    assert "exit status 3" in done.stderr
    assert "    no such table" in done.stderr
    log = Path(re.findall(r"last output \((.*)\):", done.stderr)[0])
    assert log.read_text() == "no such table\n"
    shutil.rmtree(log.parent)


def test_a_server_that_ends_while_the_command_runs_is_told_of(tmp_path: Path) -> None:
    """The status stays the command's: whether it minded is its own affair."""
    declare(tmp_path, web=server(tmp_path, output="web.log"))
    code = "import os, sys; from servermgr import recorded; os.kill(recorded()[-2].worker.pid, 9)"
    done = up(tmp_path, "--", "sh", "-c", f'{sys.executable} -c "{code}"; sleep 0.5; exit 4')
    assert done.returncode == 4, done.stderr
    assert "error: web: ended by itself (killed by SIGKILL)" in done.stderr
    assert f"last output ({tmp_path / 'web.log'}):" in done.stderr


def test_without_a_command_the_end_of_a_server_is_the_end(tmp_path: Path) -> None:
    """With its status, its log, and the end of the others."""
    declare(tmp_path, good=server(tmp_path), short={"command": "sh -c 'echo over; sleep 0.3; exit 5'"})
    done = up(tmp_path)
    assert done.returncode == 1
    assert "error: short: ended by itself (exit status 5)" in done.stderr
    log = Path(re.findall(r"last output \((.*)\):", done.stderr)[0])
    shutil.rmtree(log.parent)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"comand": "x"}, "needs either command"),
        ({"command": "x", "redy": "tcp://:1"}, "there is no 'redy': did you mean 'ready'?"),
        ({"command": "x", "ready": "tpc://127.0.0.1:1"}, "tpc"),
        ({"command": "x", "port": "8080"}, "port is to be a whole number, not '8080'"),
        ({"command": "x", "port": True}, "port is to be a whole number, not True"),
        ({"command": "x", "port": 0}, "{port}"),
        ({"command": "x", "needs": "wev"}, "it needs 'wev', which is not declared: did you mean 'web'?"),
        ({"command": "x", "needs": "web"}, "circle"),
        ({"command": "x", "env": {"A": 1}}, "env.A is to be a text"),
        ({"kind": "ngingx"}, "there is no kind 'ngingx': did you mean 'nginx'?"),
        ({"kind": "nginx", "command": "x"}, "either command"),
        ({"kind": "nginx", "prot": 80}, "there is no 'prot': did you mean 'port'?"),
        ({"kind": "django_app"}, "has to be told 'settings'"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_one_clear_error(
    entries: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    """With the table's name and what may have been meant; nothing is started."""
    declare(tmp_path, web=entries)
    done = up(tmp_path, "--", "true")
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_other_mistakes(tmp_path: Path) -> None:
    """A name that is not declared; no declaration at all; no TOML; two that cannot be told apart."""
    declare(tmp_path, web=server(tmp_path))
    assert "no server is declared as 'wbe': did you mean 'web'?" in up(tmp_path, "wbe", "--", "true").stderr
    (tmp_path / "pyproject.toml").write_text("[tool.servermgr.servers")
    done = up(tmp_path, "--", "true")
    assert done.returncode == 2
    assert "pyproject.toml is no TOML" in done.stderr
    (tmp_path / "pyproject.toml").write_text("")
    assert "no server is declared: write" in up(tmp_path, "--", "true").stderr
    declare(tmp_path, **{"my-web": server(tmp_path), "my_web": server(tmp_path)})
    assert "would both be MY_WEB_URL" in up(tmp_path, "--", "true").stderr
    assert up(tmp_path, "--ready", "tcp://127.0.0.1:1", "--", "true").returncode == 2


# ---- until Ctrl-C ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_it_is_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    """Politely: the servers may say goodbye."""
    declare(tmp_path, web=server(tmp_path, "noting", output="web.log"))
    with running(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("WEB_URL=tcp://127.0.0.1:")
        assert members()
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert (tmp_path / "web.log").read_text().endswith("polite\n")


def test_ctrl_c_twice_means_now(tmp_path: Path) -> None:
    """On a terminal, with servers that do not hear the polite signal and a grace period of a minute."""
    declare(
        tmp_path,
        one=server(tmp_path, "deaf", grace_period=60),
        two=server(tmp_path, "deaf", grace_period=60, needs="one"),
    )
    with terminal("sh", "-c", f"cd {tmp_path} && exec {' '.join(UP)}", env={"PYTHONPATH": str(ROOT)}) as shown:
        shown.until("Ctrl-C stops all of it")
        pids = members()
        assert len(pids) == 2
        shown.type(CTRL_C)
        time.sleep(0.5)
        assert shown.process.poll() is None
        shown.type(CTRL_C)
        began = time.monotonic()
        assert shown.wait() == 0
        assert time.monotonic() - began < 15
        assert not any(lives(pid) for pid in pids)


def test_ctrl_c_is_the_commands_and_then_all_is_stopped(tmp_path: Path) -> None:
    """It reaches the command once; the servers, which stand in sessions of their own, end in order afterwards."""
    declare(tmp_path, web=server(tmp_path, "noting", output="web.log"))
    counting = tmp_path / "counting.sh"
    counting.write_text("trap 'echo interrupted; n=$((n+1))' INT\necho up\nwhile [ -z \"$n\" ]; do sleep 0.1; done\n")
    counting.write_text(counting.read_text() + "sleep 0.3; echo count=$n; exit 3\n")
    line = f"cd {tmp_path} && exec {' '.join(UP)} -- sh {counting}"
    with terminal("sh", "-c", line, env={"PYTHONPATH": str(ROOT)}) as shown:
        shown.until("up\r\n")
        shown.type(CTRL_C)
        shown.until("count=1")
        assert shown.wait() == 3
    assert (tmp_path / "web.log").read_text().endswith("polite\n")


def test_servers_and_command_end_with_a_killed_up(tmp_path: Path) -> None:
    """SIGKILL to `servermgr up`: the guardians end what they hold; the last one removes the directory of the run."""
    declare(tmp_path, web=server(tmp_path), other=server(tmp_path))
    with running(tmp_path, "--", "sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 60") as process:
        command = int(content(tmp_path / "pid"))
        pids = [command, *members()]
        assert len(pids) >= 2
        process.kill()
        for pid in pids:
            until(lambda pid=pid: not lives(pid), f"the end of {pid}")
    until(lambda: scratches() == [], "the end of the directory")


def scratches() -> list[Path]:
    """The directories of runs of `up`."""
    return list(Path(os.environ["TMPDIR"]).glob("servermgr-up-*"))


@pytest.mark.server("redis-server")
def test_a_killed_up_leaves_no_data_either(tmp_path: Path) -> None:
    """Of a kind that keeps files and folders there; not before its server is gone, which may need them to its end."""
    declare(tmp_path, cache={"kind": "redis"}, web=server(tmp_path, "deaf", crash_grace=1))
    with running(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (scratch,) = scratches()
        assert (scratch / "cache").is_dir()
        pids = members()
        process.kill()
        until(lambda: sum(lives(pid) for pid in pids) == 1, "the end of the polite one")
        assert scratch.exists()  # the negative control: one is left that has a share in it
        until(lambda: scratches() == [], "the end of the directory")
    assert not any(lives(pid) for pid in pids)


def test_what_nobody_could_remove_goes_with_the_next_sweep(tmp_path: Path) -> None:
    """`up` and all guardians killed at once; of a run that lives the directory stays."""
    declare(tmp_path, web=server(tmp_path))
    with running(tmp_path) as process, running(tmp_path) as other:
        for one in (process, other):
            assert one.stdout is not None
            one.stdout.readline()
        both = set(scratches())
        (own,) = [path for path in both if f".{other.pid}." in path.name]
        for record in servermgr.recorded():
            if record.owner.pid == process.pid:
                helper = psutil.Process(record.guardian.pid).parent()
                for doomed in (process.pid, helper.pid, record.guardian.pid):
                    os.kill(doomed, signal.SIGKILL)
        process.wait(PATIENCE)
        assert set(scratches()) == both
        servermgr.sweep()
        assert scratches() == [own]
        other.send_signal(signal.SIGTERM)
        other.wait(PATIENCE)
    assert scratches() == []


def test_a_spinner_on_a_terminal_and_plain_lines_elsewhere(tmp_path: Path) -> None:
    """With the elapsed time while it waits; NO_COLOR takes the colour, not the spinner."""
    pytest.importorskip("rich")
    declare(tmp_path, slow={"command": "sh -c 'sleep 1.2; echo listening; sleep 60'", "ready": "log:listening"})
    line = f"cd {tmp_path} && exec {' '.join(UP)} -- true"
    for colour in (True, False):
        env = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | ({} if colour else {"NO_COLOR": "1"})
        with terminal("sh", "-c", line, env=env) as shown:
            assert shown.wait() == 0
        assert "0:00:01" in shown.seen
        assert ("\x1b[32m" in shown.seen) == colour
    done = up(tmp_path, "--", "true")
    assert "\x1b" not in done.stderr
    assert "slow: ready after 1." in done.stderr


def test_the_trace_shows_servers_and_command(tmp_path: Path) -> None:
    """Lanes for processes, those of servers too; when they started, were ready, what they were sent, how they ended."""
    declare(tmp_path, web=server(tmp_path))
    done = up(tmp_path, "--trace", "trace.json", "--", "sh", "-c", "setsid sleep 60 & exit 0")
    assert done.returncode == 0, done.stderr
    events = json.loads((tmp_path / "trace.json").read_text())
    lanes = {event["args"]["name"]: event["pid"] for event in events if event["name"] == "process_name"}
    assert {"web", "run:sh", "sleep"} <= set(lanes)
    happened = {(event["pid"], event["name"]) for event in events}
    assert {(lanes["web"], name) for name in ("spawn", "starting", "ready", "sent SIGTERM")} <= happened
    assert {name for pid, name in happened if pid == lanes["web"]} & {"killed by SIGTERM", "exit status 0"}
    assert {"guardian of web", "guardian of run:sh"} <= set(lanes)
    assert (lanes["run:sh"], "exit status 0") in happened
    assert {(lanes["sleep"], "sent SIGTERM"), (lanes["sleep"], "killed by SIGTERM")} <= happened
    assert all(event.get("dur", 0) >= 0 for event in events)
