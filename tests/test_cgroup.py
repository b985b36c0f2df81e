"""Control groups as one more net: asked for, a tree is in one of its own, which the kernel never lets it leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from stand_ins import PATIENCE, as_nobody, content, sh, until
from wreckage import gone, is_alive, kill, killed, wreck

import servermgr
from servermgr import platform

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")

#: A daemon without any link to the tree that it comes from; its pid goes to a file.
TRACELESS = """
(setsid env -i sh -c 'echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 60' sh "$1" </dev/null >/dev/null 2>&1 &)
sleep 60
"""


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The switch is on; the directory in which groups are made."""
    monkeypatch.setenv("SERVERMGR_CGROUP", "on")
    path = platform.group_for("0" * 32)
    if not path:
        pytest.skip("no control groups of version 2 that this user may make")
    home = Path(path).parent
    before = set(ours(home))
    yield home
    assert set(ours(home)) == before


def ours(home: Path) -> list[Path]:
    return list(home.glob("servermgr-" + "[0-9a-f]" * 32))


def group_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def test_a_tree_is_in_a_group_of_its_own_from_its_first_moment_on(groups: Path, tmp_path: Path) -> None:
    command = ["sh", "-c", 'cat /proc/self/cgroup >"$1.new"; mv "$1.new" "$1"; sleep 60', "sh", str(tmp_path / "told")]
    with servermgr.CommandManager(command) as server:
        said = content(tmp_path / "told")
        (group,) = ours(groups)
        assert f"/{group.name}\n" in f"{said}\n"
        assert group_of(server.process.pid).endswith(group.name)
        assert group_of(os.getpid()) == group_of(psutil.Process(server.process.pid).ppid())  # the guardian is outside
    assert ours(groups) == []


def test_without_the_switch_there_is_none(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVERMGR_CGROUP")
    with servermgr.CommandManager(["sleep", "60"]) as server:
        assert ours(groups) == []
        assert group_of(server.process.pid) == group_of(os.getpid())


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_daemon_without_any_trace_ends_with_its_tree(ending: str, groups: Path, tmp_path: Path) -> None:
    with servermgr.CommandManager(sh(TRACELESS, tmp_path / "pid"), grace_period=0.2) as server:
        daemon = int(content(tmp_path / "pid"))
        assert getattr(server, ending)().survivors == ()
        gone(daemon)


def test_a_killed_guardian_leaves_nobody_in_the_group(groups: Path, tmp_path: Path) -> None:
    with servermgr.CommandManager(sh(TRACELESS, tmp_path / "pid"), crash_grace=0.2) as server:
        daemon = int(content(tmp_path / "pid"))
        kill(psutil.Process(server.process.pid).ppid())
        server.wait()
        gone(daemon)


@pytest.mark.parametrize("switch", ["on", "off"])
def test_the_sweep_finds_by_the_group_whom_nothing_else_gives_away(
    switch: str, groups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owner, guardian and nursery are killed at once. The control: without the group the same daemon gets away."""
    monkeypatch.setenv("SERVERMGR_CGROUP", switch)
    with wreck(sh(TRACELESS, tmp_path / "pid")) as doomed:
        daemon = int(content(tmp_path / "pid"))
        try:
            os.kill(doomed.guardian, signal.SIGSTOP)  # nobody of the three may see another one die
            killed(doomed.nursery, doomed.guardian)
            doomed.kill()
            found = {process.pid: process.evidence for tree in servermgr.sweep() for process in tree.processes}
            assert (found.get(daemon) == "containment") == (switch == "on")
            assert is_alive(daemon) == (switch == "off")
        finally:
            killed(daemon)


def test_where_no_group_can_be_made_the_start_goes_on(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "group_for", lambda marker: f"{groups}/not-there/{marker}")
    with servermgr.CommandManager(["sleep", "60"]) as server:
        until(lambda: server.process.poll() is None, "the server")
        assert group_of(server.process.pid) == group_of(os.getpid())


def test_without_a_group_of_its_own_nobody_is_looked_at(groups: Path) -> None:
    """Each look of a sweep asks; the record says whether there is anything to look for."""
    with servermgr.CommandManager(["sleep", "60"]) as server:
        (group,) = ours(groups)
        marker = group.name.removeprefix("servermgr-")
        assert platform.contained(marker, [str(group)]) == [server.process.pid]
        assert platform.contained(marker, []) == []


#: Becomes root for good, where it is started set-uid: its real user is another one then.
BECOMES_ROOT = '$| = 1; ($<, $>) = (0, 0); print "up as $< $>\\n"; sleep 60'
HOLDS_ROOT = """
import sys, servermgr
from servermgr.base import SurvivorsError
sys.stdin.readline()
server = servermgr.CommandManager([sys.argv[1], "-e", sys.argv[2]], grace_period=0.2, ready="log:^up as 0 0")
server.start()
print(server.process.pid)
try:
    print(server.stop().survivors)
except SurvivorsError as error:
    print([survivor.why for survivor in error.outcome.survivors])
"""


@pytest.fixture
def delegated(groups: Path) -> Iterator[Path]:
    """A group that an ordinary user may make others in, as systemd delegates one."""
    group = groups / f"delegated-{os.getpid()}"
    group.mkdir()
    for path in (group, group / "cgroup.procs"):
        os.chown(path, 65534, 65534)
    yield group
    for left in group.glob("servermgr-*"):
        left.rmdir()
    group.rmdir()


@pytest.fixture
def setuid_perl() -> Iterator[str]:
    """A copy of perl that runs as root whoever starts it."""
    perl = shutil.which("perl")
    if perl is None:
        pytest.skip("no perl")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103  # others start it
        path = os.path.join(folder, "perl")
        shutil.copy(perl, path)
        os.chmod(path, 0o4755)  # noqa: S103  # that is what it is for
        yield path


@pytest.mark.parametrize("switch", ["on", "off"])
def test_who_has_become_another_user_ends_with_the_group(switch: str, delegated: Path, setuid_perl: str) -> None:
    """No signal of this user reaches him: without the group he is a survivor."""
    python, options = as_nobody()
    options["env"] |= {"SERVERMGR_CGROUP": switch}
    command = [python, "-c", HOLDS_ROOT, setuid_perl, BECOMES_ROOT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as owner:
        (delegated / "cgroup.procs").write_text(str(owner.pid))
        out, err = owner.communicate("go on\n", timeout=PATIENCE)
    pid, _, said = out.partition("\n")
    try:
        assert said == ("()\n" if switch == "on" else "['this user may not signal it']\n"), err
        assert is_alive(int(pid)) == (switch == "off")
    finally:
        if is_alive(int(pid)):
            killed(int(pid))
    until(lambda: not (delegated / "cgroup.procs").read_text(), "the helpers of the owner to leave")
