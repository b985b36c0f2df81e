"""servermgr.web_app: WSGI and ASGI applications in real gunicorns and uvicorns."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from python_servers import (
    bare_python,
    finished,
    get,
    living,
    pids,
    program,
    refusal,
    stopped,
    survivors_of_killed_owner,
)

from servermgr.errors import AddressInUseError, LaunchError, ReadyTimeoutError, WorkerError, WorkerExitedError
from servermgr.web_app import Manager

pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")

APPLICATIONS = '''
import os, sys

def wsgi(environ, start_response):
    """Echoes the body, or says who answers."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or f"wsgi {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or f"asgi {os.getpid()}".encode()})

class Wsgi:
    def __call__(self, environ, start_response, exc_info=None):
        return wsgi(environ, start_response)

class Asgi:
    async def __call__(self, scope, receive, send):
        await asgi(scope, receive, send)

wsgi_object, asgi_object = Wsgi(), Asgi()

def make_wsgi():
    return wsgi

def make_asgi():
    return asgi
'''


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the module `apps`."""
    (tmp_path / "apps.py").write_text(APPLICATIONS)
    return tmp_path


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


# ---- which server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wsgi", "wsgi"),
        ("asgi", "asgi"),
        ("wsgi_object", "wsgi"),
        ("asgi_object", "asgi"),
        ("make_wsgi()", "wsgi"),
        ("make_asgi()", "asgi"),
    ],
)
def test_the_application_itself_says_which_server_it_needs(name: str, kind: str, here: Path) -> None:
    """It is looked at in a process of its own, never in the owner."""
    with Manager("127.0.0.1", 0, f"apps:{name}", cwd=here) as manager:
        said, pid = get(manager.url).split()
        assert said == kind
        assert int(pid) in pids(manager)
        assert {"wsgi": "gunicorn", "asgi": "uvicorn"}[kind] in psutil.Process(manager.process.pid).cmdline()
        assert "apps" not in sys.modules
        assert stopped(manager) == []


@pytest.mark.parametrize(
    ("application", "options", "kind"),
    [
        ("apps:wsgi", {"interface": "wsgi"}, "wsgi"),
        ("apps:asgi", {"interface": "asgi"}, "asgi"),
        ("apps:wsgi", {"server": "gunicorn", "workers": 2}, "wsgi"),
        ("apps:asgi", {"server": "uvicorn", "workers": 2}, "asgi"),
    ],
)
def test_what_is_told_is_not_looked_up(application: str, options: dict[str, object], kind: str, here: Path) -> None:
    with Manager("127.0.0.1", 0, application, cwd=here, **options) as manager:  # type: ignore[arg-type]
        assert get(manager.url).startswith(kind)
        assert stopped(manager) == []


# ---- where it listens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "reached", "unreached"),
    [
        ("", ["127.0.0.1", "[::1]"], []),
        ("0.0.0.0", ["127.0.0.1"], ["::1"]),
        ("::", ["[::1]"], ["127.0.0.1"]),
        ("::1", ["[::1]"], ["127.0.0.1"]),
        ("localhost", ["localhost"], []),
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.1"]),
    ],
)
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_listens_where_it_was_told_and_nowhere_else(
    kind: str, host: str, reached: list[str], unreached: list[str], here: Path
) -> None:
    if not has_ipv6() and (":" in host or "[::1]" in reached):
        pytest.skip("no IPv6 on this machine")
    with Manager(host, 0, f"apps:{kind}", interface=kind, cwd=here) as manager:
        assert get(manager.url).startswith(kind)
        for address in reached:
            assert get(f"http://{address}:{manager.port}/").startswith(kind)
        for address in unreached:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, manager.port), 5)


def test_several_draw_different_ports_and_one_draws_anew(here: Path) -> None:
    managers = [Manager("127.0.0.1", 0, "apps:wsgi", interface="wsgi", cwd=here) for _ in range(3)]
    try:
        for manager in managers:
            manager.start(wait=False)
        assert len({manager.port for manager in managers}) == 3
        for manager in managers:
            manager.ready_wait()
            assert get(manager.url).startswith("wsgi")
    finally:
        for manager in managers:
            manager.stop()


def test_a_request_with_a_body_is_answered(here: Path) -> None:
    body = os.urandom(300_000)
    for kind in ("wsgi", "asgi"):
        with (
            Manager("127.0.0.1", 0, f"apps:{kind}", interface=kind, cwd=here) as manager,
            urllib.request.urlopen(manager.url, data=body, timeout=10) as answer,
        ):
            assert answer.read() == body


def test_a_port_that_is_bound_or_listened_on_is_refused(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        manager = Manager("127.0.0.1", listener.getsockname()[1], "apps:wsgi", interface="wsgi", cwd=here)
        assert str(os.getpid()) in str(refusal(manager, AddressInUseError, "in use by"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        manager = Manager("127.0.0.1", bound.getsockname()[1], "apps:wsgi", interface="wsgi", cwd=here)
        refusal(manager, AddressInUseError, "has it bound")
    refusal(Manager("192.0.2.1", 0, "apps:wsgi", interface="wsgi", cwd=here), LaunchError, "cannot listen on 192.0.2.1")


# ---- the end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_nothing_outlives_a_killed_owner(kind: str, here: Path) -> None:
    code = (
        "from servermgr.web_app import Manager\n"
        "manager = Manager('127.0.0.1', 0, f'apps:{sys.argv[1]}', workers=2, cwd=sys.argv[2])\n"
        "manager.start()\n"
        "tell(manager, port=manager.port)"
    )
    told, left = survivors_of_killed_owner(code, kind, str(here))
    assert left == []
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", told["port"])) != 0


def test_twenty_starts_and_stops_in_a_row(here: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, "apps:asgi", interface="asgi", cwd=here)
    for _ in range(20):
        with manager:
            assert get(manager.url).startswith("asgi")
            assert stopped(manager) == []


# ---- what can be wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", ["wsgi", "asgi", None])
def test_an_application_that_is_not_there_is_one_clear_error(interface: str | None, here: Path) -> None:
    options = {"interface": interface, "cwd": here}
    missing = Manager("127.0.0.1", 0, "nothing.app:application", **options)  # type: ignore[arg-type]
    error = refusal(missing, WorkerExitedError, "there is no module 'nothing.app'")
    assert len(error.output) == 1
    nameless = Manager("127.0.0.1", 0, "apps:nothing", **options)  # type: ignore[arg-type]
    refusal(nameless, WorkerExitedError, "nothing")


def test_an_application_whose_import_hangs_is_given_up(here: Path) -> None:
    (here / "slow.py").write_text("import time\ntime.sleep(60)\n")
    for interface in ("wsgi", None):
        manager = Manager("127.0.0.1", 0, "slow:application", interface=interface, cwd=here, grace_period=0.2)
        refusal(manager, ReadyTimeoutError, "WebApp: ", timeout=0.5)


def test_what_is_not_installed_is_named_with_its_remedy(here: Path, tmp_path: Path) -> None:
    python = bare_python(tmp_path / "bare")
    for options, words in (
        ({"server": "gunicorn"}, "gunicorn is"),
        ({"interface": "asgi"}, "uvicorn is"),
        ({}, "gunicorn and uvicorn is"),
    ):
        manager = Manager("127.0.0.1", 0, "apps:wsgi", python=python, cwd=here, **options)  # type: ignore[arg-type]
        refusal(manager, LaunchError, rf"{words} not installed for .*pip install 'servermgr\[web\]'")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"server": "runserver"}, "server must be"),
        ({"interface": "cgi"}, "interface must be"),
        ({"application": "apps.wsgi"}, "application must be"),
        ({"port": -1}, "port must be"),
    ],
)
def test_contradictions_are_errors_at_once(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Manager(**({"host": "127.0.0.1", "port": 0, "application": "apps:wsgi"} | options))  # type: ignore[arg-type]


def test_what_means_something_to_the_owner_alone_is_not_inherited(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that systemd or another gunicorn has started has variables which the server would take for its own."""
    for name, value in (("LISTEN_FDS", "7"), ("GUNICORN_FD", "9"), ("GUNICORN_PID", "1"), ("NOTIFY_SOCKET", "/x")):
        monkeypatch.setenv(name, value)
    with Manager("127.0.0.1", 0, "apps:wsgi", interface="wsgi", cwd=here) as manager:
        assert get(manager.url).startswith("wsgi")
        environment = psutil.Process(manager.process.pid).environ()
        assert environment["LISTEN_FDS"] == "1"
        assert not {"GUNICORN_FD", "GUNICORN_PID", "NOTIFY_SOCKET"} & set(environment)


def test_health_needs_a_running_server(here: Path) -> None:
    manager = Manager("127.0.0.1", 0, "apps:wsgi", cwd=here)
    with pytest.raises(WorkerError, match="WebApp: is not running"):
        manager.health()


# ---- the command line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_program_runs_until_it_is_told_to_stop(number: int, here: Path) -> None:
    with program("web_app", "apps:asgi", "--port", "0", "--process-name", "mine", cwd=here) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        assert said.startswith("apps:asgi is served at http://127.0.0.1:")
        worker = int(get(said.split()[4]).split()[1])
        assert "mine" in psutil.Process(worker).cmdline()
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "", "")
    assert living([worker]) == []


def test_the_program_fails_when_the_server_ends_by_itself(here: Path) -> None:
    with program("web_app", "apps:asgi", "--port", "0", "--interface", "asgi", cwd=here) as child:
        assert child.stdout is not None
        worker = int(get(child.stdout.readline().split()[4]).split()[1])
        os.kill(worker, signal.SIGKILL)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert err.startswith("error: WebApp: ended by itself (killed by SIGKILL)")


def test_the_program_says_what_is_wrong(here: Path) -> None:
    for arguments, status, text in (
        (["apps"], 2, "package.module:name"),
        (["apps:wsgi", "--interface", "cgi"], 2, "--interface"),
        (["nothing:wsgi", "--port", "0"], 1, "there is no module 'nothing'"),
    ):
        found, out, err = finished("web_app", *arguments, cwd=here)
        assert (found, out) == (status, "")
        assert text in err
        assert "Traceback" not in err


def test_help_teaches_by_an_example() -> None:
    status, out, _ = finished("web_app", "--help")
    assert status == 0
    for words in ("python -m servermgr.web_app mysite.app:application", "--interface", "--workers", "exit status:"):
        assert words in out
