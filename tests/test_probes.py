"""Readiness probes: each kind and string form asks a real server, and the answer must be our own server's."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from stand_ins import ANSWERING, LISTENING, PATIENCE, SLEEP, content, is_living, living, python, sh, tree_of, until

from servermgr.base import AddressInUseError, LaunchError, ReadyTimeoutError, WorkerError, WorkerExitedError
from servermgr.command import CommandManager
from servermgr.probe_forms import make_probe
from servermgr.probes import HttpProbe, LogProbe, TcpProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OK = "HTTP/1.0 200 OK\r\n\r\n"
#: A time-out for what cannot become ready, and one for what ends the wait long before.
SHORT = 0.3
LONG = 50.0
EARLY = 25.0


def manager(argv: list[str], ready: Any, **options: Any) -> CommandManager:
    return CommandManager(argv, name="stand-in", ready=ready, grace_period=1.0, **options)


def is_ready(argv: list[str], ready: Any, **options: Any) -> None:
    """It gets ready, is healthy then, and is gone after stop."""
    with manager(argv, ready, **options) as server:
        tree = tree_of(server.process.pid)
        server.health()
        server.ready_wait(0)
    assert living(tree) == []


def never_ready(argv: list[str], ready: Any, **options: Any) -> str:
    """Why not, as the error at the time-out says it."""
    server = manager(argv, ready, **options)
    with pytest.raises(ReadyTimeoutError) as caught:
        server.start(timeout=SHORT)
    assert server.process is None
    return str(caught.value)


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


# ---- tcp ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_tcp_is_ready_when_a_connection_is_accepted(free_port: int, host: str) -> None:
    """tcp://host:port; a wildcard address is asked on the loopback interface."""
    code = f"import time; time.sleep(0.1)\n{LISTENING}"
    code = code.replace("127.0.0.1", host) if host == "0.0.0.0" else code
    is_ready(python(code, free_port), f"tcp://{host}:{free_port}")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_tcp_knows_ipv6(free_port: int, host: str) -> None:
    """tcp://[::1]:port."""
    ipv6 = f'(("{host}", int(sys.argv[1])), family=socket.AF_INET6)'
    code = LISTENING.replace('(("127.0.0.1", int(sys.argv[1])))', ipv6)
    is_ready(python(code, free_port), f"tcp://[{host}]:{free_port}")


def test_tcp_is_not_ready_while_nobody_listens(free_port: int) -> None:
    """The error says which question went unanswered, and how."""
    assert "ConnectionRefusedError" in never_ready(SLEEP, f"tcp://127.0.0.1:{free_port}")


def test_tcp_asks_also_when_the_time_is_0(free_port: int) -> None:
    """timeout=0 asks once; a server that listens is ready."""
    with manager(python(LISTENING, free_port), f"tcp://127.0.0.1:{free_port}") as server:
        server.ready_wait(0)


def test_the_listener_may_be_any_process_of_the_tree(free_port: int) -> None:
    """A worker that leaves listening to a child is as good."""
    is_ready(sh('"$@" & wait', *python(LISTENING, free_port)), f"tcp://127.0.0.1:{free_port}")


def test_a_worker_that_cannot_bind_fails_at_once(free_port: int) -> None:
    """A port that is bound and not listened on shows only when the worker tries; its own complaint is the error."""
    began = time.monotonic()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_port))
        with pytest.raises(WorkerExitedError, match=r"(?s)exit status 1.*Address already in use"):
            manager(python(LISTENING, free_port), f"tcp://127.0.0.1:{free_port}").start(timeout=LONG)
    assert time.monotonic() - began < EARLY


# ---- http -----------------------------------------------------------------------------------------------------


def test_http_is_ready_when_a_real_server_answers(tmp_path: Path, free_port: int) -> None:
    """Python's own web server, asked for a file."""
    (tmp_path / "a file.txt").write_text("hello")
    argv = [sys.executable, "-m", "http.server", str(free_port), "--bind", "127.0.0.1"]
    is_ready(argv, f"http://127.0.0.1:{free_port}/a file.txt", cwd=tmp_path)


@pytest.mark.parametrize("status", [200, 204, 302, 399])
def test_http_is_ready_by_a_good_status(free_port: int, status: int) -> None:
    """200 to 399."""
    is_ready(python(ANSWERING, free_port, f"HTTP/1.0 {status} X\r\n\r\n"), f"http://127.0.0.1:{free_port}/x")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_http_is_not_ready_by_a_bad_status(free_port: int, status: int) -> None:
    """The error says what the server has answered."""
    answer = f"HTTP/1.0 {status} X\r\n\r\n"
    text = never_ready(python(ANSWERING, free_port, answer), f"http://127.0.0.1:{free_port}/health?deep=1")
    assert f"http://127.0.0.1:{free_port}/health?deep=1 answers with status {status}" in text


def test_http_waits_through_bad_answers(free_port: int) -> None:
    """Not there, garbage, 503, then 200: it goes on asking."""
    answers = ["", "garbage\r\n\r\n", "HTTP/1.0 503 Wait\r\n\r\n", OK]
    is_ready(python(ANSWERING, free_port, *answers), f"http://127.0.0.1:{free_port}")


def test_which_statuses_are_good_can_be_said(free_port: int) -> None:
    """HttpProbe(url, statuses=…), for a server that wants a password, say."""
    probe = HttpProbe(f"http://127.0.0.1:{free_port}/", statuses=range(401, 402))
    is_ready(python(ANSWERING, free_port, "HTTP/1.0 401 Who\r\n\r\n"), probe)


def test_http_asks_what_it_was_told(free_port: int) -> None:
    """Path and query arrive, written as the protocol wants them; what is quoted already stays as it is."""
    saying = "print(connection.recv(4096).decode().split('\\r')[0], flush=True)"
    code = ANSWERING.replace("connection.recv(4096)", saying)
    url = f"http://127.0.0.1:{free_port}/a b/\u00fc%20?q=1&r=x y#part"
    with manager(python(code, free_port, OK), url) as server:
        assert until(server.output_tail)[0] == "GET /a%20b/%C3%BC%20?q=1&r=x%20y HTTP/1.1"


def test_something_else_than_http_is_not_ready(free_port: int) -> None:
    """The error says that the answer was no HTTP."""
    text = never_ready(python(ANSWERING, free_port, "220 mail.example ESMTP\r\n"), f"http://127.0.0.1:{free_port}/")
    assert "is not answered in HTTP" in text


def test_a_server_that_accepts_and_says_nothing_does_not_hold_up_the_time_out(free_port: int) -> None:
    """The question ends with the time-out."""
    began = time.monotonic()
    never_ready(python(LISTENING, free_port), f"http://127.0.0.1:{free_port}/")
    assert time.monotonic() - began < EARLY


def test_https_wants_tls(free_port: int) -> None:
    """A server that speaks plain HTTP is not ready over https."""
    assert "SSL" in never_ready(python(ANSWERING, free_port, OK), f"https://127.0.0.1:{free_port}/")


# ---- unix -----------------------------------------------------------------------------------------------------

ON_A_PATH = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
time.sleep(0.1)
listener.listen()
time.sleep(60)
"""


@pytest.mark.parametrize("form", ["unix://{}/s", "unix:{}/s", "unix:s", "unix://s"])
def test_unix_is_ready_when_a_connection_is_accepted(tmp_path: Path, form: str) -> None:
    """unix:///path; a relative path is relative to the server's directory."""
    is_ready(python(ON_A_PATH, "s"), form.format(tmp_path), cwd=tmp_path)


def test_unix_is_not_ready_by_a_leftover_file(tmp_path: Path) -> None:
    """A socket file that nobody listens behind is refused, and a missing one is waited for."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert "ConnectionRefusedError" in never_ready(SLEEP, f"unix://{tmp_path}/s")
    assert "FileNotFoundError" in never_ready(SLEEP, f"unix://{tmp_path}/t")


# ---- log ------------------------------------------------------------------------------------------------------


def test_log_is_ready_when_a_line_matches() -> None:
    """log:regex is searched in each line of standard output and standard error."""
    argv = sh("echo starting; sleep 0.1; echo 'server: Ready (in 3 ms)' >&2; exec sleep 60")
    is_ready(argv, r"log:Ready \(in \d+ ms\)$")


def test_log_stays_ready() -> None:
    """What was said once is said for good: later lines do not make the server unhealthy."""
    with manager(sh("echo ready; echo more; exec sleep 60"), "log:ready") as server:
        until(lambda: "more" in server.output_tail())
        for _ in range(3):
            server.health()


def test_log_waits_for_a_whole_line(tmp_path: Path) -> None:
    """Half a line does not match; the pieces of a line that comes in two do."""
    argv = sh('printf "rea"; until [ -e "$1" ]; do sleep 0.01; done; printf "dy\\n"; exec sleep 60', tmp_path / "go")
    server = manager(argv, "log:^ready$")
    server.start(wait=False)
    until(lambda: server.output_tail() == ["rea"])
    with pytest.raises(WorkerError, match=r"no line of .* matches '\^ready\$'"):
        server.health()
    (tmp_path / "go").touch()
    server.ready_wait(PATIENCE)
    server.stop()


def test_log_reads_lines_of_every_kind() -> None:
    """Carriage returns and bytes that are no UTF-8 do not hide a line."""
    is_ready(sh(r"printf 'caf\351\r\nready\r\n'; exec sleep 60"), "log:^ready$")


def test_log_hears_only_this_run(tmp_path: Path) -> None:
    """A line of the run before, in a log that is kept, makes nobody ready; in the second run it counts again."""
    log = tmp_path / "log"
    log.write_text("ready\n")
    assert "matches 'ready'" in never_ready(SLEEP, "log:ready", output=log)
    server = manager(sh("echo ready; exec sleep 60"), "log:ready", output=log)
    for _ in range(2):
        with server:
            pass
    server.argv = SLEEP
    with pytest.raises(ReadyTimeoutError):
        server.start(timeout=SHORT)


@pytest.mark.parametrize("output", [subprocess.DEVNULL, "/dev/null"])
def test_log_needs_a_file(output: Any) -> None:
    """Where the output goes to no file, the probe says so, and nothing is left running."""
    server = manager(SLEEP, "log:ready", output=output)
    with pytest.raises(ValueError, match="output=PATH"):
        server.start()
    assert server.process is None


def test_another_log_can_be_read(tmp_path: Path) -> None:
    """LogProbe(pattern, path=…): a file that the server writes itself, which need not be there yet."""
    argv = sh('sleep 0.1; echo ready >"own.log"; exec sleep 60')
    is_ready(argv, LogProbe("ready", path="own.log"), cwd=tmp_path)


def test_another_log_may_hold_old_lines(tmp_path: Path) -> None:
    """Only what is written after the start counts."""
    (tmp_path / "own.log").write_text("ready\n")
    argv = sh('until [ -e go ]; do sleep 0.01; done; echo ready >>"own.log"; exec sleep 60')
    server = manager(argv, LogProbe("ready", path="own.log"), cwd=tmp_path)
    server.start(wait=False)
    with pytest.raises(WorkerError, match="no line"):
        server.health()
    (tmp_path / "go").touch()
    server.ready_wait(PATIENCE)
    server.stop()


@pytest.mark.parametrize("filler", ["", "a much longer first line than the old file had\n" * 3])
def test_a_rotated_log_is_followed(tmp_path: Path, filler: str) -> None:
    """A new file under the name is read from its beginning, whether it is shorter or longer than the old one."""
    log = tmp_path / "own.log"
    log.write_text("old line\n" * 3)
    server = manager(SLEEP, LogProbe("ready", path=log))
    server.start(wait=False)
    with pytest.raises(WorkerError):
        server.health()
    log.rename(tmp_path / "own.log.1")
    with pytest.raises(WorkerError):
        server.health()  # between the two there is none
    log.write_text(f"ready\n{filler}")
    server.health()
    server.stop()


def test_an_emptied_log_is_followed(tmp_path: Path) -> None:
    """One that was truncated is read from its beginning, too, without the half line of before."""
    log = tmp_path / "own.log"
    log.write_text("old line\n" * 3)
    server = manager(SLEEP, LogProbe("^ready", path=log))
    server.start(wait=False)
    with open(log, "a") as file:
        file.write("half a ")
    with pytest.raises(WorkerError):
        server.health()
    log.write_text("ready\n")
    server.health()
    server.stop()


# ---- pidfile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pidfile://{}/p", "pidfile:{}/p", "pidfile:p"])
def test_pidfile_is_ready_when_it_names_a_running_process(tmp_path: Path, form: str) -> None:
    """pidfile:/path, relative to the server's directory."""
    is_ready(sh("sleep 0.1; echo $$ >p; exec sleep 60"), form.format(tmp_path), cwd=tmp_path)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_text("999999999\n"), "names no running process"),
        (lambda path: path.write_text("soon\n"), "names no running process"),
        (lambda _: None, "names no running process"),
        (os.mkfifo, "is not a regular file"),
        (os.mkdir, "is not a regular file"),
    ],
)
def test_pidfile_is_not_ready_by_anything_else(tmp_path: Path, make: Callable[[Path], object], text: str) -> None:
    """The error says what is wrong with it; nothing that lies there can hold the probe up."""
    make(tmp_path / "p")
    assert text in never_ready(SLEEP, f"pidfile:{tmp_path}/p")


# ---- command --------------------------------------------------------------------------------------------------


def test_command_is_ready_when_it_exits_with_0(tmp_path: Path) -> None:
    """cmd:command line, in the server's directory."""
    is_ready(sh("sleep 0.1; echo >here; exec sleep 60"), "cmd:test -e 'here'", cwd=tmp_path)


def test_command_runs_in_the_servers_environment() -> None:
    """As a client of the server would."""
    is_ready(SLEEP, """cmd:sh -c 'test "$TASTE" = "so ur"'""", env={"TASTE": "so ur", "PATH": os.environ["PATH"]})


def test_command_says_what_it_said() -> None:
    """Its status and its words are in the error."""
    text = never_ready(SLEEP, "cmd:sh -c 'echo no response on 5432; exit 2'")
    assert "says no (exit status 2)" in text
    assert "no response on 5432" in text


def test_command_that_hangs_is_ended(tmp_path: Path) -> None:
    """With all its children, and it does not hold up the time-out."""
    probe = f"cmd:sh -c 'sleep 60 & echo $! >{tmp_path}/child; wait'"
    began = time.monotonic()
    assert "did not end within" in never_ready(SLEEP, probe)
    assert time.monotonic() - began < EARLY
    assert not psutil.pid_exists(int(content(tmp_path / "child")))


def test_command_that_does_not_exist_is_an_error_at_once() -> None:
    """Waiting would not bring it; the error names it and the question it was for."""
    server = manager(SLEEP, "cmd:no-such-program-x --quiet")
    began = time.monotonic()
    with pytest.raises(LaunchError, match=r"cannot be asked by 'no-such-program-x --quiet': .*installed") as caught:
        server.start(timeout=LONG)
    assert time.monotonic() - began < EARLY
    assert isinstance(caught.value.exception, FileNotFoundError)
    assert server.process is None


def test_no_shell_reads_the_command_line(tmp_path: Path) -> None:
    """It is split as a shell does, and nothing of it is run."""
    is_ready(SLEEP, f"cmd:test ';' '!=' '>{tmp_path}/x;'")
    assert list(tmp_path.iterdir()) == []


# ---- callable -------------------------------------------------------------------------------------------------


def test_callable_is_ready_when_it_returns_something_true() -> None:
    """False, None and 0 mean "not yet", and so do OSError and WorkerError."""
    answers: Iterator[Any] = iter([False, None, 0, "", OSError("no route"), WorkerError(None, "busy"), "yes"])

    def ask() -> object:
        answer = next(answers, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    is_ready(SLEEP, ask)
    assert list(answers) == []


def says_no() -> bool:
    return False


def raises_os_error() -> None:
    raise OSError("no route")


@pytest.mark.parametrize(("ask", "text"), [(says_no, "says_no says: not yet"), (raises_os_error, "OSError: no route")])
def test_callable_says_why_not(ask: Callable[[], object], text: str) -> None:
    """The error names the callable, or what it has raised."""
    assert text in never_ready(SLEEP, ask)


def test_callable_with_a_fault_ends_the_start() -> None:
    """Another exception is a fault: it is raised as it is, at once, and nothing is left running."""

    def ask() -> None:
        raise ValueError("no such column")

    server = manager(SLEEP, ask)
    with pytest.raises(ValueError, match="no such column"):
        server.start(timeout=LONG)
    assert server.process is None


# ---- without a probe ------------------------------------------------------------------------------------------


def test_without_a_probe_running_is_enough() -> None:
    """`health` then says whether the worker runs."""
    server = manager(SLEEP, None)
    with pytest.raises(WorkerError, match="stand-in: it does not run"):
        server.health()
    with server:
        server.health()
        server.process.kill()
        server.process.wait()
        with pytest.raises(WorkerError, match="stand-in: it does not run"):
            server.health()


def test_a_health_check_asks_once(free_port: int) -> None:
    """After the start `health` raises WorkerError, with its cause, when the server no longer answers."""
    code = LISTENING.replace("time.sleep(60)", "sys.stdin.read(); listener.accept(); listener.close(); time.sleep(60)")
    with manager(python(code, free_port), f"tcp://127.0.0.1:{free_port}") as server:
        until(lambda: not listens(free_port))
        with pytest.raises(WorkerError, match="stand-in: it does not answer") as caught:
            server.health()
        assert isinstance(caught.value.exception, ConnectionRefusedError)
        assert server.process.poll() is None


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


# ---- string forms ---------------------------------------------------------------------------------------------

FORMS = ("tcp://host:port", "http://host:port/path", "unix:///path", "log:regex", "pidfile:/path", "cmd:command line")


@pytest.mark.parametrize(
    "text", ["", "8080", "localhost:8080", "127.0.0.1:80", "TCP//x", "udp://x:1", "ready", ":", "://"]
)
def test_an_unknown_form_is_refused_with_a_list(text: str) -> None:
    """Where it is written, not at the start; the error lists all forms."""
    with pytest.raises(ValueError, match=re.escape(repr(text))) as caught:
        manager(SLEEP, text)
    assert all(form in str(caught.value) for form in FORMS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tcp://", "needs a host and a port"),
        ("tcp://127.0.0.1", "needs a host and a port"),
        ("tcp:127.0.0.1:80", "needs a host and a port"),
        ("tcp://:80", "needs a host and a port"),
        ("tcp://h:http", "tcp://h:http"),
        ("tcp://h:0", "from 1 to 65535"),
        ("tcp://h:65536", "tcp://h:65536"),
        ("tcp://h:-1", "tcp://h:-1"),
        ("tcp://[::1", "tcp://\\[::1"),
        ("tcp://::1:80", "tcp://::1:80"),
        ("tcp://h:80/health", "for a path give http"),
        ("http://", "needs a host"),
        ("http:/h/", "needs a host"),
        ("http://h:0/", "from 1 to 65535"),
        ("https://h:99999/", "https://h:99999/"),
        ("unix:", "needs a path"),
        ("unix://", "needs a path"),
        ("pidfile:", "needs a path"),
        ("log:(", "regular expression"),
        ("cmd:", "needs a command"),
        ("cmd:echo 'x", "cmd:|quotation"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(text: str, complaint: str) -> None:
    """A ValueError that says what is missing, where it is written."""
    with pytest.raises(ValueError, match=complaint):
        manager(SLEEP, text)


@pytest.mark.parametrize("given", [80, ("127.0.0.1", 80), b"tcp://h:1", object()])
def test_something_else_is_refused(given: Any) -> None:
    """What is neither probe, text nor callable is a TypeError."""
    with pytest.raises(TypeError, match="string form or a callable"):
        manager(SLEEP, given)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:80", ("127.0.0.1", 80)),
        ("tcp://[::1]:80", ("::1", 80)),
        ("tcp://example.org:65535", ("example.org", 65535)),
        ("http://h/", ("h", 80)),
        ("https://h", ("h", 443)),
        ("http://[::1]:8080/x", ("::1", 8080)),
        ("log:x", None),
        ("unix:/s", None),
        ("pidfile:/p", None),
        ("cmd:true", None),
    ],
)
def test_a_form_knows_the_address_it_asks(text: str, address: tuple[str, int] | None) -> None:
    """That is what must be free before the start and belong to the tree after it."""
    probe = make_probe(text)
    assert probe is not None
    assert probe.address == address


def test_a_probe_of_ones_own_is_taken_as_it_is() -> None:
    """Anything with `bind` and `address`."""
    probe = TcpProbe("127.0.0.1", 80)
    assert make_probe(probe) is probe
    assert make_probe(None) is None


# ---- whose listener is it? ------------------------------------------------------------------------------------


@contextlib.contextmanager
def stranger(port: int) -> Iterator[psutil.Process]:
    """A process that is none of ours and listens on the port."""
    process = subprocess.Popen(python(ANSWERING, port, OK))
    try:
        until(lambda: listens(port))
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "form", ["tcp://127.0.0.1:{}", "http://127.0.0.1:{}/", "tcp://0.0.0.0:{}", "tcp://localhost:{}"]
)
def test_an_address_in_use_is_refused_before_the_start(tmp_path: Path, free_port: int, form: str) -> None:
    """By whom it is used is in the error; nothing was started, and the other one lives on."""
    with stranger(free_port) as other:
        server = manager(sh('echo started >"$1"', tmp_path / "started"), form.format(free_port))
        with pytest.raises(AddressInUseError) as caught:
            server.start(timeout=LONG)
        assert str(other.pid) in str(caught.value)
        assert str(other.pid) in "".join(caught.value.details["holders"])
        assert server.process is None
        assert is_living(other)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("form", ["tcp://127.0.0.1:{}", "http://127.0.0.1:{}/"])
def test_a_stranger_who_answers_does_not_make_us_ready(free_port: int, form: str) -> None:
    """One who took the port after the look: the error names him, our tree is gone, and he lives on."""
    server = manager(sh("sleep 60 & wait"), form.format(free_port))
    server.start(wait=False)
    tree = tree_of(server.process.pid)
    with stranger(free_port) as other:
        with pytest.raises(AddressInUseError) as caught:
            server.ready_wait(LONG)
        assert f"127.0.0.1:{free_port} is answered by somebody else" in str(caught.value)
        assert str(other.pid) in str(caught.value)
        assert living(tree) == []
        assert is_living(other)
    assert server.process is None


def test_this_process_is_a_stranger_too(free_port: int) -> None:
    """A listener of the owner's own is not the server's."""
    server = manager(SLEEP, f"tcp://127.0.0.1:{free_port}")
    server.start(wait=False)
    with (
        socket.create_server(("127.0.0.1", free_port)),
        pytest.raises(AddressInUseError, match=f"{os.getpid()}"),
    ):
        server.ready_wait(LONG)


def test_a_daemon_of_the_tree_is_no_stranger(tmp_path: Path, free_port: int) -> None:
    """A listener that has left its parent and its session still belongs to us."""
    code = f"import os, sys\nif os.fork(): sys.exit()\nos.setsid()\nif os.fork(): sys.exit()\n{LISTENING}"
    argv = sh('"$@" & exec sleep 60', *python(code, free_port))
    is_ready(argv, f"tcp://127.0.0.1:{free_port}")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can start a stranger of another user")
def test_a_stranger_of_another_user_is_refused(free_port: int) -> None:
    """As far as we may know him, he is named."""
    process = subprocess.Popen(["/usr/bin/python3", "-S", "-c", LISTENING, str(free_port)], user=65534, group=65534)
    try:
        until(lambda: listens(free_port))
        with pytest.raises(AddressInUseError, match=str(process.pid)):
            manager(SLEEP, f"tcp://127.0.0.1:{free_port}").start()
    finally:
        process.kill()
        process.wait()
