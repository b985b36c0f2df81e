"""servermgr.django_app: a real Django in real servers is started, answers, and is gone with all its processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from python_servers import (
    ROOT,
    bare_python,
    complaint,
    finished,
    get,
    living,
    pids,
    program,
    refusal,
    stopped,
    survivors_of_killed_owner,
)

from servermgr.django_app import Manager
from servermgr.errors import AddressInUseError, LaunchError, ReadyTimeoutError, WorkerError, WorkerExitedError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("django")
pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")

EXAMPLE = ROOT / "examples" / "django_nginx" / "run.py"
SERVERS = ["gunicorn", "uvicorn", "runserver"]
every_server = pytest.mark.parametrize("server", SERVERS)

SETTINGS = """
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = []
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # refuses hosts that are not allowed
ROOT_URLCONF = "shop.urls"
SECRET_KEY = "x"
"""
URLS = """
import os
from django.http import HttpResponse
from django.urls import path

urlpatterns = [
    path("add/<int:a>/<int:b>", lambda request, a, b: HttpResponse(str(a + b))),
    path("pid", lambda request: HttpResponse(str(os.getpid()))),
    path("fail", lambda request: 1 / 0),
]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the Django project `shop`."""
    (tmp_path / "shop").mkdir()
    for name, text in (("__init__", ""), ("settings", SETTINGS), ("urls", URLS)):
        (tmp_path / "shop" / f"{name}.py").write_text(text)
    return tmp_path


# ---- starting and stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "workers", "least"),
    [("gunicorn", 3, 4), ("uvicorn", None, 1), ("uvicorn", 2, 3), ("runserver", None, 2)],
)
def test_starts_answers_stops_and_leaves_nothing_twice(
    server: str, workers: int | None, least: int, project: Path
) -> None:
    """Every worker, and the child that the reloader restarts, is in the tree and gone with it."""
    manager = Manager("127.0.0.1", 0, "shop.settings", server=server, workers=workers, cwd=project)
    for _ in range(2):
        with manager:
            manager.health()
            assert get(f"{manager.url}add/2/3") == "5"
            give_up = time.monotonic() + 10
            while len(pids(manager)) < least and time.monotonic() < give_up:  # one worker is enough to be ready
                time.sleep(0.02)
            assert len(pids(manager)) >= least
            assert int(get(f"{manager.url}pid")) in pids(manager)
            url = manager.url
            assert stopped(manager) == []
        with pytest.raises(urllib.error.URLError, match="refused"):
            get(url)


def test_the_project_is_never_imported_by_the_owner(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the owner could: the servers have interpreters of their own."""
    monkeypatch.syspath_prepend(project)
    with Manager("127.0.0.1", 0, "shop.settings", cwd=project) as manager:
        assert get(f"{manager.url}add/1/1") == "2"
        assert "DJANGO_SETTINGS_MODULE" not in os.environ
    assert not [name for name in sys.modules if name.partition(".")[0] == "shop"]


def test_the_module_is_found_by_pythonpath_too(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    options = {"cwd": tmp_path / "elsewhere", "pythonpath": [".."]}
    with Manager("127.0.0.1", 0, "shop.settings", **options) as manager:  # type: ignore[arg-type]
        assert get(f"{manager.url}add/1/2") == "3"


def test_importing_the_module_imports_neither_django_nor_a_server() -> None:
    code = "import sys, servermgr.django_app; print({'django', 'gunicorn', 'uvicorn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


def test_twenty_starts_and_stops_in_a_row(project: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, "shop.settings", server="gunicorn", cwd=project)
    for number in range(20):
        with manager:
            assert get(f"{manager.url}add/{number}/1") == str(number + 1)
            assert stopped(manager) == []


@every_server
def test_nothing_outlives_a_killed_owner(server: str, project: Path) -> None:
    code = (
        "from servermgr.django_app import Manager\n"
        "manager = Manager('127.0.0.1', 0, 'shop.settings', server=sys.argv[1], cwd=sys.argv[2])\n"
        "manager.start()\n"
        "tell(manager, port=manager.port)"
    )
    told, left = survivors_of_killed_owner(code, server, str(project))
    assert left == []
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", told["port"])) != 0


def test_workers_do_not_outlive_their_master(project: Path) -> None:
    """A master that is killed cannot take its workers down: then `wait` does."""
    manager = Manager("127.0.0.1", 0, "shop.settings", server="gunicorn", workers=2, cwd=project)
    manager.start()
    tree = pids(manager)
    manager.process.kill()
    assert manager.wait().status == -signal.SIGKILL
    assert living(tree) == []


def test_the_reloaders_child_is_held_after_a_reload(project: Path) -> None:
    """A change of the sources replaces the process that answers, and the new one is of the tree as well."""
    manager = Manager("127.0.0.1", 0, "shop.settings", server="runserver", cwd=project)
    with manager:
        before = get(f"{manager.url}pid")
        after = before
        give_up = time.monotonic() + 20
        while after == before and time.monotonic() < give_up:
            (project / "shop" / "urls.py").touch()  # again and again: it may not have begun to watch
            time.sleep(0.2)
            try:
                after = get(f"{manager.url}pid")
            except (urllib.error.URLError, ConnectionError):
                continue  # between the two
        assert after != before
        assert int(after) in pids(manager)
        assert stopped(manager) == []


def test_without_the_reloader_there_is_one_process(project: Path) -> None:
    options = {"server": "runserver", "reload": False, "cwd": project}
    with Manager("127.0.0.1", 0, "shop.settings", **options) as manager:  # type: ignore[arg-type]
        assert len(pids(manager)) == 1


# ---- where it listens, and what it is called ------------------------------------------------------------------


@every_server
def test_a_busy_port_names_its_holder_and_nothing_is_started(server: str, project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        manager = Manager("127.0.0.1", port, "shop.settings", server=server, cwd=project)
        text = str(refusal(manager, AddressInUseError, str(port)))
    assert str(os.getpid()) in text


def test_a_client_that_comes_early_waits_instead_of_being_refused(project: Path) -> None:
    """The socket listens before the server does its first step."""
    manager = Manager("127.0.0.1", 0, "shop.settings", server="gunicorn", cwd=project)
    manager.start(wait=False)
    try:
        assert get(f"{manager.url}add/3/4") == "7"
    finally:
        assert stopped(manager) == []


@every_server
def test_the_process_name_shows_in_ps(server: str, project: Path) -> None:
    options = {"process_name": "Shop of Mine 2010", "server": server, "cwd": project}
    with Manager("127.0.0.1", 0, "shop.settings", **options) as manager:  # type: ignore[arg-type]
        assert get(f"{manager.url}add/1/1") == "2"
        for info in manager.processes():
            process = psutil.Process(info.pid)
            assert "Shop of Mine 2010" in " ".join(process.cmdline())
            if os.path.exists("/proc/self/comm"):
                assert info.name == "Shop of Mine 20"


# ---- health ---------------------------------------------------------------------------------------------------


def test_health_raises_unless_it_can_be_connected_to(project: Path) -> None:
    manager = Manager("127.0.0.1", 0, "shop.settings", name="mine", cwd=project)
    with pytest.raises(WorkerError, match="mine: is not running"):
        manager.health()
    manager.start()
    manager.health()  # the project has no page at /: that it says so is enough
    manager.process.kill()
    manager.process.wait()
    complaint(manager, f"mine: {manager.url} does not respond")  # its worker answers until it has seen that end
    manager.stop()


def test_with_a_path_the_page_must_be_well(project: Path) -> None:
    options = {"cwd": project, "server": "gunicorn"}
    with Manager("127.0.0.1", 0, "shop.settings", health_path="/add/1/1", **options):  # type: ignore[arg-type]
        pass
    for more, words in (
        ({"health_path": "/fail"}, "/fail answers with status 500"),
        ({"health_path": "/pid", "health_host": "example.com"}, "/pid answers with status 400"),
    ):
        manager = Manager("127.0.0.1", 0, "shop.settings", **options, **more)  # type: ignore[arg-type]
        manager.start(wait=False)
        try:
            with pytest.raises(WorkerError, match=words):
                manager.health()  # the socket listens: it waits for the answer
            with pytest.raises(ReadyTimeoutError, match=words):
                manager.ready_wait(1.0)
        finally:
            manager.stop()


# ---- what can be wrong ----------------------------------------------------------------------------------------


@every_server
@pytest.mark.parametrize("settings", ["shop.nothing", "nothing", "shop.settings.deeper"])
def test_missing_settings_are_one_clear_line(server: str, settings: str, project: Path) -> None:
    """From the server's own process: the owner has not looked."""
    manager = Manager("127.0.0.1", 0, settings, server=server, cwd=project)
    error = refusal(manager, WorkerExitedError, f"there is no module '{settings}'")
    assert len(error.output) == 1
    assert str(project) in error.output[0]


@every_server
def test_settings_that_do_not_run_show_their_error(server: str, project: Path) -> None:
    (project / "shop" / "settings.py").write_text("import nothing_of_this_name\n")
    manager = Manager("127.0.0.1", 0, "shop.settings", server=server, cwd=project)
    refusal(manager, WorkerExitedError, "No module named 'nothing_of_this_name'")


def test_what_is_not_installed_is_named_with_its_remedy(project: Path, tmp_path: Path) -> None:
    """In the interpreter that would run it, whatever is installed here."""
    python = bare_python(tmp_path / "bare")
    options = {"python": python, "cwd": project}
    without = Manager("127.0.0.1", 0, "shop.settings", **options)  # type: ignore[arg-type]
    refusal(without, LaunchError, r"django is not installed .*pip install 'servermgr\[django\]'")
    (project / "django").mkdir()  # enough of it to be found
    (project / "django" / "__init__.py").touch()
    server = Manager("127.0.0.1", 0, "shop.settings", server="gunicorn", **options)  # type: ignore[arg-type]
    refusal(server, LaunchError, r"gunicorn is not installed .*pip install 'servermgr\[web\]'")


def test_djangos_own_server_is_taken_where_no_other_is_installed(project: Path, tmp_path: Path) -> None:
    import asgiref
    import django
    import sqlparse

    python = bare_python(tmp_path / "bare")
    packages = tmp_path / "packages"
    packages.mkdir()
    for package in (django, asgiref, sqlparse):
        folder = Path(package.__file__).parent
        (packages / folder.name).symlink_to(folder)
    if sys.version_info < (3, 11):  # asgiref needs it there
        import typing_extensions

        (packages / "typing_extensions.py").symlink_to(typing_extensions.__file__)
    options = {"python": python, "pythonpath": [packages], "cwd": project}
    with Manager("127.0.0.1", 0, "shop.settings", **options) as manager:  # type: ignore[arg-type]
        assert "runserver" in psutil.Process(manager.process.pid).cmdline()
        assert get(f"{manager.url}add/1/2") == "3"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"python": "no-such-python"}, "cannot run no-such-python"),
        ({"cwd": "no/such/directory"}, "no/such/directory"),
        ({"output": "no/such/directory/log"}, "cannot write the output"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(options: dict[str, str], match: str, project: Path) -> None:
    refusal(Manager("127.0.0.1", 0, "shop.settings", **({"cwd": project} | options)), LaunchError, match)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"server": "apache"}, "server must be one of gunicorn, uvicorn, runserver"),
        ({"settings": "shop/settings.py"}, "name of a module"),
        ({"port": 65536}, "port must be"),
        ({"server": "runserver", "workers": 2}, "neither workers"),
    ],
)
def test_contradictions_are_errors_at_once(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Manager(**({"host": "127.0.0.1", "port": 0, "settings": "shop.settings"} | options))  # type: ignore[arg-type]


def test_a_second_start_is_refused_and_harms_nothing(project: Path) -> None:
    with Manager("127.0.0.1", 0, "shop.settings", cwd=project) as manager:
        port = manager.port
        with pytest.raises(WorkerError, match="running already"):
            manager.start()
        assert manager.port == port
        manager.health()


# ---- the command line, and the example ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_program_runs_until_it_is_told_to_stop(number: int, project: Path, free_port: int) -> None:
    arguments = ["shop.settings", "--port", str(free_port), "--server", "gunicorn", "--", "--threads", "2"]
    with program("django_app", *arguments, cwd=project) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        assert said == f"shop.settings is served at http://127.0.0.1:{free_port}/ (Ctrl-C stops it)\n"
        worker = int(get(f"http://127.0.0.1:{free_port}/pid"))
        assert "--threads" in psutil.Process(worker).cmdline()
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "", "")
    assert living([worker]) == []


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["shop.settings", "--server", "apache"], 2, "server must be one of"),
        ([], 2, "settings"),
        (["shop.nothing"], 1, "there is no module 'shop.nothing'"),
    ],
)
def test_the_program_says_what_is_wrong(arguments: list[str], status: int, text: str, project: Path) -> None:
    found, out, err = finished("django_app", *arguments, "--port", "0", cwd=project)
    assert (found, out) == (status, "")
    assert text in err
    assert "Traceback" not in err


def test_help_teaches_by_an_example() -> None:
    status, out, _ = finished("django_app", "--help")
    assert status == 0
    for words in ("python -m servermgr.django_app mysite.settings", "--workers", "--pythonpath", "exit status:"):
        assert words in out


@contextmanager
def example(port: int, folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The example while it runs, with the processes of both servers."""
    argv = [sys.executable, str(EXAMPLE), "--port", str(port)]
    env = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as child:
        try:
            assert child.stdout is not None
            lines = list(itertools.takewhile(lambda line: not line.startswith("open"), child.stdout))
            tree = {}
            for line in lines:
                with contextlib.suppress(psutil.NoSuchProcess):  # a launcher that was just leaving when it was printed
                    process = psutil.Process(int(line.strip()[:-1].rpartition("[")[2]))
                    tree[process] = process.name()
            assert set(tree.values()) == {"nginx", "hello"}
            yield child, list(tree)
        finally:
            child.kill()


@pytest.mark.server("nginx")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "term", "kill"])
def test_the_example_serves_django_through_nginx_and_leaves_nothing(
    number: int, free_port: int, tmp_path: Path
) -> None:
    """The page is Django's, the style sheet nginx's; whatever ends it, no process of both is left."""
    with example(free_port, tmp_path) as (child, tree):
        url = f"http://127.0.0.1:{free_port}"
        assert "<h1>Hello, 127.0.0.1</h1>" in get(f"{url}/")
        assert get(f"{url}/add/20/3") == "23\n"
        assert "max-width" in get(f"{url}/static/style.css")
        child.send_signal(number)
        assert child.wait(30) == (0 if number != signal.SIGKILL else -number)
        _, left = psutil.wait_procs(tree, timeout=8)
        assert left == []
        assert number == signal.SIGKILL or not list(tmp_path.iterdir())
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", free_port)) != 0
