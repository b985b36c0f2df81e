"""servermgr.postgres: a real PostgreSQL is started, does real work, is seen as a tree, and is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from server_kit import left, program, refusal, still_there, tree_of

from servermgr import _postgres_versions as versions
from servermgr import accounts, address_in_use
from servermgr.errors import AddressInUseError, LaunchError, WorkerError, WorkerExitedError
from servermgr.postgres import Manager, SqlError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install servermgr[test])")

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
IS_ROOT = getattr(os, "geteuid", lambda: 1)() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can change users")
#: Small files, so that a directory is quickly made and copied.
SMALL = ("--wal-segsize=1",)


def installation() -> versions.Installation:
    return versions.choose("", None)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """A missing server skips the tests, and fails them with CI=true."""
    try:
        installation()
    except LaunchError as error:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{error}; with CI={os.environ['CI']} that is a failure", pytrace=False)
        pytest.skip(str(error))


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own ones are closed."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103  # that is its purpose
        yield Path(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture(scope="module")
def data(_installed: None) -> Iterator[Path]:
    """A data directory that is made once. Tests leave it as they have found it, but for what is committed in it."""
    with open_directory() as path:
        manager = Manager(None, 0, path / "db", initialize=True, fast=True, initdb_options=SMALL)
        with manager:
            manager.query("CREATE TABLE kept (number int)")
        yield path / "db"


@pytest.fixture
def copy(data: Path, folder: Path) -> Path:
    """A data directory to spoil."""
    subprocess.run(["cp", "-a", str(data), str(folder / "db")], check=True)
    return folder / "db"


def fast(db_dir: Path, port: int = 0, **options: Any) -> Manager:
    return Manager(options.pop("host", "127.0.0.1"), port, db_dir, fast=True, **options)


def command_line(process: psutil.Process) -> str:
    """Empty for one that has ended meanwhile, as the server of a finished connection does."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def sql(dsn: str, statement: str) -> Any:
    """The rows of a statement, through a real client."""
    with contextlib.closing(psycopg.connect(dsn, autocommit=True, connect_timeout=10)) as connection:
        found = connection.execute(statement)
        return found.fetchall() if found.description else None


# ---- starting, working, stopping ------------------------------------------------------------------------------


def test_made_started_used_stopped_and_nothing_is_left(folder: Path, free_port: int) -> None:
    """Through both ways in, and the URL; backends, each in a session of its own, belong to the tree."""
    manager = Manager("127.0.0.1", free_port, folder / "db", initialize=True, fast=True, initdb_options=SMALL)
    assert (manager.port, manager.user) == (free_port, None)
    manager.start()
    manager.health()
    sql(manager.dsn(), "CREATE TABLE story (word text)")
    sql(manager.url, "INSERT INTO story VALUES ('ä'), ('z')")
    with contextlib.closing(psycopg.connect(manager.dsn(socket=True))) as client:
        assert client.execute("SELECT upper(word) FROM story ORDER BY word DESC").fetchall() == [("Ä",), ("Z",)]
        tree = tree_of(manager)
        assert client.info.backend_pid in {process.pid for process in tree}
        assert os.getsid(client.info.backend_pid) == client.info.backend_pid
        outcome = manager.stop()  # with a client in the middle of a transaction
    assert len(tree) > 5
    assert left(tree) == []
    assert not outcome.killed
    assert not outcome.survivors
    assert outcome.status == 0
    assert manager.process is None
    assert not address_in_use("127.0.0.1", free_port)
    assert os.listdir(folder) == ["db"]
    assert not [name for name in os.listdir(folder / "db") if name.startswith((".", "postmaster.pid"))]


def test_twenty_starts_and_stops_in_a_row_on_one_directory(data: Path, free_port: int) -> None:
    manager = fast(data, free_port)
    manager.start()
    manager.query("TRUNCATE kept")
    manager.stop()
    for number in range(20):
        manager.start()
        assert manager.query("SELECT count(*) FROM kept") == [(str(number),)]
        manager.query(f"INSERT INTO kept VALUES ({number})")  # noqa: S608  # a number
        tree = tree_of(manager)
        outcome = manager.stop()
        assert left(tree) == []
        assert not outcome.killed


OWNER = """
import sys, time
from servermgr.postgres import Manager
manager = Manager("127.0.0.1", int(sys.argv[2]), sys.argv[1])
manager.start()
manager.query("TRUNCATE kept")
manager.query("INSERT INTO kept VALUES (4711)")
print(*(info.pid for info in manager.processes()), flush=True)
time.sleep(60)
"""


def test_nothing_is_left_when_the_owner_is_killed_and_the_data_is_readable(data: Path, free_port: int) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(data), str(free_port)], stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            pids = [int(pid) for pid in owner.stdout.readline().split()]
            tree = still_there(pids)
            assert len(left(tree)) > 5
        finally:
            owner.kill()
    assert left(tree, 5.0) == []
    with fast(data, free_port) as manager:
        assert sql(manager.dsn(), "SELECT * FROM kept") == [(4711,)]


def segments() -> set[str]:
    """The numbers of all segments of System V shared memory on the machine; empty where they are not listed."""
    with contextlib.suppress(OSError), open("/proc/sysvipc/shm") as listing:
        return {line.split()[1] for line in listing}
    return set()


def test_a_server_that_was_killed_recovers(data: Path) -> None:
    """By others, and by a stop without a grace period: what was committed is there, what was not is not.

    Nor does it leave shared memory behind, which would outlive its directory.
    """
    manager = fast(data, grace_period=0.0)
    for number in (1, 2):
        manager.start()
        manager.query("TRUNCATE kept")
        sql(manager.dsn(), f"INSERT INTO kept VALUES ({number})")  # noqa: S608  # a number
        tree = tree_of(manager)
        segment = (data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        assert segment in segments() or not segments()
        assert manager.query("SHOW dynamic_shared_memory_type") == [("mmap",)]  # within the directory
        with contextlib.closing(psycopg.connect(manager.dsn())) as client:
            client.execute("INSERT INTO kept VALUES (99)")
            if number == 1:
                manager.process.kill()
                assert manager.wait().status == -signal.SIGKILL
            else:
                assert manager.stop().killed
        assert left(tree) == []
        assert (data / "postmaster.pid").exists()  # stale
        assert segment not in segments()
        with manager:
            assert manager.query("SELECT * FROM kept") == [(str(number),)]


def test_health_before_during_and_after(data: Path) -> None:
    manager = fast(data, name="mine")
    with pytest.raises(WorkerError, match="mine: it does not run"):
        manager.health()
    with manager:
        manager.health()
    with pytest.raises(WorkerError, match="mine: it does not run"):
        manager.health()
    with pytest.raises(WorkerError, match="does not answer"):
        manager.query("SELECT 1")


def test_a_second_start_is_refused_and_harms_nothing(data: Path) -> None:
    with fast(data) as manager:
        with pytest.raises(WorkerError, match="running already"):
            manager.start()
        assert manager.query("SELECT 1, NULL, ''") == [("1", None, "")]


def test_the_callers_environment_for_postgresql_is_not_the_servers(
    data: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "LC_ALL": "xx_XX", "LANGUAGE": "de"}.items():
        monkeypatch.setenv(name, value)
    with fast(data, free_port) as manager:
        assert sql(manager.dsn(), "SELECT current_setting('port')::int") == [(free_port,)]


# ---- a directory that is in use, or was -----------------------------------------------------------------------


@contextlib.contextmanager
def innocent(user: str | None) -> Iterator[psutil.Popen]:
    """A process of the user as whom the server runs, so that PostgreSQL could signal it."""
    with psutil.Popen([shutil.which("sleep"), "60"], **({} if user is None else {"user": user})) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_stale_lock_file_that_names_an_innocent_does_not_matter(data: Path) -> None:
    """PostgreSQL alone takes whoever lives for a server (the control). The innocent is not touched."""
    manager = fast(data, 5432, host=None)
    with manager:
        lock = (data / "postmaster.pid").read_text()
        user = manager.user
        status = os.stat(data / "postmaster.pid")
    with innocent(user) as process:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / name).write_text(lock.replace(lock.split("\n")[0], str(process.pid), 1))
            os.chown(data / name, status.st_uid, status.st_gid)
        runner = accounts.choose(str(data), None, ())
        bare = runner.acting([installation().program("postgres"), "-D", str(data), "-p", "5432"], str(data))
        control = subprocess.run(bare, cwd=data, capture_output=True, text=True, timeout=30, check=False)
        assert control.returncode == 1
        assert 'lock file "postmaster.pid" already exists' in control.stderr
        with manager:
            assert manager.query("SELECT 1") == [("1",)]
        assert process.is_running()


def test_a_directory_on_which_a_server_runs_is_refused(data: Path) -> None:
    """The one that runs goes on."""
    with fast(data) as first:
        error = refusal(fast(data), WorkerError, "runs on .* already")
        assert str(first.process.pid) in str(error)
        assert str(first.port) in str(error)
        assert first.query("SELECT 1") == [("1",)]


def test_a_server_that_is_stopping_is_waited_for(data: Path) -> None:
    """As when a new run begins while the guardian ends what a killed one has left."""
    first, second = fast(data), fast(data)
    with first, contextlib.closing(psycopg.connect(first.dsn())) as client:
        first.process.terminate()  # a smart shutdown: it waits for its clients
        end = time.monotonic() + 10
        while "stopping" not in (data / "postmaster.pid").read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        leaving = threading.Timer(0.3, client.close)
        leaving.start()
        with second:
            assert second.query("SELECT 1") == [("1",)]
        leaving.join()


# ---- what cannot be started -----------------------------------------------------------------------------------


def test_a_busy_port_is_an_error_that_names_the_holder(folder: Path, free_port: int) -> None:
    """No directory is made for nothing."""
    with socket.create_server(("127.0.0.1", free_port)):
        error = refusal(fast(folder / "db", free_port, initialize=True), AddressInUseError)
    assert str(os.getpid()) in str(error)
    assert os.listdir(folder) == []


def test_a_directory_is_made_only_if_that_is_asked_for(folder: Path) -> None:
    refusal(fast(folder / "db"), LaunchError, "pass initialize=True")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("initialize", [False, True])
def test_a_directory_with_something_else_in_it_is_left_alone(initialize: bool, folder: Path) -> None:
    (folder / "letter.txt").write_text("dear")
    refusal(fast(folder, initialize=initialize), LaunchError, "left alone")
    assert os.listdir(folder) == ["letter.txt"]


def test_a_corrupt_directory_is_an_error_with_the_servers_own_words(copy: Path) -> None:
    os.truncate(copy / "global/pg_control", 0)
    error = refusal(fast(copy, initialize=True), WorkerExitedError, "ready: (FATAL|PANIC):.*pg_control")
    assert error.status not in (0, None)
    assert any("pg_control" in line for line in error.output)
    (copy / "global/pg_control").unlink()
    refusal(fast(copy, initialize=True), WorkerExitedError, "ready: postgres: could not find the database system")
    (copy / "PG_VERSION").write_text("\0\0\n")
    refusal(fast(copy, initialize=True), LaunchError, "is corrupt")


def test_a_directory_that_was_made_by_another_version(copy: Path) -> None:
    (copy / "PG_VERSION").write_text("13\n")
    if not any(one.major == 13 for one in versions._from_system() + versions._from_wheels()):
        refusal(fast(copy), LaunchError, "was made by PostgreSQL 13, which is not installed; there is [1-9]")
    here = str(installation().major)
    refusal(fast(copy, pg_version=here), LaunchError, f"made by PostgreSQL 13 and cannot be used by {here}")


@pytest.mark.parametrize("where", ["parent", "itself"])
def test_a_directory_that_cannot_be_written_to(where: str, folder: Path) -> None:
    """Root is not kept out by modes; the user for whom root starts the server is."""
    (folder / "closed").mkdir()
    (folder / "closed/db").mkdir()
    closed = folder / "closed" if where == "parent" else folder / "closed/db"
    closed.chmod(0o700 if IS_ROOT and where == "parent" else 0o000)
    if IS_ROOT and where == "itself":
        pytest.skip("root gives an empty directory to the server's user")
    error = refusal(fast(folder / "closed/db", initialize=True), LaunchError)
    assert str(closed) in str(error)
    closed.chmod(0o700)
    assert os.listdir(folder / "closed") == ["db"]
    assert os.listdir(folder / "closed/db") == []


def test_a_directory_that_initdb_cannot_make_is_not_left_behind(folder: Path) -> None:
    manager = fast(folder / "db", initialize=True, initdb_options=["--no-such-option"])
    error = refusal(manager, LaunchError, "initdb could not make")
    assert any("no-such-option" in line for line in error.output)
    assert os.listdir(folder) == []


def test_a_setting_that_does_not_exist(data: Path) -> None:
    refusal(fast(data, options={"no_such_setting": 1}), WorkerExitedError, 'FATAL:.*"no_such_setting"')


@pytest.mark.parametrize(
    "arguments",
    [
        {"options": {"port": 1}},
        {"options": {"a=b -c c": 1}},
        {"options": {"a": "\0"}},
        {"host": "a, b"},
        {"port": -1},
        {"port": True},
        {"superuser": ""},
        {"superuser": "x" * 64},
        {"db_dir": ""},
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Manager(**{"host": "127.0.0.1", "port": 0, "db_dir": "/nowhere", **arguments})


# ---- which PostgreSQL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_the_version_is_told(by: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(version: str) -> Manager:
        monkeypatch.setenv(versions.VARIABLE, version if by == "environment" else "no version")
        return fast(data, pg_version="" if by == "environment" else version)

    here = installation()
    for version in (here.version, str(here.major)):
        with told(version) as manager:
            assert manager.version == here.version
            assert manager.query("SHOW server_version")[0][0].startswith(here.version)  # type: ignore[union-attr]
    error = refusal(told("9.6"), LaunchError, "9.6")
    assert here.version in str(error)
    assert (versions.VARIABLE in str(error)) == (by == "environment")
    refusal(told("fifteen"), ValueError, "no version")


def test_the_newest_is_taken_and_the_one_that_made_the_directory_goes_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [versions.Installation(number, f"{number[0]}.{number[1]}", "/x") for number in ((15, 9), (16, 1), (9, 6))]
    monkeypatch.setattr(versions, "_from_system", lambda: found)
    monkeypatch.delenv(versions.VARIABLE, raising=False)
    assert versions.choose("", None).version == "16.1"
    assert versions.choose("", "15").version == "15.9"
    assert versions.choose("15", "16").version == "15.9"


def test_without_any_postgresql_the_error_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FOLDERS", "WHEELS"):
        monkeypatch.setattr(versions, name, ())
    monkeypatch.setenv("PATH", str(folder))
    refusal(fast(folder / "db", initialize=True), LaunchError, "apt install postgresql.*servermgr\\[postgres-wheel\\]")
    assert os.listdir(folder) == []


def test_path_may_hold_a_link_and_does_not_fool_with_a_wrapper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = installation()
    monkeypatch.setattr(versions, "WHEELS", ())
    monkeypatch.setattr(versions, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(folder))
    (folder / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.9'\n")
    (folder / "postgres").chmod(0o755)
    with pytest.raises(LaunchError, match="no PostgreSQL"):
        versions.choose("", None)
    (folder / "postgres").unlink()
    (folder / "postgres").symlink_to(here.program("postgres"))
    assert versions.choose("", None) == here


def test_one_from_a_wheel_serves_where_the_system_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(folder))
    wheels = versions._from_wheels()
    if not wheels:
        pytest.skip("no wheel with PostgreSQL is installed (pip install servermgr[postgres-wheel])")
    if IS_ROOT:  # this Python may be in root's home, where the server's user may not look
        package = Path(wheels[0].folder).parent.parent
        monkeypatch.syspath_prepend(str(folder))
        shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
    with fast(folder / "db", initialize=True, initdb_options=SMALL) as manager:
        assert manager.version == wheels[0].version
        assert sql(manager.dsn(), "SELECT 1") == [(1,)]
        tree = tree_of(manager)
    assert left(tree) == []


# ---- who may come in ------------------------------------------------------------------------------------------


def test_over_tcp_a_password_is_needed_which_others_cannot_read(data: Path) -> None:
    with fast(data) as manager:
        without = f"host=127.0.0.1 port={manager.port} dbname=postgres user=postgres passfile=/dev/null"
        for dsn in (without, f"{without} password=guess"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                sql(dsn, "SELECT 1")
        (passfile,) = [word.partition("=")[2] for word in manager.dsn().split() if word.startswith("passfile=")]
        assert os.stat(passfile).st_mode & 0o777 == 0o600
        assert os.stat(data).st_mode & 0o777 == 0o700
        *_, password = Path(passfile).read_text().strip().split(":")
        assert not [process for process in tree_of(manager) if password in command_line(process)]
        assert password not in manager.url
        assert sql(f"{without} password={password}", "SELECT 1") == [(1,)]


@as_root
def test_the_socket_is_closed_to_other_users(data: Path) -> None:
    with fast(data, host=None) as manager:
        (path,) = data.glob(".s.PGSQL.*[0-9]")
        code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        python = "/usr/bin/python3"
        if not os.access(python, os.X_OK):
            pytest.skip("needs a Python that every user may run")
        done = subprocess.run([python, "-c", code, str(path)], user=NOBODY, cwd="/", capture_output=True, check=False)
        assert b"PermissionError" in done.stderr
        assert manager.query("SELECT 1") == [("1",)]


def test_a_cluster_that_was_made_elsewhere_keeps_its_rules(
    copy: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ready when it asks for a password; statements then go through psycopg."""
    rules = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
    (copy / "pg_hba.conf").write_text(rules)
    password = (copy / "servermgr.pgpass").read_text().strip().rpartition(":")[2]
    (copy / "servermgr.pgpass").unlink()
    with fast(copy, free_port) as manager:
        manager.health()
        assert "passfile" not in manager.url
        with pytest.raises(SqlError, match="password"):
            manager.query("SELECT 1")
        monkeypatch.setenv("PGPASSWORD", password)
        assert manager.query("SELECT 1, NULL") == [("1", None)]
        with pytest.raises(SqlError) as caught:
            manager.query("SELEC")
        assert caught.value.code == "42601"
        assert (copy / "pg_hba.conf").read_text() == rules


def test_without_tcp_only_the_socket_is_there(data: Path) -> None:
    manager = fast(data, host=None)
    with pytest.raises(WorkerError, match="once it is started"):
        _ = manager.url
    with manager:
        assert psutil.Process(manager.process.pid).net_connections("inet") == []
        for dsn in (manager.dsn(), manager.url, manager.dsn(socket=True)):
            assert sql(dsn, "SELECT 1") == [(1,)]


def test_a_path_too_long_for_a_socket_gets_a_short_one_which_goes_with_the_server(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e, \"'" * 10)
    deep.mkdir(parents=True)
    before = set(os.listdir(tempfile.gettempdir()))
    for _ in range(2):
        with fast(deep / "db", initialize=True, initdb_options=SMALL) as manager:
            assert os.stat(manager.socket_dir).st_mode & 0o777 == 0o700
            for dsn in (manager.dsn(), manager.url, manager.dsn(socket=True)):
                assert sql(dsn, "SELECT 1") == [(1,)]
        assert set(os.listdir(tempfile.gettempdir())) == before
    with pytest.raises(LaunchError, match="longer than"):
        fast(deep / "db", socket_dir=deep).start()


@pytest.mark.parametrize("host", ["", "localhost", "::1", "0.0.0.0"])
def test_listens_where_it_was_told(host: str, data: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if host == "::1":
            pytest.skip("no IPv6 on this machine")
    with fast(data, host=host) as manager:
        for where in (manager.dsn(), manager.url):
            assert sql(where, "SELECT 1") == [(1,)]


def test_drawn_ports_differ_and_are_known_after_the_start(data: Path, copy: Path) -> None:
    first, second = fast(data), fast(copy)
    assert first.port == 0
    with first, second:
        assert 0 < first.port != second.port > 0
        assert sql(first.url, "SELECT current_setting('port')::int") == [(first.port,)]


# ---- databases ------------------------------------------------------------------------------------------------


def test_a_database_for_each_test_copied_from_a_template(data: Path) -> None:
    with fast(data) as manager:
        blueprint = manager.create_database("blueprint")
        sql(blueprint.dsn, "CREATE TABLE thing AS SELECT 1 AS number")
        with manager.database("blueprint") as one, manager.database("blueprint") as other:
            sql(one.dsn, "INSERT INTO thing VALUES (2)")
            assert sql(one.url, "SELECT count(*) FROM thing") == [(2,)]
            assert sql(other.url, "SELECT count(*) FROM thing") == [(1,)]
            client = psycopg.connect(other.dsn)  # one that is forgotten does not hinder
        client.close()
        manager.drop_database("blueprint")
        manager.drop_database("blueprint")
        assert manager.query("SELECT datname FROM pg_database WHERE NOT datistemplate") == [("postgres",)]


def test_a_name_means_itself_whatever_it_holds(data: Path) -> None:
    with fast(data) as manager:
        for name in ('a"; DROP DATABASE postgres; --', "it's \\ a b", "ä/?#:@%20"):
            made = manager.create_database(name)
            for where in (made.dsn, made.url):
                assert sql(where, "SELECT current_database()") == [(name,)]
            with pytest.raises(SqlError, match="already exists") as caught:
                manager.create_database(name)
            assert caught.value.code == "42P04"
            manager.drop_database(name)
        for name in ("", "x" * 64, "a\0b"):
            with pytest.raises(ValueError, match="cannot be a name"):
                manager.create_database(name)
        with pytest.raises(SqlError, match="does not exist"):
            manager.create_database("x", template="nowhere")


def test_settings_go_before_the_file_and_fast_waits_for_no_disk(data: Path) -> None:
    show = "SELECT current_setting('fsync'), current_setting('work_mem'), current_setting('application_name')"
    with fast(data, options={"work_mem": "7MB", "application_name": 'it\'s, "so"'}) as manager:
        assert sql(manager.dsn(), show) == [("off", "7MB", 'it\'s, "so"')]
    with Manager(None, 0, data) as manager:
        assert sql(manager.dsn(), show)[0][:2] == ("on", "4MB")


# ---- users ----------------------------------------------------------------------------------------------------


@as_root
def identities(tree: list[psutil.Process]) -> set[tuple[int, int]]:
    """Users and groups of those who are there still: the backend of the query that asked for health may be going."""
    found = set()
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add((process.uids().real, process.gids().real))
    return found


def test_root_starts_it_as_an_ordinary_user_and_says_as_whom(folder: Path) -> None:
    """As the one who is told, else as the owner of the directory."""
    for user in ("nobody", None):
        with fast(folder / "db", initialize=True, user=user, initdb_options=SMALL) as manager:
            assert manager.user == "nobody"
            assert identities(tree_of(manager)) == {(NOBODY, NOBODY)}
            assert sql(manager.dsn(), "SELECT 1") == [(1,)]
    refusal(fast(folder / "db", user="root"), LaunchError, "refuses to run as root")
    refusal(fast(folder / "db", user="no; such"), LaunchError, "no user 'no; such'")


PACKAGES = os.pathsep.join((str(ROOT), str(Path(psutil.__file__).parent.parent)))
ORDINARY = """
import sys
from servermgr.postgres import LaunchError, Manager
with Manager("127.0.0.1", 0, sys.argv[1] + "/db", initialize=True, fast=True) as manager:
    print(manager.user, manager.query("SELECT 1"))
for arguments in ({"db_dir": "/db", "initialize": True}, {"db_dir": sys.argv[1] + "/db", "user": "root"}):
    try:
        Manager("127.0.0.1", 0, **arguments).start()
    except LaunchError as error:
        print(str(error).splitlines()[0])
"""


@as_root
def test_an_ordinary_user_starts_it_as_himself(folder: Path) -> None:
    folder.chmod(0o777)
    python = [path for path in (sys.executable, "/usr/bin/python3") if can_run(path)]
    if not python:
        pytest.skip("an ordinary user cannot run this Python, or cannot read this package")
    argv = [python[0], "-B", "-c", ORDINARY, str(folder)]
    options = as_nobody()
    options["env"]["SERVERMGR_LEDGER"] = str(folder / "ledger")  # the one of the tests is root's
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False, **options)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert lines[0] == "None [('1',)]"
    assert "cannot make /db" in lines[1] or "cannot use /db" in lines[1]
    assert "only root can" in lines[2]


def as_nobody() -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": PACKAGES, "HOME": "/"}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/", "env": environment}


def can_run(python: str) -> bool:
    with contextlib.suppress(OSError):
        argv = [python, "-B", "-c", "import psutil, platformdirs, servermgr.postgres"]
        return subprocess.run(argv, capture_output=True, timeout=30, check=False, **as_nobody()).returncode == 0
    return False


# ---- the command line -----------------------------------------------------------------------------------------


def test_the_program_runs_until_it_is_told_to_stop(folder: Path) -> None:
    """Without --datadir it keeps its data in a temporary directory, and leaves neither that nor a process."""
    (folder / "tmp").mkdir()
    with program("postgres", "--port", "0", "--fast", "-c", "work_mem=7MB", TMPDIR=str(folder / "tmp")) as child:
        assert child.stdout is not None
        words = child.stdout.readline().split()
        assert words[:3] == ["PostgreSQL", installation().version, "serves"]
        assert sql(words[3], "SHOW work_mem") == [("7MB",)]
        tree = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "", "")
    assert left(tree, 2.0) == []
    assert os.listdir(folder / "tmp") == []


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--datadir", "nowhere/db"], 1, "pass initialize=True"),
        (["--datadir", "nowhere/db", "--pg-version", "9.6", "--initialize"], 1, "9.6 is not installed"),
        (["--port", "65536"], 2, "port must be"),
        (["-c", "x"], 2, "NAME=VALUE"),
        (["-c", "port=1"], 2, "--port|port="),
    ],
)
def test_the_program_says_what_is_wrong(arguments: list[str], status: int, text: str, folder: Path) -> None:
    with program("postgres", "--port", "0", *arguments, TMPDIR=str(folder)) as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (status, "")
    assert any(part in err for part in text.split("|"))
    assert "Traceback" not in err
    assert os.listdir(folder) == []


def test_help_teaches_by_an_example() -> None:
    with program("postgres", "--help") as child:
        out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "python -m servermgr.postgres --port 5433" in out
