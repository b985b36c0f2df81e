"""servermgr.pyro_ns and servermgr.pyro_service: a real name server, and objects that real clients call through it."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from python_servers import (
    ROOT,
    bare_python,
    complaint,
    finished,
    living,
    pids,
    program,
    refusal,
    stopped,
    survivors_of_killed_owner,
)

from servermgr import _pyro_order, pyro_ns, pyro_service
from servermgr.errors import AddressInUseError, LaunchError, ReadyTimeoutError, WorkerError, WorkerExitedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

api = pytest.importorskip("Pyro5.api")

SERVICES = """
import os, sys
import Pyro5.server

class Adder:
    def __init__(self, base=0):
        self.base = base
        self.asked = 0
    def add(self, a, b):
        return self.base + a + b
    def who(self):
        return [os.getpid(), sorted(sys.modules)]
    def health(self):
        self.asked += 1
        return True
    def times_asked(self):
        return self.asked
    @property
    def costly(self):
        raise RuntimeError("nobody asked for it")

class Marked:
    @Pyro5.server.expose
    def add(self, a, b):
        return a + b
    def secret(self):
        return "secret"

@Pyro5.server.expose
@Pyro5.server.behavior(instance_mode="percall")
class PerCall:
    calls = 0
    def add(self, a, b):
        return a + b

class Slotted:
    __slots__ = ()
    def add(self, a, b):
        return a + b

class Ill:
    def health(self):
        raise ValueError("out of sorts")

class Unsure:
    def health(self):
        return False

class Nothing:
    pass

adder = Adder(100)
"""


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `pyro_things`, which this process can import, and so can what it starts."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "pyro_things.py").write_text(SERVICES)
    monkeypatch.syspath_prepend(folder)
    import pyro_things  # type: ignore[import-not-found]

    yield pyro_things
    del sys.modules["pyro_things"]


@pytest.fixture
def names(tmp_path: Path) -> Iterator[pyro_ns.Manager]:
    """A name server."""
    with pyro_ns.Manager("127.0.0.1", 0, tmp_path / "names") as manager:
        yield manager


def service_of(names: pyro_ns.Manager, service: object, **options: Any) -> pyro_service.Manager:
    return pyro_service.Manager("adder", service, names.host, names.port, **options)


def registered(names: pyro_ns.Manager) -> set[str]:
    with api.locate_ns(names.host, names.port) as proxy:
        return set(proxy.list()) - {"Pyro.NameServer"}


# ---- both, as they are meant ----------------------------------------------------------------------------------


def test_a_client_adds_numbers_through_it_and_nothing_is_left_twice(names: pyro_ns.Manager, services: Any) -> None:
    """The name goes with the service, and is there again with the next one."""
    service = service_of(names, services.Adder(10))
    for number in range(2):
        with service:
            service.health()
            with api.Proxy(service.uri) as adder:
                assert adder.add(number, 2) == 12 + number
            with api.Proxy(f"PYRONAME:adder@127.0.0.1:{names.port}") as adder:
                assert adder.add(1, 2) == 13
            assert registered(names) == {"adder"}
            assert stopped(service) == []
        assert registered(names) == set()


def test_the_interpreter_is_a_fresh_one(names: pyro_ns.Manager, services: Any) -> None:
    """What the owner has imported is not there; only what the service needs is."""
    with service_of(names, services.Adder()) as service, api.Proxy(service.uri) as adder:
        pid, modules = adder.who()
        assert pid in pids(service)
        assert "pyro_things" in modules
        assert not {"pytest", "psutil", "servermgr"} & set(modules)
        assert os.getpid() != pid


def test_the_registrations_are_known_again_after_a_restart(tmp_path: Path) -> None:
    manager = pyro_ns.Manager("127.0.0.1", 0, tmp_path / "names")
    with manager, api.locate_ns("127.0.0.1", manager.port) as proxy:
        proxy.register("kept", "PYRO:something@127.0.0.1:1")
    with manager:
        assert registered(manager) == {"kept"}
        assert stopped(manager) == []
    assert (tmp_path / "names" / pyro_ns.STORAGE).exists()
    assert stat.S_IMODE((tmp_path / "names").stat().st_mode) == 0o700


def test_twenty_starts_and_stops_in_a_row(tmp_path: Path, free_port: int, services: Any) -> None:
    """Both, on one directory, one port and one name."""
    names = pyro_ns.Manager("127.0.0.1", free_port, tmp_path / "names")
    service = service_of(names, services.Adder())
    for number in range(20):
        with names, service:
            with api.Proxy(service.uri) as adder:
                assert adder.add(number, 1) == number + 1
            assert stopped(service) == []
            assert stopped(names) == []


def test_nothing_outlives_a_killed_owner_and_the_name_can_be_had_again(tmp_path: Path, services: Any) -> None:
    code = (
        "from servermgr import pyro_ns, pyro_service\n"
        "names = pyro_ns.Manager('127.0.0.1', 0, sys.argv[1])\n"
        "names.start()\n"
        "service = pyro_service.Manager('adder', 'pyro_things:adder', '127.0.0.1', names.port, cwd=sys.argv[2])\n"
        "service.start()\n"
        "tell(names, service)"
    )
    _, left = survivors_of_killed_owner(code, str(tmp_path / "names"), str(Path(services.__file__).parent))
    assert left == []
    with (
        pyro_ns.Manager("127.0.0.1", 0, tmp_path / "names") as names,
        service_of(names, services.Adder()) as service,
        api.Proxy(service.uri) as adder,
    ):
        assert adder.add(1, 1) == 2


def test_importing_the_modules_does_not_import_pyro() -> None:
    code = "import sys, servermgr.pyro_ns, servermgr.pyro_service; print({'Pyro5', 'serpent'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


# ---- what a service may be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "total"), [("adder", 103), ("Adder", 3), ("Marked", 3), ("PerCall", 3), ("Slotted", 3)]
)
def test_an_import_path_names_an_object_or_a_class(
    target: str, total: int, names: pyro_ns.Manager, services: Any
) -> None:
    folder = Path(services.__file__).parent
    with service_of(names, f"pyro_things:{target}", pythonpath=[folder]) as service, api.Proxy(service.uri) as adder:
        assert adder.add(1, 2) == total
        assert stopped(service) == []


@pytest.mark.parametrize("kind", ["Adder", "Marked", "Slotted"])
def test_an_object_is_pickled(kind: str, names: pyro_ns.Manager, services: Any) -> None:
    with service_of(names, getattr(services, kind)()) as service, api.Proxy(service.uri) as adder:
        assert adder.add(1, 2) == 3


def test_an_object_of_pythons_own_is_served_too(names: pyro_ns.Manager) -> None:
    with service_of(names, {"a": 1}) as service, api.Proxy(service.uri) as proxy:
        assert proxy.get("a") == 1


def test_an_object_that_marks_what_may_be_called_exposes_nothing_else(names: pyro_ns.Manager, services: Any) -> None:
    with service_of(names, services.Marked()) as service, api.Proxy(service.uri) as proxy:
        assert proxy.add(1, 2) == 3
        with pytest.raises(AttributeError, match="secret"):
            proxy.secret()


@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
def test_an_object_may_be_defined_in_the_main_program(as_module: bool, names: pyro_ns.Manager, tmp_path: Path) -> None:
    """As in the script that somebody tries this with first."""
    (tmp_path / "tries.py").write_text(
        "import sys\n"
        "import Pyro5.api\n"
        "from servermgr.pyro_service import Manager\n"
        "class Adder:\n"
        "    def add(self, a, b):\n"
        "        return a + b\n"
        "if __name__ == '__main__':\n"
        "    with Manager('mine', Adder(), '127.0.0.1', int(sys.argv[1])) as service:\n"
        "        with Pyro5.api.Proxy(service.uri) as adder:\n"
        "            print(adder.add(20, 3))\n"
    )
    argv = [sys.executable, *(["-m", "tries"] if as_module else ["tries.py"]), str(names.port)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("23\n", "")


# ---- who may see and reach it ---------------------------------------------------------------------------------


def test_both_listen_on_the_loopback_interface_alone(names: pyro_ns.Manager, services: Any) -> None:
    with service_of(names, services.Adder()) as service:
        for manager in (names, service):
            listening = [
                connection.laddr.ip
                for connection in psutil.Process(manager.process.pid).net_connections("inet")
                if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
            ]
            assert listening == ["127.0.0.1"]


def test_the_service_is_handed_over_in_a_file_that_nobody_else_can_read(names: pyro_ns.Manager, services: Any) -> None:
    """Not on the command line; and the file is gone when the service is ready."""
    path = _pyro_order.write(services.Adder(), {})
    try:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    finally:
        _pyro_order.remove(path)
    with service_of(names, services.Adder(4711)) as service:
        words = psutil.Process(service.process.pid).cmdline()
        assert "4711" not in " ".join(words)
        assert not os.path.exists(words[-1])


def test_a_file_that_others_could_have_written_is_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    path = tmp_path / "order"
    path.write_bytes(b'{"target": null, "path": [], "main": null}\n' + pickle.dumps(Trap()))
    starter, child = ROOT / "servermgr" / "_python_child.py", ROOT / "servermgr" / "_pyro_child.py"
    argv = [sys.executable, str(starter), "", str(child), "service", str(path)]
    path.chmod(0o644)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert "not this user's alone" in done.stderr
    assert not (tmp_path / "trapped").exists()
    path.chmod(0o600)  # the control: this is what would have happened
    subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert (tmp_path / "trapped").exists()


# ---- health ---------------------------------------------------------------------------------------------------


def test_health_calls_the_services_own(names: pyro_ns.Manager, services: Any) -> None:
    with service_of(names, services.Adder()) as service, api.Proxy(service.uri) as adder:
        before = adder.times_asked()
        assert before >= 1
        service.health()
        assert adder.times_asked() == before + 1


@pytest.mark.parametrize(
    ("kind", "words"), [("Ill", "ValueError: out of sorts"), ("Unsure", "own health check says no")]
)
def test_a_service_that_is_not_well_does_not_become_ready(
    kind: str, words: str, names: pyro_ns.Manager, services: Any
) -> None:
    service = service_of(names, getattr(services, kind)())
    service.start(wait=False)
    try:
        complaint(service, words)
        with pytest.raises(ReadyTimeoutError, match=words):
            service.ready_wait(1.0)
    finally:
        service.stop()


def test_health_needs_a_running_server(names: pyro_ns.Manager) -> None:
    with pytest.raises(WorkerError, match="pyro_service adder: is not running"):
        service_of(names, "pyro_things:adder").health()
    names.health()
    names.stop()
    with pytest.raises(WorkerError, match="pyro_ns: is not running"):
        names.health()


def test_health_is_not_fooled_by_another_object_under_the_name(names: pyro_ns.Manager, services: Any) -> None:
    with service_of(names, services.Adder()) as service:
        with api.locate_ns("127.0.0.1", names.port) as proxy:
            proxy.register("adder", "PYRO:impostor@127.0.0.1:1")
        with pytest.raises(WorkerError, match="another service is registered as 'adder'"):
            service.health()
        stopped(service)
        assert registered(names) == {"adder"}  # it was not this service's to remove


def test_a_name_server_that_hangs_is_not_waited_for(names: pyro_ns.Manager) -> None:
    names.process.send_signal(signal.SIGSTOP)
    tree = pids(names)
    with pytest.raises(ReadyTimeoutError, match="no Pyro name server"):
        names.ready_wait(0)
    assert living(tree) == []


# ---- what can be wrong ----------------------------------------------------------------------------------------


def test_a_name_is_taken_over_from_a_dead_service_and_not_from_a_living_one(
    names: pyro_ns.Manager, services: Any
) -> None:
    first, second = service_of(names, services.Adder(1)), service_of(names, services.Adder(2))
    with first:
        refusal(second, WorkerExitedError, "another service is registered as 'adder', and answers")
        with api.Proxy(first.uri) as adder:
            assert adder.add(0, 0) == 1
        first.process.kill()
        first.wait()
    assert registered(names) == {"adder"}
    with second, api.Proxy(second.uri) as adder:
        assert adder.add(0, 0) == 2


def test_a_busy_port_names_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        manager = pyro_ns.Manager("127.0.0.1", listener.getsockname()[1], tmp_path / "names")
        assert str(os.getpid()) in str(refusal(manager, AddressInUseError, "in use by"))


def test_a_directory_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    for place in ("file", "missing/names"):
        manager = pyro_ns.Manager("127.0.0.1", 0, tmp_path / place)
        refusal(manager, LaunchError, f"cannot use {tmp_path / place} as data_dir")


def test_registrations_that_are_not_a_database_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / pyro_ns.STORAGE).write_bytes(b"no database at all" * 100)
    refusal(pyro_ns.Manager("127.0.0.1", 0, tmp_path), WorkerExitedError, "file is not a database")


def test_without_a_name_server_a_service_does_not_start(free_port: int, services: Any) -> None:
    service = pyro_service.Manager("adder", services.Adder(), "127.0.0.1", free_port)
    error = refusal(service, WorkerExitedError, f"there is no Pyro name server at .*:{free_port}")
    assert len(error.output) == 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nothing_of_this_name:x", "No module named 'nothing_of_this_name'"),
        ("pyro_things:nothing", "has no attribute 'nothing'"),
        ("pyro_things:Nothing", "has no public methods"),
    ],
)
def test_an_import_path_to_nothing_is_one_clear_error(
    target: str, words: str, names: pyro_ns.Manager, services: Any
) -> None:
    folder = Path(services.__file__).parent
    refusal(service_of(names, target, pythonpath=[folder]), WorkerExitedError, words)


def test_what_cannot_be_pickled_or_named_is_said_at_once(names: pyro_ns.Manager) -> None:
    refusal(service_of(names, lambda: 1), LaunchError, "cannot be pickled: give an import path")
    with pytest.raises(ValueError, match="import path"):
        service_of(names, "no import path")
    assert not [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("servermgr-pyro-")]


def test_what_is_not_installed_is_named_with_its_remedy(tmp_path: Path) -> None:
    python = bare_python(tmp_path / "bare")
    remedy = r"Pyro5 is not installed for .*: pip install 'servermgr\[pyro\]'"
    refusal(pyro_ns.Manager("127.0.0.1", 0, tmp_path / "names", python=python), LaunchError, remedy)
    refusal(pyro_service.Manager("x", {}, "127.0.0.1", 1, python=python), LaunchError, remedy)


def test_an_owner_without_pyro_is_told_so_and_nothing_runs(tmp_path: Path) -> None:
    """Its interpreter need not be the one that serves, but it has to ask."""
    code = (
        "import sys; sys.modules['Pyro5'] = None\n"
        "from servermgr import pyro_ns\n"
        "manager = pyro_ns.Manager('127.0.0.1', 0, sys.argv[1])\n"
        "try: manager.start()\n"
        "except pyro_ns.LaunchError as error: print(error, manager.processes())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pyro_ns: Pyro5 is not installed for")
    assert done.stdout.endswith("[]\n")


# ---- ps, and the command line ---------------------------------------------------------------------------------


def test_the_process_names_show_in_ps(names: pyro_ns.Manager, services: Any) -> None:
    with service_of(names, services.Adder()) as service:
        for manager, title in ((names, "Pyro NameServer"), (service, "Pyro Service")):
            process = psutil.Process(manager.process.pid)
            assert title in " ".join(process.cmdline())
            if os.path.exists("/proc/self/comm"):
                assert process.name() == title


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_programs_run_until_they_are_told_to_stop(
    number: int, free_port: int, tmp_path: Path, services: Any
) -> None:
    folder = Path(services.__file__).parent
    (tmp_path / "tmp").mkdir()
    where = f"127.0.0.1:{free_port}"
    with program("pyro_ns", "--port", str(free_port), env={"TMPDIR": str(tmp_path / "tmp")}) as names:
        assert names.stdout is not None
        assert names.stdout.readline() == f"the Pyro name server is PYRO:Pyro.NameServer@{where} (Ctrl-C stops it)\n"
        with program("pyro_service", "adder", "pyro_things:adder", "--ns", where, cwd=folder) as service:
            assert service.stdout is not None
            assert service.stdout.readline() == f"pyro_things:adder is PYRONAME:adder@{where} (Ctrl-C stops it)\n"
            with api.Proxy(f"PYRONAME:adder@{where}") as adder:
                assert adder.add(1, 2) == 103
                pid = adder.who()[0]
            for child in (service, names):
                child.send_signal(number)
                out, err = child.communicate(timeout=30)
                assert (child.returncode, out, err) == (0, "", "")
    assert living([pid]) == []
    assert not list((tmp_path / "tmp").iterdir())


def test_the_programs_say_what_is_wrong(free_port: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for module, arguments, status, text in (
        ("pyro_ns", ["--port", "0", "--datadir", str(tmp_path / "file")], 1, "as data_dir"),
        ("pyro_ns", ["--port", "66666"], 2, "port must be"),
        ("pyro_service", ["x", "os:path", "--ns", f"127.0.0.1:{free_port}"], 1, "no Pyro name server"),
        ("pyro_service", ["x", "os.path"], 2, "import path"),
        ("pyro_service", ["x", "os:path", "--ns", "127.0.0.1:port"], 2, "port"),
    ):
        found, out, err = finished(module, *arguments)
        assert (found, out) == (status, "")
        assert text in err
        assert "Traceback" not in err


@pytest.mark.parametrize("module", ["pyro_ns", "pyro_service"])
def test_help_teaches_by_an_example(module: str) -> None:
    status, out, _ = finished(module, "--help")
    assert status == 0
    for words in (f"python -m servermgr.{module} ", "--process-name", "nobody for a password", "exit status:"):
        assert words in out
