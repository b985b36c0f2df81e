"""An identity means one process for ever, whoever has its number later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pid_reuse
import pytest
from stand_ins import ROOT, SLEEP, until
from wreckage import state_of

from servermgr import identity, platform
from servermgr.identity import Held, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="about Linux's pidfds and /proc")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def of(process: subprocess.Popen[bytes]) -> Identity:
    found = Identity.of(process.pid)
    assert found is not None
    return found


# ---- identities -----------------------------------------------------------------------------------------------


def test_an_identity_is_the_same_at_every_look(sleeper: subprocess.Popen[bytes]) -> None:
    first = of(sleeper)
    assert first == of(sleeper)
    assert first.is_alive()
    assert first.exists()


def test_two_processes_never_share_one(sleeper: subprocess.Popen[bytes]) -> None:
    """Also two that were started in the same clock tick."""
    others = [subprocess.Popen(SLEEP) for _ in range(5)]
    try:
        found = {of(process)[1:] for process in (sleeper, *others)}
        if of(sleeper).serial:
            assert len(found) == 6
        assert len({of(process) for process in (sleeper, *others)}) == 6
    finally:
        for process in others:
            process.kill()
            process.wait()


def test_it_survives_being_written_down(sleeper: subprocess.Popen[bytes]) -> None:
    assert Identity(*json.loads(json.dumps(of(sleeper)))) == of(sleeper)


def test_an_exec_does_not_change_it(tmp_path: Path) -> None:
    """The program is another, the process is not: a server may replace its program while it runs."""
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exec sleep 60"
    with subprocess.Popen(["sh", "-c", script]) as process:
        before = of(process)
        (tmp_path / "go").touch()
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the exec")
        assert of(process) == before
        process.kill()


def test_a_creation_time_is_known_without_reading_it() -> None:
    """Where no tick passes during the start, it is that tick; reading it may have to wait for the exec."""
    known = 0
    for _ in range(200):
        before = platform.start_now()
        pid = os.posix_spawn("/bin/true", ["true"], {})
        after = platform.start_now()
        stat = platform.read_stat(pid)
        os.waitpid(pid, 0)
        assert stat is not None
        assert before <= stat.start <= after
        known += before == after
    assert known > 100


def test_a_zombie_exists_and_does_not_live(sleeper: subprocess.Popen[bytes]) -> None:
    mine = of(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert mine.exists()
    assert not mine.is_alive()
    sleeper.wait()
    assert not mine.exists()
    assert Identity.of(mine.pid) is None


def test_a_stopped_process_lives(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: state_of(sleeper.pid) == "T", "its stop")
    assert of(sleeper).is_alive()


def test_another_creation_time_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    mine = of(sleeper)
    assert not mine._replace(start=mine.start - 1).is_alive()
    assert not mine._replace(start=mine.start + 1).is_alive()


def test_another_serial_number_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    """Within one clock tick nothing else tells them apart."""
    mine = of(sleeper)
    if not mine.serial:
        pytest.skip("this kernel has no serial numbers of processes (before 6.9)")
    assert not mine._replace(serial=mine.serial + 1).is_alive()
    assert mine._replace(serial=0).is_alive(), "noted where there are none: the creation time has to do"


# ---- held processes -------------------------------------------------------------------------------------------


def test_a_held_process_is_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    held = Held(sleeper.pid)
    assert held.pid == sleeper.pid
    assert held.is_alive()
    held.signal(signal.SIGTERM)
    assert sleeper.wait(5.0) == -signal.SIGTERM
    assert not held.is_alive()
    held.signal(signal.SIGTERM)  # it is gone: nothing happens
    held.close()
    held.close()


def test_a_process_that_was_let_go_of_is_identified_anew(sleeper: subprocess.Popen[bytes]) -> None:
    """Where descriptors are short: signalling still reaches it, and never whoever has its number later."""
    held = Held(sleeper.pid)
    held.close()
    held.signal(signal.SIGTERM)
    assert sleeper.wait(5.0) == -signal.SIGTERM
    held.signal(signal.SIGTERM)


def test_who_is_gone_cannot_be_held(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        Held(sleeper.pid)


def test_holding_costs_one_descriptor_and_gives_it_back(sleeper: subprocess.Popen[bytes]) -> None:
    before = os.listdir("/proc/self/fd")
    held = Held(sleeper.pid)
    assert not os.get_inheritable(held.pidfd)
    held.close()
    assert os.listdir("/proc/self/fd") == before


# ---- realms ---------------------------------------------------------------------------------------------------


def test_a_realm_is_the_same_for_all_who_see_the_same_pids() -> None:
    """Another process on this boot of this machine says the same; one in another pid namespace does not."""
    program = [sys.executable, "-c", "from servermgr.identity import realm; print(realm(), end='')"]
    assert subprocess.check_output(program, cwd=ROOT, text=True) == identity.realm()
    if os.geteuid() == 0:
        there = ["unshare", "--pid", "--fork", "--mount-proc", *program]
        other = subprocess.check_output(there, cwd=ROOT, text=True)
        assert other
        assert other != identity.realm()


def test_a_realm_ends_with_the_boot() -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in identity.realm().split("/")


# ---- pid reuse, forced ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What became of an innocent process that got exactly the pid, and the creation time, of a dead one."""
    if os.geteuid() != 0:
        pytest.skip("only root may choose the next pid (ns_last_pid)")
    # The shell is the first process of the namespace and reaps; the script must not be that one.
    command = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh", sys.executable]
    done = subprocess.run([*command, pid_reuse.__file__], capture_output=True, text=True, timeout=50.0, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no pid namespace can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    if "skip" in found:
        pytest.skip(found["skip"])
    return found


@pytest.mark.parametrize("case", [case.__name__ for case in pid_reuse.CASES])
def test_whoever_got_the_number_is_not_harmed(outcomes: dict[str, str], case: str) -> None:
    """A stale identity, a stale record, a stale pidfile: the number is right, the tick is, and it is another."""
    assert outcomes[case] == ""
