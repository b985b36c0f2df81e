"""servermgr.redis: a real Redis is started, does real work, is seen as a tree, and is gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from server_kit import left, program, refusal, tree_of

from servermgr import _redis_program, address_in_use
from servermgr.errors import AddressInUseError, LaunchError, WorkerError, WorkerExitedError
from servermgr.redis import Manager, ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.server("redis-server")]
ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
IS_ROOT = getattr(os, "geteuid", lambda: 1)() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can change users")
both_forms = pytest.mark.parametrize("foreground", [False, True], ids=["daemon", "foreground"])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own ones are closed."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103  # that is its purpose
        yield Path(name)


def client(url: str, *words: str, **environment: str) -> str:
    """What the client that comes with the server prints."""
    program = shutil.which("redis-cli")
    if program is None:
        pytest.skip("redis-cli is not installed (on Debian it comes with redis-server)")
    parts = urllib.parse.urlsplit(url)  # by itself it does not understand an IPv6 address in a URL
    where = ["-s", urllib.parse.unquote(parts.path)]
    if parts.scheme == "redis":
        where = ["-h", parts.hostname or "", "-p", str(parts.port)]
    if parts.password:
        environment["REDISCLI_AUTH"] = urllib.parse.unquote(parts.password)
    done = subprocess.run(
        [program, *where, *words], capture_output=True, text=True, timeout=10, check=False, env=os.environ | environment
    )
    return (done.stdout + done.stderr).strip()


# ---- starting, working, stopping ------------------------------------------------------------------------------


@both_forms
def test_started_used_stopped_and_nothing_is_left_but_the_data(foreground: bool, folder: Path, free_port: int) -> None:
    manager = Manager("127.0.0.1", free_port, folder / "data", foreground=foreground)
    manager.start()
    manager.health()
    assert manager.url == f"redis://127.0.0.1:{free_port}/0"
    assert client(manager.url, "SET", "key", "a value") == "OK"
    assert client(manager.url, "GET", "key") == "a value"
    assert manager.command("GET", "key") == "a value"
    assert int(client(manager.url, "INFO", "server").partition("process_id:")[2].split()[0]) == manager.process.pid
    tree = tree_of(manager)
    outcome = manager.stop()
    assert manager.process is None
    assert left(tree) == []
    assert not outcome.killed
    assert not outcome.survivors
    assert not address_in_use("127.0.0.1", free_port)
    kept = {"dump.rdb", "redis.conf"} | (set() if foreground else {"redis.log"})
    assert set(os.listdir(folder / "data")) == kept
    with Manager("127.0.0.1", free_port, folder / "data", foreground=not foreground) as other:
        assert client(other.url, "GET", "key") == "a value"


def test_twenty_starts_and_stops_in_a_row_on_one_directory(folder: Path, free_port: int) -> None:
    """The two forms by turns."""
    forms = [Manager("127.0.0.1", free_port, folder / "data", foreground=foreground) for foreground in (False, True)]
    for number in range(1, 21):
        manager = forms[number % 2]
        manager.start()
        assert manager.command("INCR", "count") == number
        tree = tree_of(manager)
        outcome = manager.stop()
        assert left(tree) == []
        assert not outcome.killed


OWNER = """
import sys, time
from servermgr.redis import Manager
manager = Manager("127.0.0.1", int(sys.argv[2]), sys.argv[1], foreground=sys.argv[3] == "True", unix_socket=True)
manager.start()
manager.command("SET", "key", "value")
print(*(info.pid for info in manager.processes()), flush=True)
time.sleep(60)
"""


@both_forms
def test_nothing_is_left_when_the_owner_is_killed_and_the_data_is_readable(
    foreground: bool, folder: Path, free_port: int
) -> None:
    argv = [sys.executable, "-c", OWNER, str(folder / "data"), str(free_port), str(foreground)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            tree = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
            assert left(tree) == tree != []
        finally:
            owner.kill()
    assert left(tree, 5.0) == []
    with Manager("127.0.0.1", free_port, folder / "data") as manager:
        assert client(manager.url, "GET", "key") == "value"


@both_forms
def test_a_server_that_was_killed_starts_again_on_what_it_had_saved(foreground: bool, folder: Path) -> None:
    """By others, and by a stop without a grace period; pidfile and socket are stale then, and do not matter."""
    options = {"appendonly": True, "appendfsync": "always"}
    data = folder / "data"
    manager = Manager(None, 0, data, foreground=foreground, options=options, grace_period=0.0)
    for number in (1, 2):
        manager.start()
        assert manager.command("INCR", "count") == number
        tree = tree_of(manager)
        if number == 1:
            manager.process.kill()
            manager.wait()
        else:
            assert manager.stop().killed
        assert left(tree) == []
        assert not (data / "redis.pid").exists()
        assert not (data / "redis.sock").exists()
    (data / "redis.pid").write_text(f"{os.getpid()}\n")
    os.chown(data / "redis.pid", os.stat(data).st_uid, os.stat(data).st_gid)
    with manager:
        assert manager.command("GET", "count") == "2"


def test_a_stop_that_is_not_waited_for_is_finished_by_the_next_start(folder: Path) -> None:
    manager = Manager("127.0.0.1", 0, folder / "data")
    manager.start()
    tree = tree_of(manager)
    manager.command("SET", "key", "value")
    manager.stop(wait=False)
    with manager:
        assert left(tree) == []
        assert manager.command("GET", "key") == "value"


def test_health_before_during_and_after(folder: Path) -> None:
    manager = Manager("127.0.0.1", 0, folder / "data", name="mine")
    with pytest.raises(WorkerError, match="mine: it does not run"):
        manager.health()
    with manager:
        manager.health()
        with pytest.raises(WorkerError, match="running already"):
            manager.start()
        manager.health()
    with pytest.raises(WorkerError, match="mine: it does not run"):
        manager.health()


def test_persist_false_forgets(folder: Path) -> None:
    manager = Manager("127.0.0.1", 0, folder / "data", persist=False)
    with manager:
        manager.command("SET", "key", "value")
    assert os.listdir(folder / "data") == ["redis.conf"]
    with manager:
        assert manager.command("GET", "key") is None


# ---- where it listens, and for whom ---------------------------------------------------------------------------


@both_forms
def test_on_a_unix_socket_alone(foreground: bool, folder: Path) -> None:
    with Manager(None, 0, folder / "data", foreground=foreground) as manager:
        assert manager.url == manager.socket_url == f"unix://{folder}/data/redis.sock?db=0"
        assert client(manager.url, "SET", "key", "value") == "OK"
        assert psutil.Process(manager.process.pid).net_connections("inet") == []
        assert os.stat(folder / "data/redis.sock").st_mode & 0o777 == 0o700
    assert not (folder / "data/redis.sock").exists()


def test_on_both(folder: Path) -> None:
    where = folder / 'data/o\'ther "one"'
    with Manager("127.0.0.1", 0, folder / "data", unix_socket=where) as manager:
        assert client(manager.url, "SET", "key", "value") == "OK"
        assert client(manager.socket_url, "GET", "key") == "value"
    with pytest.raises(WorkerError, match="no Unix socket"):
        _ = Manager("127.0.0.1", 0, folder / "data").socket_url


@pytest.mark.parametrize("host", ["", "localhost", "::1", "0.0.0.0"])
def test_listens_where_it_was_told(host: str, folder: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if host == "::1":
            pytest.skip("no IPv6 on this machine")
    with Manager(host, 0, folder / "data") as manager:
        assert client(manager.url, "PING") == "PONG"


def test_drawn_ports_differ_and_are_known_after_the_start(folder: Path) -> None:
    first, second = (Manager("127.0.0.1", 0, folder / name) for name in "ab")
    assert first.port == 0
    with first, second:
        assert 0 < first.port != second.port > 0
        assert client(second.url, "CONFIG", "GET", "port").split() == ["port", str(second.port)]


@pytest.mark.parametrize("password", ["secret", "a \"b' \\ #%@:/", "zwei\nZeilen ä"])
def test_a_password_means_itself_and_is_no_ones_to_read(password: str, folder: Path) -> None:
    with Manager("127.0.0.1", 0, folder / "data", password=password) as manager:
        manager.health()
        bare = f"redis://127.0.0.1:{manager.port}"
        assert "NOAUTH" in client(bare, "GET", "key")
        assert "WRONGPASS" in client(bare, "GET", "key", REDISCLI_AUTH="guess")
        assert client(manager.url, "SET", "key", "value") == "OK"
        assert urllib.parse.unquote(urllib.parse.urlsplit(manager.url).password or "") == password
        assert os.stat(folder / "data/redis.conf").st_mode & 0o777 == 0o600
        assert password not in " ".join(tree_of(manager)[0].cmdline())


def test_no_value_can_break_out_of_the_configuration(folder: Path) -> None:
    data = folder / 'd"; \\x0a\nport 1\n ä'
    with Manager("127.0.0.1", 0, data, options={"dbfilename": 'x" y', "maxmemory": "7mb", "save": (60, 1)}) as manager:
        assert manager.command("CONFIG", "GET", "dir") == ["dir", str(data)]
        assert manager.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(7 << 20)]
        assert manager.command("CONFIG", "GET", "save") == ["save", "60 1"]
        manager.command("SET", "key", "value")
    assert (data / 'x" y').exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"options": {"port": 1}},
        {"options": {"requirepass": "x"}},
        {"options": {"include": "x"}},
        {"options": {"a b": 1}},
        {"options": {"a": "\0"}},
        {"password": "\0"},
        {"host": "a b"},
        {"port": 65536},
        {"port": False},
        {"data_dir": ""},
        {"data_dir": "/" + "x" * 100, "unix_socket": True},
        {"foreground": False, "output": subprocess.DEVNULL},
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Manager(**{"host": "127.0.0.1", "port": 0, "data_dir": "/nowhere", **arguments})


# ---- what cannot be started -----------------------------------------------------------------------------------


@both_forms
def test_a_busy_port_is_an_error_that_names_the_holder(foreground: bool, folder: Path, free_port: int) -> None:
    """No directory is made for nothing."""
    with socket.create_server(("127.0.0.1", free_port)):
        manager = Manager("127.0.0.1", free_port, folder / "data", foreground=foreground)
        assert str(os.getpid()) in str(refusal(manager, AddressInUseError))
    assert os.listdir(folder) == []


def test_a_directory_on_which_a_server_runs_is_refused(folder: Path) -> None:
    """The one that runs goes on, and keeps its socket."""
    with Manager(None, 0, folder / "data") as first:
        error = refusal(Manager(None, 0, folder / "data"), WorkerError, "runs on .* already")
        assert str(first.process.pid) in str(error)
        assert client(first.url, "PING") == "PONG"


@both_forms
def test_data_of_another_version_or_corrupt_is_an_error_with_the_servers_own_words(
    foreground: bool, folder: Path
) -> None:
    (folder / "data").mkdir()
    for content, word in ((b"REDIS9999" + bytes(50), "version 9999"), (b"no data", "[Ww]rong signature|Short read")):
        (folder / "data/dump.rdb").write_bytes(content)
        error = refusal(Manager("127.0.0.1", 0, folder / "data", foreground=foreground), WorkerExitedError, word)
        assert error.status not in (0, None)
        assert (folder / "data/dump.rdb").read_bytes() == content
        assert not (folder / "data/redis.pid").exists()


@both_forms
def test_a_setting_that_does_not_exist(foreground: bool, folder: Path) -> None:
    manager = Manager("127.0.0.1", 0, folder / "data", foreground=foreground, options={"no-such": 1})
    refusal(manager, WorkerExitedError, ": 'no-such \"1\"' Bad directive")


def test_a_program_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(Manager("127.0.0.1", 0, folder / "data", binary="no-such-redis"), LaunchError, "no-such-redis.*binary=")
    monkeypatch.setattr(_redis_program, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(folder))
    refusal(Manager("127.0.0.1", 0, folder / "data"), LaunchError, "redis-server or valkey-server.*apt install")
    assert os.listdir(folder) == []


def test_valkey_is_found_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, require_server: Callable[[str], str]
) -> None:
    """Where there is no Redis. (The program behind the name is what this machine has.)"""
    real = shutil.which("valkey-server") or require_server("redis-server")
    (folder / "valkey-server").symlink_to(os.path.realpath(real))
    monkeypatch.setattr(_redis_program, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(folder))
    with Manager("127.0.0.1", 0, folder / "data") as manager:
        assert manager.process.args[-2] == str(folder / "valkey-server")
        assert manager.command("PING") == "PONG"


@pytest.mark.parametrize("kind", ["missing parent", "file", "closed"])
def test_a_directory_that_cannot_be_used(kind: str, folder: Path) -> None:
    """A server would start on a closed one, and lose everything at its end."""
    data = folder / "data"
    user = None
    if kind == "missing parent":
        data = folder / "none/data"
    elif kind == "file":
        data.write_text("")
    else:
        data.mkdir(mode=0o555)
        user = "nobody" if IS_ROOT else None  # root is not kept out by modes
    refusal(Manager("127.0.0.1", 0, data, user=user), LaunchError, f"cannot use {data} as a data directory")


@as_root
def test_root_does_not_follow_a_link_in_place_of_the_log(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "target").write_text("")
    (folder / "data/redis.log").symlink_to(folder / "target")
    refusal(Manager("127.0.0.1", 0, folder / "data", foreground=False), LaunchError, "redis.log is a link")
    assert (folder / "target").read_text() == ""


# ---- users ----------------------------------------------------------------------------------------------------


@as_root
@both_forms
def test_root_starts_it_as_an_ordinary_user_and_says_as_whom(foreground: bool, folder: Path) -> None:
    """As the one who is told, else as the owner of the directory; where he may not get, as root."""
    for user in ("nobody", None):
        with Manager("127.0.0.1", 0, folder / "data", foreground=foreground, user=user) as manager:
            assert manager.user == "nobody"
            assert [process.uids().real for process in tree_of(manager)] == [NOBODY]
            assert client(manager.url, "SET", "key", "value") == "OK"
    (folder / "closed").mkdir(mode=0o700)
    with Manager("127.0.0.1", 0, folder / "closed/data", foreground=foreground) as manager:
        assert manager.user is None
    refusal(Manager("127.0.0.1", 0, folder / "data", user="no; such"), LaunchError, "no user 'no; such'")


# ---- the protocol ---------------------------------------------------------------------------------------------


def test_answers_of_every_kind(folder: Path) -> None:
    with Manager("127.0.0.1", 0, folder / "data") as manager:
        assert manager.command("RPUSH", "list", "a", 2, "ä\r\n") == 3
        assert manager.command("LRANGE", "list", 0, -1) == ["a", "2", "ä\r\n"]
        assert manager.command("GET", "none") is None
        assert manager.command("EVAL", "return {1, {false, 'x'}, {}}", 0) == [1, [None, "x"], []]
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            manager.command("GET", "list")


# ---- the command line -----------------------------------------------------------------------------------------


def test_the_program_runs_until_it_is_told_to_stop(folder: Path) -> None:
    """Without --datadir it keeps its data in a temporary directory, and leaves neither that nor a process."""
    (folder / "tmp").mkdir()
    with program("redis", "--port", "0", "-c", "maxmemory=7mb", TMPDIR=str(folder / "tmp")) as child:
        assert child.stdout is not None
        words = child.stdout.readline().split()
        assert words[:2] == ["Redis", "serves"]
        assert client(words[2], "CONFIG", "GET", "maxmemory").split()[1] == str(7 << 20)
        tree = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "", "")
    assert left(tree, 2.0) == []
    assert os.listdir(folder / "tmp") == []


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--datadir", "nowhere/data"], 1, "cannot use"),
        (["--binary", "no-such-redis"], 1, "no-such-redis"),
        (["--port", "65536"], 2, "port must be"),
        (["-c", "x"], 2, "NAME=VALUE"),
        (["-c", "dir=x"], 2, "data_dir="),
    ],
)
def test_the_program_says_what_is_wrong(arguments: list[str], status: int, text: str, folder: Path) -> None:
    with program("redis", "--port", "0", *arguments, TMPDIR=str(folder)) as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (status, "")
    assert text in err
    assert "Traceback" not in err
    assert os.listdir(folder) == []


def test_help_teaches_by_an_example() -> None:
    with program("redis", "--help") as child:
        out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "python -m servermgr.redis --port 6380" in out
