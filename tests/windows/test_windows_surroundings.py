"""What stands around the trees on Windows: probes, output, ports, identity, the command line, the pytest plugin.

Run by `scripts/test-wine`, and by anyone who has a Windows.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "win32":
    pytest.skip("they are about Windows; scripts/test-wine runs them under Wine", allow_module_level=True)

from windows_programs import PATIENCE, SLEEP, bystander, end, python

import servermgr
from servermgr import platform, ports, sweeping
from servermgr.errors import AddressInUseError, ReadyTimeoutError, WorkerExitedError
from servermgr.identity import Held, Identity

if TYPE_CHECKING:
    from pathlib import Path

#: What is made of means that Windows does not have; nothing that is imported there asks for it.
POSIX_ONLY = {
    "servermgr._accounts_posix",
    "servermgr._nginx_account",
    "servermgr._pytest_reaping",
    "servermgr.guarded",
    "servermgr.nursery",
    "servermgr.request",
}
POSIX_ONLY_ROOMS = ("servermgr._guarded_", "servermgr.guardian", "servermgr._cli_step", "servermgr.platform.")


def test_every_module_that_is_not_posix_own_can_be_imported() -> None:
    failed = []
    for module in pkgutil.walk_packages(servermgr.__path__, "servermgr."):
        if module.name in POSIX_ONLY or module.name.endswith("__main__") or module.name.startswith(POSIX_ONLY_ROOMS):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            failed.append(f"{module.name}: {error}")
    assert not failed
    assert importlib.import_module(platform.STEP)


# ---- ready --------------------------------------------------------------------------------------------------------


def test_a_server_is_ready_by_http_on_a_port_that_was_drawn_and_its_address_is_taken() -> None:
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"]
    with servermgr.CommandManager(command, port=0, ready="http://127.0.0.1:{port}/") as server:
        assert server.port
        assert servermgr.address_in_use("127.0.0.1", server.port)
        with pytest.raises(AddressInUseError):
            servermgr.address_free_check("127.0.0.1", server.port)
    assert not servermgr.address_in_use("127.0.0.1", server.port)


def test_a_lease_is_one_program_s_alone_and_is_given_back() -> None:
    with ports.lease() as first, ports.lease() as second:
        assert first.port != second.port
        assert os.path.exists(first.path)
    assert not os.path.exists(first.path)


def test_a_server_that_ends_too_early_or_says_nothing_is_told_with_its_output() -> None:
    with pytest.raises(WorkerExitedError, match=r"exit status 4[\s\S]*no such thing"):
        servermgr.CommandManager(python("print('no such thing'); raise SystemExit(4)"), ready="log:ready").start()
    with pytest.raises(ReadyTimeoutError):
        servermgr.CommandManager(python(SLEEP), ready="log:ready").start(timeout=0.5)


# ---- output -------------------------------------------------------------------------------------------------------


def test_output_is_appended_by_the_whole_tree_and_none_writes_over_another(tmp_path: Path) -> None:
    """A file that is there already keeps what is in it; worker and child write behind one another, line ends as is."""
    log = tmp_path / "server.log"
    log.write_bytes(b"before\n")
    program = (
        "import subprocess, sys; print('worker', flush=True);"
        "subprocess.run([sys.executable, '-c', 'print(\"child\")']); print('again', flush=True)"
    )
    server = servermgr.CommandManager(python(program), output=log)
    server.start()
    server.wait()
    assert log.read_bytes().replace(b"\r", b"") == b"before\nworker\nchild\nagain\n"
    assert server.output_tail() == ["worker", "child", "again"]


def test_a_log_that_is_being_read_is_removed_when_it_has_been_read() -> None:
    """Windows does not remove what somebody has open: it is tried again."""
    server = servermgr.CommandManager(python(f"print('up', flush=True); {SLEEP}"), ready="log:up")
    server.start()
    log = server.log_path
    assert log is not None
    with open(log, "rb") as reader:
        timer = threading.Timer(0.5, reader.close)
        timer.start()
        server.stop()
        timer.join()
    give_up = time.monotonic() + 10.0  # the next try comes a moment after the reader has gone
    while os.path.exists(log) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not os.path.exists(log)


def test_output_may_be_an_open_file_or_nothing(tmp_path: Path) -> None:
    with open(tmp_path / "own.log", "wb") as own:
        servermgr.CommandManager(python("print('mine')"), output=own).start()  # ends by itself
        server = servermgr.CommandManager(python("print('lost')"), output=subprocess.DEVNULL)
        server.start()
        assert server.wait().status == 0
        assert server.output_tail() == []


# ---- identity -----------------------------------------------------------------------------------------------------


def test_a_process_that_is_held_is_told_from_any_other() -> None:
    process = bystander()
    held = Held(process.pid)
    try:
        identity = held.identity
        assert identity.is_alive()
        assert not identity._replace(start=identity.start + 1).is_alive()
        assert Identity.of(os.getpid()) not in (None, identity)
        with pytest.raises(platform.Unheard):
            held.signal(15)
        assert held.is_alive(), "a polite signal that cannot be sent kills nobody"
        held.signal(platform.SIGKILL)
        assert platform.wait_readable([held.pidfd], PATIENCE)
        assert not held.is_alive()
        held.signal(platform.SIGKILL)  # it is gone: nothing
    finally:
        held.close()
        end(process)


def test_nobody_has_the_number_of_nobody() -> None:
    with pytest.raises(ProcessLookupError):
        Held(0xFFFFFFF0)
    assert not platform.is_alive(0xFFFFFFF0)


def test_descendants_are_found_while_their_parents_live() -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    process = subprocess.Popen(python(program), stdin=subprocess.DEVNULL)
    try:
        found: dict[int, int] = {}
        for _ in range(200):
            found = platform.descendants(process.pid)
            if found:
                break
            platform.wait_readable([Held(process.pid).pidfd], 0.05)
        assert list(found.values()) == [process.pid]
        assert process.pid in platform.descendants(os.getpid())
    finally:
        for pid in [*platform.descendants(process.pid)]:
            Held(pid).signal(platform.SIGKILL)
        end(process)


# ---- the command line ---------------------------------------------------------------------------------------------


def command_line(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servermgr", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=50)


def test_servers_are_listed_and_ended_by_the_command_line() -> None:
    """`ps` shows the tree of a living owner, and `stop` ends it from outside, by its job."""
    server = servermgr.CommandManager(python(SLEEP), name="listed")
    server.start()
    (listed,) = json.loads(command_line("ps", "--json").stdout)
    assert (listed["name"], listed["state"]) == ("listed", "live")
    assert [process["pid"] for process in listed["processes"]] == [server.process.pid]
    assert command_line("stop", "listed").returncode == 0
    assert server.wait().status == 1
    assert sweeping.recorded() == []


def test_a_step_has_its_streams_and_status_and_leaves_nobody() -> None:
    """`run` names and ends what the command leaves, and exits as it did."""
    child = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], stdout=-3, stderr=-3)"
    step = command_line("run", "--", *python(f"import subprocess, sys; {child}; print('said'); sys.exit(6)"))
    assert (step.returncode, step.stdout.split()) == (6, ["said"])
    assert "left behind" in step.stderr
    assert command_line("run", "--", "no-such-program-of-ours").returncode == 127


def test_a_step_that_takes_too_long_is_ended() -> None:
    step = command_line("run", "--timeout", "1", "--json", "--", *python(SLEEP))
    assert step.returncode == 124
    assert json.loads(step.stderr.splitlines()[-1])["timed_out"]


def test_doctor_says_what_holds() -> None:
    found = command_line("doctor", "--json")
    findings = json.loads(found.stdout)
    assert found.returncode == 0, findings
    assert "had left its parent" in str(findings)
    assert not [finding for finding in findings if finding["holds"] == "missing"]


# ---- the pytest plugin --------------------------------------------------------------------------------------------


def test_the_plugin_gives_servers_to_tests_and_tells_of_what_they_leave(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(
        f"""
import subprocess, sys
from servermgr import CommandManager
from servermgr.pytest_plugin import server_fixture

command = [sys.executable, "-c", "print('up', flush=True); {SLEEP}"]
server = server_fixture(lambda: CommandManager(command, ready="log:up"))

def test_server(server):
    assert server.process.poll() is None

def test_leaves():
    subprocess.Popen([sys.executable, "-c", "{SLEEP}"], stdout=-3, stderr=-3)
"""
    )
    options = ["-p", "servermgr.pytest_plugin", "-p", "no:cacheprovider", "--servermgr-leaks=fail", "-c", os.devnull]
    command = [sys.executable, "-m", "pytest", "-q", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=50)
    assert "1 failed, 1 passed" in done.stdout or "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "python.exe" in done.stdout
