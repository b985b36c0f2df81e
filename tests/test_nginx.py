"""servermgr.nginx: a real nginx is started, answers, is seen as a tree, and is gone."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from server_kit import program

from servermgr import nginx
from servermgr.errors import AddressInUseError, LaunchError, WorkerError
from servermgr.nginx import ConfigurationError, Manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

pytestmark = [pytest.mark.server("nginx")]
ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
as_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can change users")
both_forms = pytest.mark.parametrize("foreground", [False, True], ids=["daemon", "foreground"])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with one file."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/page.html").write_text("the page")
    return tmp_path / "site"


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own ones are closed."""
    with tempfile.TemporaryDirectory(prefix="servermgr-test-") as name:
        os.chmod(name, 0o755)  # noqa: S103  # that is the case
        yield Path(name)


class Answer:
    """One request, redirects not followed."""

    def __init__(
        self, port: int, path: str, *, method: str = "GET", body: bytes = b"", host: str = "127.0.0.1"
    ) -> None:
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=10)) as connection:
            connection.request(method, path, body or None)
            with connection.getresponse() as response:
                self.status = response.status
                self.headers = response.headers
                self.text = response.read().decode()


def tree_of(pid: int) -> list[psutil.Process]:
    """Master and worker. The launcher of a daemon may need a moment more to end, and is left out."""
    master = psutil.Process(pid)
    return [master, *master.children()]


def refusal(manager: Manager, kind: type[WorkerError], match: str = "") -> WorkerError:
    """The error with which `start` fails; a server that is started after all does not outlive the test."""
    try:
        with pytest.raises(kind, match=match or None) as caught:
            manager.start()
        assert manager.process is None
    finally:
        manager.stop()
    return caught.value


# ---- starting and stopping ------------------------------------------------------------------------------------


@both_forms
def test_starts_answers_stops_and_leaves_nothing_twice(
    foreground: bool, site: Path, tmp_path: Path, free_port: int
) -> None:
    """The same port and directory serve again, for the same manager and for a new one."""
    for _ in range(2):
        manager = Manager("127.0.0.1", free_port, tmp_path / "base", foreground=foreground)
        manager.add_filesystem_mapping("/site/", site)
        for _ in range(2):
            manager.start()
            manager.health()
            assert Answer(free_port, "/site/page.html").text == "the page"
            processes = tree_of(manager.process.pid)
            assert len(processes) == 2
            assert {process.pid for process in processes} <= {info.pid for info in manager.processes()}
            assert "daemon off" not in manager.configuration().decode() or foreground
            outcome = manager.stop()
            assert not outcome.survivors
            assert not outcome.killed
            assert not any(process.is_running() for process in processes)
            assert manager.process is None
            assert not (tmp_path / "base/run/nginx.pid").exists()


@both_forms
def test_wait_returns_when_nginx_ends_by_itself(foreground: bool, tmp_path: Path, free_port: int) -> None:
    """A graceful end, as asked of nginx itself, is waited for."""
    with Manager("127.0.0.1", free_port, tmp_path / "base", foreground=foreground) as manager:
        processes = tree_of(manager.process.pid)
        manager.process.send_signal(signal.SIGQUIT)
        assert not manager.wait().survivors
        assert not any(process.is_running() for process in processes)
        with pytest.raises(WorkerError, match="not running"):
            manager.health()


def test_health_raises_unless_this_nginx_answers(tmp_path: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, tmp_path / "base", name="mine")
    with pytest.raises(WorkerError, match="mine: is not running"):
        manager.health()
    manager.start()
    manager.health()
    os.kill(manager.process.pid, signal.SIGSTOP)  # the master; its worker answers still
    manager.health()
    os.kill(manager.process.pid, signal.SIGCONT)
    manager.stop()
    with pytest.raises(WorkerError, match="not running"):
        manager.health()


def test_health_is_not_fooled_by_another_server_on_the_port(tmp_path: Path, free_port: int) -> None:
    """Another nginx, with the same public status page, is not this one; and nobody is not, either."""
    impostor = Manager("127.0.0.1", free_port, tmp_path / "other")
    manager = Manager("127.0.0.1", free_port, tmp_path / "base")
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    manager.process = worker
    try:
        with pytest.raises(WorkerError, match="does not respond"):
            manager.health()
        with impostor, pytest.raises(WorkerError, match="not this nginx"):
            manager.health()
    finally:
        manager.stop()
        worker.stdin.close()  # type: ignore[union-attr]
        worker.wait(10)


def test_a_second_start_is_refused_and_harms_nothing(tmp_path: Path, free_port: int) -> None:
    with Manager("127.0.0.1", free_port, tmp_path / "base") as manager:
        with pytest.raises(WorkerError, match="running already"):
            manager.start()
        manager.health()


def test_the_environment_variable_nginx_is_not_taken_for_sockets(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People keep the program's path in $NGINX; nginx itself expects inherited sockets there."""
    monkeypatch.setenv("NGINX", "/usr/sbin/nginx")
    with Manager("127.0.0.1", free_port, tmp_path / "base"):
        assert "inherited" not in (tmp_path / "base/log/error.log").read_text()


# ---- where it listens -----------------------------------------------------------------------------------------


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached", "unreached"),
    [
        ("", ["127.0.0.1", "::1"], []),
        ("0.0.0.0", ["127.0.0.1"], ["::1"]),
        ("::", ["::1"], ["127.0.0.1"]),
        ("::1", ["::1"], ["127.0.0.1"]),
        ("localhost", ["localhost"], []),
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.1"]),
    ],
)
def test_listens_where_it_was_told_and_nowhere_else(
    host: str, reached: list[str], unreached: list[str], tmp_path: Path, free_port: int
) -> None:
    if not has_ipv6() and (":" in host or "::1" in reached):
        pytest.skip("no IPv6 on this machine")
    with Manager(host, free_port, tmp_path / "base") as manager:
        manager.health()
        for address in reached:
            assert Answer(free_port, "/", host=address).status == 404
        for address in unreached:
            with pytest.raises(ConnectionRefusedError):
                Answer(free_port, "/", host=address)


def test_a_busy_port_names_its_holder(tmp_path: Path, free_port: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port))
        listener.listen()
        manager = Manager("127.0.0.1", free_port, tmp_path / "base")
        text = str(refusal(manager, AddressInUseError))
    assert str(free_port) in text
    assert str(os.getpid()) in text


# ---- what it serves -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class FastCgiResponder(socketserver.StreamRequestHandler):
    """Answers one request with its parameters, as JSON."""

    def handle(self) -> None:
        params = b""
        while True:
            _, kind, request, length, padding = struct.unpack("!BBHHBx", self.rfile.read(8))
            content = self.rfile.read(length + padding)[:length]
            if kind == 4:
                params += content
            if kind == 5 and not length:
                break
        body = b"Content-Type: application/json\r\n\r\n" + json.dumps(dict(self.pairs(params))).encode()
        for kind, content in ((6, body), (6, b""), (3, bytes(8))):
            self.wfile.write(struct.pack("!BBHHBx", 1, kind, request, len(content), 0) + content)

    @staticmethod
    def pairs(data: bytes) -> Iterator[tuple[str, str]]:
        while data:
            lengths = []
            for _ in range(2):
                wide = data[0] >> 7
                lengths.append(struct.unpack("!I", data[:4])[0] & 0x7FFFFFFF if wide else data[0])
                data = data[4 if wide else 1 :]
            key, value = data[: lengths[0]], data[lengths[0] : sum(lengths)]
            yield key.decode(), value.decode()
            data = data[sum(lengths) :]


class Web(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; `/go…` redirects to itself."""

    def do_GET(self) -> None:
        self.answer(f"{self.path} for {self.headers['Host']}")

    def do_POST(self) -> None:
        self.answer(f"{len(self.rfile.read(int(self.headers['Content-Length'])))} bytes")

    def answer(self, text: str) -> None:
        going = "/go" in self.path
        self.send_response(302 if going else 200)
        if going:
            self.send_header("Location", f"http://{self.headers['Host']}/app/there")
        self.end_headers()
        self.wfile.write(text.encode())

    def address_string(self) -> str:
        return "-"  # a Unix socket has none

    def log_message(self, *args: object) -> None:
        pass


class UnixWeb(socketserver.UnixStreamServer):
    """The same on a socket file."""

    server_name, server_port = "localhost", 80


def test_files_of_a_directory_and_their_listing(site: Path, tmp_path: Path, free_port: int) -> None:
    (site.parent / "site-secret").mkdir()
    (site.parent / "site-secret/page.html").write_text("secret")
    manager = Manager("127.0.0.1", free_port, tmp_path / "base")
    manager.add_filesystem_mapping("/files", site)
    with manager:
        page = Answer(free_port, "/files/page.html")
        assert (page.status, page.text, page.headers["Content-Type"]) == (200, "the page", "text/html")
        assert 'href="page.html"' in Answer(free_port, "/files/").text
        redirect = Answer(free_port, "/files?a=b")
        assert (redirect.status, redirect.headers["Location"]) == (301, "/files/?a=b")
        # The sibling directory begins with the same letters.
        for path in ("/files-secret/page.html", "/files../site-secret/page.html", "/files/../site-secret/page.html"):
            assert Answer(free_port, path).status in {400, 404}


def test_http_root_serves_what_no_mapping_matches(site: Path, tmp_path: Path, free_port: int) -> None:
    with Manager("127.0.0.1", free_port, tmp_path / "base", str(site)):
        assert Answer(free_port, "/page.html").text == "the page"
        assert Answer(free_port, "/").status == 403  # no listing
    with Manager("127.0.0.1", free_port, tmp_path / "base"):
        assert Answer(free_port, "/page.html").status == 404


def test_redirects_by_regular_expression(site: Path, tmp_path: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, tmp_path / "base", site)
    manager.add_redirect_mapping("/old", r"^/old/(\d{2,3})/([^;{}\"']+)$", "/new/$2?id=$1")
    manager.add_redirect_mapping("/away/", "^/away/(.*)$", "http://example.invalid/a b%24/$1")
    manager.add_redirect_mapping("/page", "^/pages$", "/page.html")
    with manager:
        redirect = Answer(free_port, "/old/17/x")
        assert (redirect.status, redirect.headers["Location"]) == (301, "/new/x?id=17")
        assert Answer(free_port, "/old/1/x").status == 404
        assert Answer(free_port, "/away/z").headers["Location"] == "http://example.invalid/a%20b%24/z"
        header_split = Answer(free_port, "/away/z%0d%0aSet-Cookie:%20x")
        assert header_split.headers["Set-Cookie"] is None
        # What does not match is looked for in http_root.
        assert Answer(free_port, "/page.html").text == "the page"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_forwards_to_a_fastcgi_server(kind: str, site: Path, tmp_path: Path, free_port: int) -> None:
    if kind == "tcp":
        backend: socketserver.BaseServer = socketserver.TCPServer(("127.0.0.1", 0), FastCgiResponder)
        destination = f"127.0.0.1:{backend.server_address[1]}"
    else:
        path = str(tmp_path / "$uri; {s}")
        backend, destination = socketserver.UnixStreamServer(path, FastCgiResponder), f"unix:{path}"
    manager = Manager("127.0.0.1", free_port, tmp_path / "base", site)
    manager.add_fastcgi_mapping("/app (1)", destination)
    with serving(backend), manager:
        params = json.loads(Answer(free_port, "/app%20(1)/do/it?a=b").text)
        expected = {
            "SCRIPT_NAME": "/app (1)",
            "PATH_INFO": "/do/it",
            "QUERY_STRING": "a=b",
            "REQUEST_METHOD": "GET",
            "SERVER_PORT": str(free_port),
            "REMOTE_ADDR": "127.0.0.1",
            "DOCUMENT_ROOT": str(site),
            "SCRIPT_FILENAME": f"{site}/app (1)/do/it",
        }
        assert {key: params[key] for key in expected} == expected
        params = json.loads(Answer(free_port, "/app%20(1)").text)
        assert (params["SCRIPT_NAME"], params["PATH_INFO"]) == ("/app (1)", "")
        params = json.loads(Answer(free_port, "/app%20(1)x").text)
        assert (params["SCRIPT_NAME"], params["PATH_INFO"]) == ("/app (1)x", "")


def test_forwards_to_a_web_server(tmp_path: Path, free_port: int) -> None:
    backend = http.server.HTTPServer(("127.0.0.1", 0), Web)
    address = f"127.0.0.1:{backend.server_address[1]}"
    manager = Manager("127.0.0.1", free_port, tmp_path / "base")
    manager.add_http_mapping("/", f"http://{address}")
    manager.add_http_mapping("/short/", f"http://{address}/app/$uri/")
    manager.add_http_mapping("/sub/", f"http://{address}/app/")
    with serving(backend), manager:
        assert Answer(free_port, "/a%20b?c").text == f"/a%20b?c for {address}"
        assert Answer(free_port, "/short/x").text == f"/app/%24uri/x for {address}"
        # The server's own address in a redirect becomes ours.
        assert Answer(free_port, "/go").headers["Location"] == "/app/there"
        assert Answer(free_port, "/sub/go").headers["Location"] == "/sub/there"


def test_forwards_to_a_web_server_on_a_socket_file(tmp_path: Path, free_port: int) -> None:
    path = str(tmp_path / "a:$uri b")
    manager = Manager("127.0.0.1", free_port, tmp_path / "base")
    manager.add_http_mapping("/web", f"unix:{path}")
    with serving(UnixWeb(path, Web)), manager:
        assert Answer(free_port, "/web/x").text == "/web/x for localhost"


def test_the_longest_prefix_wins_and_the_status_page_is_there(site: Path, tmp_path: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, tmp_path / "base")
    manager.add_redirect_mapping("/", "^", "/elsewhere")
    manager.add_filesystem_mapping("/a/b", site)
    with manager:
        assert Answer(free_port, "/a/x").status == 301
        assert Answer(free_port, "/a/b/page.html").text == "the page"
        assert "Active connections" in Answer(free_port, "/nginx_status").text


# ---- what goes wrong ------------------------------------------------------------------------------------------


def test_nginx_says_itself_what_is_wrong(tmp_path: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, tmp_path / "base", name="mine")
    manager.add_redirect_mapping("/x", "(unclosed", "/y")
    text = str(refusal(manager, ConfigurationError, "unclosed"))
    assert "[emerg]" in text
    assert str(tmp_path / "base/run/nginx.conf") in text
    assert text.startswith("mine: ")


def test_a_missing_program_is_one_clear_error(tmp_path: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, tmp_path / "base", binary=tmp_path / "no-nginx")
    assert "no-nginx" in str(refusal(manager, LaunchError, "install nginx"))
    assert not (tmp_path / "base").exists()


def test_nginx_is_found_where_an_ordinary_path_does_not_look(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, require_server: Callable[[str], str]
) -> None:
    if os.path.dirname(require_server("nginx")) not in nginx.FOLDERS:
        pytest.skip("nginx is installed somewhere else")
    monkeypatch.setenv("PATH", str(tmp_path))
    with Manager("127.0.0.1", free_port, tmp_path / "base") as manager:
        manager.health()


def test_base_dir_is_made_and_its_parents_are_not(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "file").touch()
    for impossible in ("missing/base", "file", "file/base"):
        manager = Manager("127.0.0.1", free_port, tmp_path / impossible)
        assert str(tmp_path / impossible) in str(refusal(manager, LaunchError, "base_dir"))
    assert not (tmp_path / "missing").exists()


def test_base_dir_may_have_any_name(site: Path, tmp_path: Path, free_port: int) -> None:
    base = tmp_path / "a\"'\\ $uri; {#}\n\u00fc"
    manager = Manager("127.0.0.1", free_port, base)
    manager.add_filesystem_mapping("/", base / "www")
    with manager:
        shutil.copytree(site, base / "www")
        assert Answer(free_port, "/page.html").text == "the page"
        assert (base / "log/access.log").exists()


@pytest.mark.parametrize("name", ["log", "run", "tmp"])
def test_planted_links_are_refused(name: str, tmp_path: Path, free_port: int) -> None:
    """nginx would write through a link, and started by root give its target away."""
    (tmp_path / "base").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "base" / name).symlink_to(tmp_path / "target")
    refusal(Manager("127.0.0.1", free_port, tmp_path / "base"), LaunchError, "is a link")
    assert not list((tmp_path / "target").iterdir())


def test_directories_that_others_can_write_to_are_refused(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "base/run").mkdir(parents=True)
    (tmp_path / "base/run").chmod(0o777)
    refusal(Manager("127.0.0.1", free_port, tmp_path / "base"), LaunchError, "others")


@as_root
def test_directories_of_another_user_are_refused(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "base/tmp").mkdir(parents=True)
    os.chown(tmp_path / "base/tmp", NOBODY, NOBODY)
    refusal(Manager("127.0.0.1", free_port, tmp_path / "base"), LaunchError, f"belongs to user {NOBODY}")


def test_the_configuration_is_private_and_never_written_through_a_link(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "base/run").mkdir(parents=True)
    (tmp_path / "base/run").chmod(0o700)
    (tmp_path / "innocent").write_text("mine")
    (tmp_path / "base/run/nginx.conf").symlink_to(tmp_path / "innocent")
    with Manager("127.0.0.1", free_port, tmp_path / "base") as manager:
        written = tmp_path / "base/run/nginx.conf"
        assert stat.S_IMODE(written.lstat().st_mode) == 0o600
        assert written.read_bytes() == manager.configuration()
        assert {path.name for path in written.parent.iterdir()} == {"nginx.conf", "nginx.pid"}
    assert (tmp_path / "innocent").read_text() == "mine"


# ---- users ----------------------------------------------------------------------------------------------------


def upload(port: int) -> None:
    """More than nginx keeps in memory: its workers must be able to write below base_dir."""
    assert Answer(port, "/web/", method="POST", body=bytes(300_000)).text == "300000 bytes"


@contextlib.contextmanager
def proxying(manager: Manager) -> Iterator[list[int]]:
    """The manager with an upload mapping, running; the user ids of its processes."""
    backend = http.server.HTTPServer(("127.0.0.1", 0), Web)
    manager.add_http_mapping("/web/", f"127.0.0.1:{backend.server_address[1]}")
    with serving(backend), manager:
        yield [process.uids().effective for process in tree_of(manager.process.pid)]


@as_root
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_workers_of_root_are_unprivileged_where_base_dir_is_open(mask: int, open_dir: Path, free_port: int) -> None:
    before = os.umask(mask)
    try:
        with proxying(Manager("127.0.0.1", free_port, open_dir / "base")) as (master, worker):
            assert (master, worker != 0) == (0, True)
            upload(free_port)
    finally:
        os.umask(before)


@as_root
def test_workers_of_root_are_root_where_base_dir_is_closed(open_dir: Path, site: Path, free_port: int) -> None:
    """What only root may enter is served by root; mode 0700 works."""
    (open_dir / "base").mkdir(mode=0o700)
    shutil.copytree(site, open_dir / "base/www")
    manager = Manager("127.0.0.1", free_port, open_dir / "base")
    manager.add_filesystem_mapping("/", open_dir / "base/www")
    with proxying(manager) as users:
        assert users == [0, 0]
        upload(free_port)
        assert Answer(free_port, "/page.html").text == "the page"


@as_root
def test_workers_of_root_are_the_owner_of_base_dir(open_dir: Path, site: Path, free_port: int) -> None:
    (open_dir / "base").mkdir(mode=0o700)
    os.chown(open_dir / "base", NOBODY, NOBODY)
    with proxying(Manager("127.0.0.1", free_port, open_dir / "base")) as users:
        assert users == [0, NOBODY]
        upload(free_port)


@as_root
def test_the_user_of_the_workers_can_be_told(open_dir: Path, free_port: int) -> None:
    with Manager("127.0.0.1", free_port, open_dir / "base", user="root") as manager:
        assert [process.uids().effective for process in tree_of(manager.process.pid)] == [0, 0]
    refusal(Manager("127.0.0.1", free_port, open_dir / "base", user="no; such"), ConfigurationError, "no user")
    (open_dir / "closed").mkdir(mode=0o700)
    refusal(
        Manager("127.0.0.1", free_port, open_dir / "closed/base", user="nobody"), ConfigurationError, "may not enter"
    )


#: The packages of this interpreter, for another one of the same version.
PACKAGES = os.pathsep.join((str(ROOT), str(Path(psutil.__file__).parent.parent)))
AS_NOBODY: dict[str, Any] = {
    "user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/",
    "env": os.environ | {"PYTHONPATH": PACKAGES, "HOME": "/"},
}  # fmt: skip


def ordinary_python() -> list[str]:
    """A Python that an ordinary user may run with this package: not one installed in root's home."""
    for python in (sys.executable, "/usr/bin/python3"):
        argv = [python, "-B", "-c"]
        with contextlib.suppress(OSError):
            done = subprocess.run(
                [*argv, "import psutil, servermgr.nginx"], capture_output=True, timeout=30, check=False, **AS_NOBODY
            )
            if done.returncode == 0:
                return argv
    pytest.skip("an ordinary user cannot run this Python, or cannot read this package")


ORDINARY = """
import sys, psutil
from servermgr.nginx import Manager, ConfigurationError, LaunchError
base, port, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for foreground in (False, True):
    manager = Manager("127.0.0.1", port, base, foreground=foreground)
    manager.add_http_mapping("/web/", backend)
    with manager:
        master = psutil.Process(manager.process.pid)
        print([process.uids().effective for process in [master, *master.children()]], flush=True)
        input()
    print(manager.process, flush=True)
for arguments, kind in (((base, "", "x"), ConfigurationError), (("/",), LaunchError)):
    options = {"user": "root"} if len(arguments) > 1 else {}
    try:
        Manager("127.0.0.1", port, *arguments, **options).start()
    except kind as error:
        print(str(error).splitlines()[0], flush=True)
"""


@as_root
def test_an_ordinary_user_starts_it_in_both_forms(open_dir: Path, free_port: int) -> None:
    """No directory of the system is needed; base_dir that cannot be written to is one clear error."""
    (open_dir / "base").mkdir(mode=0o700)
    os.chown(open_dir / "base", NOBODY, NOBODY)
    python = ordinary_python()
    backend = http.server.HTTPServer(("127.0.0.1", 0), Web)
    child = subprocess.Popen(
        [*python, ORDINARY, str(open_dir / "base"), str(free_port), f"127.0.0.1:{backend.server_address[1]}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **AS_NOBODY,
    )  # fmt: skip
    with child, serving(backend):
        assert child.stdout is not None
        assert child.stdin is not None
        for _ in range(2):
            assert child.stdout.readline() == f"[{NOBODY}, {NOBODY}]\n"
            upload(free_port)
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "None\n"
        assert "only root can" in child.stdout.readline()
        assert "base_dir" in child.stdout.readline()
    assert child.returncode == 0


# ---- the command line -----------------------------------------------------------------------------------------


def finished(*arguments: str) -> tuple[int, str, str]:
    with program("nginx", *arguments) as child:
        out, err = child.communicate(timeout=30)
    return child.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_program_runs_until_it_is_told_to_stop(number: int, open_dir: Path, free_port: int) -> None:
    """Without --datadir it keeps its files in a temporary directory, and leaves neither that nor a process."""
    (open_dir / "site").mkdir()
    (open_dir / "site/page.html").write_text("the page")
    (open_dir / "tmp").mkdir()
    arguments = ("--port", str(free_port), "--fsmap", f"/files={open_dir / 'site'}")
    with program("nginx", *arguments, TMPDIR=str(open_dir / "tmp")) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"nginx serves http://127.0.0.1:{free_port}/ (Ctrl-C stops it)\n"
        assert Answer(free_port, "/files/page.html").text == "the page"
        (pidfile,) = (open_dir / "tmp").glob("servermgr-nginx-*/run/nginx.pid")
        tree = tree_of(int(pidfile.read_text()))
        assert [process.name() for process in tree] == ["nginx", "nginx"]
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "", "")
    assert not any(process.is_running() for process in tree)
    assert not list((open_dir / "tmp").iterdir())


def test_the_program_takes_every_mapping_more_than_once(site: Path, tmp_path: Path, free_port: int) -> None:
    backend = http.server.HTTPServer(("127.0.0.1", 0), Web)
    responder = socketserver.TCPServer(("127.0.0.1", 0), FastCgiResponder)
    web, app = (f"127.0.0.1:{server.server_address[1]}" for server in (backend, responder))
    arguments = ["--port", str(free_port), "--datadir", str(tmp_path / "data"), "--root", str(site)]
    for one in "12":
        arguments += ["--fsmap", f"/f{one}={site}", "--http", f"/w{one}=http://{web}", "--fcgi", f"/a{one}={app}"]
        arguments += ["--redirect", f"/r{one}", "/(r.)$", "/$1/new"]
    with serving(backend), serving(responder), program("nginx", *arguments) as child:
        assert child.stdout is not None
        assert "http://" in child.stdout.readline()
        for one in "12":
            assert Answer(free_port, f"/f{one}/page.html").text == "the page"
            assert Answer(free_port, f"/w{one}").text.startswith(f"/w{one} for")
            assert json.loads(Answer(free_port, f"/a{one}").text)["SCRIPT_NAME"] == f"/a{one}"
            assert Answer(free_port, f"/r{one}").headers["Location"] == f"/r{one}/new"
        assert Answer(free_port, "/page.html").text == "the page"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    assert (tmp_path / "data/log/access.log").exists()


def test_the_program_fails_when_nginx_ends_by_itself(tmp_path: Path, free_port: int) -> None:
    with program("nginx", "--port", str(free_port), "--datadir", str(tmp_path / "data")) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(int((tmp_path / "data/run/nginx.pid").read_text()), signal.SIGTERM)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "ended by itself" in err


def test_the_program_prints_its_configuration_and_starts_nothing(tmp_path: Path) -> None:
    status, out, err = finished("--datadir", str(tmp_path / "data"), "--fsmap", "/x=/a $b", "--config")
    assert (status, err) == (0, "")
    assert 'location ^~ "/x/"' in out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--fsmap", "x"], 2, "PREFIX=TARGET"),
        (["--fsmap", "x=/y"], 2, "does not start with '/'"),
        (["--fsmap", "/x=/y", "--http", "/x=127.0.0.1:1"], 2, "already"),
        (["--port", "65536"], 2, "no port"),
        (["--binary", "no-such-nginx"], 1, "install nginx"),
        (["--redirect", "/x", "(", "/y"], 1, "[emerg]"),
    ],
)
def test_the_program_says_what_is_wrong(arguments: list[str], status: int, text: str, free_port: int) -> None:
    found, out, err = finished("--port", str(free_port), *arguments)
    assert (found, out) == (status, "")
    assert text in err
    assert "Traceback" not in err


def test_help_teaches_by_an_example() -> None:
    status, out, _ = finished("--help")
    assert status == 0
    assert "python -m servermgr.nginx --port 8080 --fsmap" in out
    for option in ("--host", "--port", "--datadir", "--fsmap", "--redirect", "--fcgi", "--http", "--config"):
        assert option in out
