"""The ledger: there before the command runs, gone with the tree, believed where it is ours, and never in the way."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stand_ins import ROOT, SLEEP, as_nobody, content, run_script, script_output, sh, until
from wreckage import (
    DAEMON,
    MARKER,
    QUICK,
    fields,
    gone,
    is_alive,
    mode_of,
    nobody,
    plant,
    plant_text,
    record_of,
    worker_is_recorded,
    wreck,
)

import servermgr
from servermgr import ledger, platform
from servermgr.base import Manager
from servermgr.guardian.record import Record, recorded_worker
from servermgr.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guardians hold whole trees on Linux")

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of the test's own, which is not there yet."""
    path = tmp_path / "state" / "ledger"
    monkeypatch.setenv(ledger.DIRECTORY_VARIABLE, str(path))
    return path


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that must live on."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        assert process.poll() is None
        process.kill()


def is_empty(folder: Path) -> bool:
    return not folder.exists() or list(folder.iterdir()) == []


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can do this")


# ---- what a record is -----------------------------------------------------------------------------------------

LOOKS_AT_ITSELF = 'cat "$SERVERMGR_LEDGER/$SERVERMGR_TREE.json" >"$1/seen"; echo $PPID >"$1/guardian"; exec sleep 60'


def test_the_record_is_there_before_the_command_runs(folder: Path, tmp_path: Path) -> None:
    """The command's very first action finds it, whole, with the guardian that is the command's parent."""
    with servermgr.CommandManager(sh(LOOKS_AT_ITSELF, tmp_path)):
        guardian = int(content(tmp_path / "guardian"))
        first, *later = (tmp_path / "seen").read_text().splitlines()
        seen = json.loads(first)
    assert seen["guardian"][0] == guardian
    assert seen["owner"] == list(Identity.of(os.getpid()) or ())
    assert seen["worker"] is None
    assert [set(json.loads(line)) for line in later] in ([], [{"worker", "session"}])


def test_a_record_says_what_is_known_of_the_tree(folder: Path, tmp_path: Path, free_port: int) -> None:
    """Owner, guardian and worker by identity, boot, marker, command, pidfile, ports, log, manners, time of start."""
    before = time.monotonic()
    manager = Manager("known")
    manager.spawn(SLEEP, address=("127.0.0.1", free_port), stop_signal=signal.SIGINT, grace_period=7.0, crash_grace=0.2)
    record = record_of("known")
    assert record.owner == Identity.of(os.getpid())
    assert record.guardian.is_alive()
    assert record.worker == Identity.of(manager.process.pid)
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in record.realm
    assert os.readlink("/proc/self/ns/pid") in record.realm
    environment, marked = Path(f"/proc/{manager.process.pid}/environ"), f"SERVERMGR_TREE={record.marker}".encode()
    until(
        lambda: marked in environment.read_bytes().split(b"\0"), "the mark"
    )  # none to read until the exec is complete
    assert record.session == os.getsid(manager.process.pid)
    assert record.argv == ("sleep", "60")
    assert record.pidfile is None
    assert record.ports == (f"127.0.0.1:{free_port}",)
    assert (record.log, record.removes_log) == (manager.log_path, True)
    assert (record.keep, record.stop_signal, record.grace_period, record.crash_grace) == (False, 2, 7.0, 0.2)
    assert before <= record.started <= time.monotonic()
    assert record.path == str(folder / f"{record.marker}.json")
    manager.stop()


def test_the_record_of_a_daemon_learns_who_it_is(folder: Path, tmp_path: Path) -> None:
    """Once the pidfile names it."""
    pidfile = tmp_path / "pid"
    with servermgr.CommandManager(sh(DAEMON, pidfile), name="daemon", pidfile=pidfile, output=tmp_path / "log"):
        worker_is_recorded("daemon", int(content(pidfile)))
        assert record_of("daemon").worker == Identity.of(int(content(pidfile)))
        assert record_of("daemon").pidfile == str(pidfile)
        assert (record_of("daemon").log, record_of("daemon").removes_log) == (str(tmp_path / "log"), False)


def test_two_trees_have_two_records(folder: Path) -> None:
    """Also of one name; they are listed oldest first."""
    managers = [servermgr.CommandManager(SLEEP, name="twin") for _ in range(2)]
    with managers[0], managers[1]:
        found = servermgr.recorded()
        assert [record.worker.pid for record in found if record.worker] == [each.process.pid for each in managers]
        assert found[0].marker != found[1].marker
    assert is_empty(folder)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_look_into_it(folder: Path, umask: int) -> None:
    """The directory has mode 0700 and a record 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        with servermgr.CommandManager(SLEEP, name="private"):
            assert mode_of(folder) == 0o700
            assert [mode_of(path) for path in folder.iterdir()] == [0o600]
            assert os.stat(folder).st_uid == os.geteuid()
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["sh", "-c", "exec sleep 60", "x" * 100_000], {}),
        (["sh", "-c", "exec sleep 60", *["\U0001f40d\udcff"] * 20_000], {}),
        (SLEEP, {"grace_period": 1e6, "crash_grace": 1e6}),
        (SLEEP, {"grace_period": float("inf"), "crash_grace": float("inf")}),
        (SLEEP, {"name": 'a "name": [\n, {}\\ \U0001f40d \udcff'}),
        (SLEEP, {"name": "nul\0nul"}),
    ],
    ids=["long", "many", "patient", "endless", "strange", "nul"],
)
def test_a_record_can_always_be_read_back(folder: Path, argv: list[str], options: dict[str, Any]) -> None:
    """Whatever a program is started with: a record that cannot be read would be none."""
    manager = servermgr.CommandManager(argv, **{"name": "odd"} | options)
    manager.start()
    try:
        (record,) = servermgr.recorded()
        assert record.name == manager.name.replace("\0", "")
        assert record.argv[:2] == tuple(argv[:2])
        assert record.worker is not None
        assert record.worker.pid == manager.process.pid
        assert max(record.grace_period, record.crash_grace) <= 3600.0
    finally:
        manager.process.kill()
        manager.stop()


# ---- when it goes ---------------------------------------------------------------------------------------------


def test_stop_removes_it(folder: Path) -> None:
    with servermgr.CommandManager(SLEEP):
        assert not is_empty(folder)
    assert is_empty(folder)


def test_wait_removes_it(folder: Path) -> None:
    manager = servermgr.CommandManager(sh("sleep 60 & sleep 0.1"), **QUICK)
    manager.start()
    assert not is_empty(folder)
    manager.wait()
    assert is_empty(folder)


def test_the_end_of_the_tree_removes_it(folder: Path) -> None:
    """Nobody has to ask: the guardian does it."""
    manager = servermgr.CommandManager(["sleep", "0.1"])
    manager.start()
    assert not is_empty(folder)
    until(lambda: is_empty(folder), "the end of the record")
    manager.wait()


def test_it_stays_as_long_as_anybody_of_the_tree_lives(folder: Path, tmp_path: Path) -> None:
    manager = servermgr.CommandManager(sh('sleep 60 & echo $! >"$1/child"', tmp_path))
    manager.start(wait=False)
    assert manager.process.wait(5.0) == 0
    child = int(content(tmp_path / "child"))
    assert not is_empty(folder)
    os.kill(child, signal.SIGKILL)
    until(lambda: is_empty(folder), "the end of the record")
    manager.wait()


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["no-such-program-at-all"], {}),
        (SLEEP, {"cwd": "/no/such/directory"}),
        (SLEEP, {"ready": lambda: False}),
        (["false"], {"ready": lambda: False}),
    ],
    ids=["program", "directory", "not ready", "ended"],
)
def test_a_failed_start_removes_it(folder: Path, argv: list[str], options: dict[str, Any]) -> None:
    """On the error nothing is left of it, neither for the next look nor later."""
    manager = servermgr.CommandManager(argv, **QUICK | options)
    with pytest.raises(servermgr.WorkerError):
        manager.start(timeout=0.2)
    assert is_empty(folder)
    time.sleep(0.1)
    assert is_empty(folder)


def test_the_owners_death_removes_it(folder: Path) -> None:
    with wreck(SLEEP) as doomed:
        assert not is_empty(folder)
        doomed.kill()
        until(lambda: is_empty(folder), "the end of the record")
        gone(doomed.told["pid"], doomed.guardian, doomed.nursery)


# ---- where it is ----------------------------------------------------------------------------------------------

PRINTS_ITS_RECORD = """
import servermgr
with servermgr.CommandManager(["sleep", "60"]):
    print(servermgr.recorded()[0].path)
"""


def test_it_is_in_the_users_state_directory(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("SERVERMGR_LEDGER", "XDG_STATE_HOME")}
    env |= {"PYTHONPATH": str(ROOT)}
    home = script_output(PRINTS_ITS_RECORD, env=env | {"HOME": str(tmp_path)})
    assert os.path.dirname(home) == str(tmp_path / ".local/state/servermgr/ledger")
    state = script_output(PRINTS_ITS_RECORD, env=env | {"XDG_STATE_HOME": str(tmp_path / "s")})
    assert os.path.dirname(state) == str(tmp_path / "s/servermgr/ledger")
    assert is_empty(tmp_path / ".local/state/servermgr/ledger")


def test_it_is_where_the_environment_says(folder: Path) -> None:
    with servermgr.CommandManager(SLEEP, name="there"):
        assert os.path.dirname(record_of("there").path) == str(folder)


def test_without_a_home_no_directory_is_made_up() -> None:
    """A `~` that nobody can expand would become a folder wherever the program happens to be."""
    interpreter, options = as_nobody()
    env = {name: value for name, value in options["env"].items() if name not in ("SERVERMGR_LEDGER", "HOME")}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: S103  # for a user of its own, who is in no list of users
        nobody_known = options | {"user": 54321, "group": 54321, "cwd": folder, "env": env | {"TMPDIR": folder}}
        done = run_script(RUNS_TWO, interpreter=interpreter, **nobody_known)
        assert done.stdout == "ran ran\n", done.stderr
        assert os.listdir(folder) == []
    (said,) = done.stderr.splitlines()
    assert said.startswith("no record of running servers can be kept in ~/.local/state/servermgr/ledger (")


# ---- what is not believed -------------------------------------------------------------------------------------


def without(name: str) -> str:
    return json.dumps({key: value for key, value in fields().items() if key != name})


def but(**changes: Any) -> str:
    return json.dumps(fields(**changes))


NO_PIDS: list[Any] = [0, 1, -1, -2, True, None, "2", 2.0, 2**31, 2**70, [2], {}]
NO_IDENTITIES: list[Any] = ["2", 2, {}, [], [2, 1], [2, 1, 1, 1], [2, -1, 1], [2, 1, -1], [2, 1, 2**65], [2, None, 1]]
WRONG_TYPES: dict[str, list[Any]] = {
    "version": [0, 2, None, "1"],
    "name": [None, 1, [], "nul\0nul"],
    "marker": [None, 1, "", MARKER[:-1], MARKER + "0", MARKER.upper(), "../../../../../../tmp/somewhere/x", "g" * 32],
    "realm": [None, 1, []],
    "argv": [None, 1, [1], [None], ["nul\0nul"]],
    "pidfile": [1, [], "nul\0nul"],
    "ports": [None, 1, [1]],
    "log": [1, [], "nul\0nul"],
    "session": [None, -1, True, "1", 2**70],
    "stop_signal": [None, -1, True, 65, "TERM"],
    "grace_period": [None, -1, True, "1", float("nan"), float("-inf")],
    "crash_grace": [None, -1, True, "1", float("nan")],
    "started": [None, -1, "now"],
    "owner": [None, *NO_IDENTITIES, *([pid, 1, 1] for pid in NO_PIDS if not (pid == 1 and pid is not True))],
    "guardian": [None, *NO_IDENTITIES, *([pid, 1, 1] for pid in NO_PIDS)],
    "worker": [*NO_IDENTITIES, *([pid, 1, 1] for pid in NO_PIDS)],
}
GOOD = but()
CHANGE = '{"worker": [77, 7, 7], "session": 78}'
NONSENSE: dict[str, str | bytes] = {
    "empty": "",
    "truncated": GOOD[:-20],
    "cut to one byte": "{",
    "followed by another": GOOD + GOOD,
    "followed by another on a line": f"{GOOD}\n{GOOD}\n",
    "followed by a list": f"{GOOD}\n[]\n",
    "followed by nonsense": f"{GOOD}\nx\n",
    "followed by an empty line": f"{GOOD}\n\n",
    "followed by half a change": f'{GOOD}\n{{"session": 78}}\n',
    "followed by a change of more": f'{GOOD}\n{CHANGE[:-1]}, "keep": true}}\n',
    "followed by a change to nobody": f"{GOOD}\n{CHANGE.replace('77', '-77')}\n",
    "nonsense before a change": f"{GOOD}\nx\n{CHANGE}\n",
    "not a text": b"\xff\xfe\0\x01" * 100,
    "zeros": b"\0" * 5000,
    "a list": "[]",
    "a number": "1",
    "a text": '"version"',
    "null": "null",
    "nested deeply": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"version":' * 50_000,
    "a number of many digits": but()[:-1] + f', "x": {"9" * 10_000}}}',
    "huge": " " * 10_000_000 + GOOD,
    "huge name": but(name="x" * 10_000_000),
}


def unbelieved(folder: Path, path: str) -> None:
    """Nobody sees the record, nothing comes of it, and it is left for its owner to look at."""
    assert servermgr.recorded() == []
    assert servermgr.sweep() == []
    assert os.path.lexists(path)


def test_the_last_change_counts_that_is_complete(folder: Path) -> None:
    """A line without its end is being written; with it, the one is believed that came last."""
    other = CHANGE.replace("77", "99")
    for text, pid in (
        (f"{GOOD}\n{CHANGE}\n", 77),
        (f"{GOOD}\n{CHANGE}\n{other}\n", 99),
        (f"{GOOD}\n{CHANGE}\n{other}", 77),
    ):
        path = plant_text(text)
        (record,) = servermgr.recorded()
        assert (record.name, record.worker, record.session) == ("planted", Identity(pid, 7, 7), 78)
        assert recorded_worker(os.fsencode(path)) == pid


def test_a_record_is_whole_whenever_it_is_read(folder: Path) -> None:
    """While it changes a thousand times; it does not grow without end meanwhile."""
    path = plant_text(GOOD)
    size = os.path.getsize(path)
    draft = GOOD[: GOOD.index('"guardian"')]
    script = f"from servermgr.guardian.record import Record; record = Record({path.encode()!r}, {draft.encode()!r})\n"
    script += "for number in range(2000): record.write((os.getpid(), os.getppid())[number % 2], number % 2)\n"
    writer = subprocess.Popen(
        [sys.executable, "-c", f"import os\n{script}"], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    seen = set()
    try:
        while writer.poll() is None:
            record = ledger.read(path)
            assert record is not None
            seen.add((None if record.worker is None else record.worker.pid, record.session))
            assert os.path.getsize(path) < size + 20_000
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == 0
    assert {(writer.pid, 0), (os.getpid(), 1)} <= seen <= {(writer.pid, 0), (os.getpid(), 1), (None, 0)}


def test_the_good_one_is_believed(folder: Path) -> None:
    """So that what follows shows something: the record that is spoilt below is one that a sweep takes up."""
    path = plant_text(GOOD)
    assert [record.name for record in servermgr.recorded()] == ["planted"]
    assert [tree.verdict for tree in servermgr.sweep()] == ["nothing left"]
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_not_believed(folder: Path, kind: str) -> None:
    unbelieved(folder, plant_text(NONSENSE[kind]))


@pytest.mark.parametrize("name", fields())
def test_a_record_without_one_of_its_entries_is_not_believed(folder: Path, name: str) -> None:
    unbelieved(folder, plant_text(without(name)))


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_an_entry_of_a_wrong_kind_is_not_believed(folder: Path, name: str) -> None:
    """No pid 0, 1, -1 or true above all: kill(2) reads some of them as whole groups."""
    for value in WRONG_TYPES[name]:
        path = plant_text(but(**{name: value}))
        assert servermgr.recorded() == [], value
        unbelieved(folder, path)


def test_a_record_under_another_name_than_its_marker_is_not_believed(folder: Path) -> None:
    for name in (f"{'0' * 32}.json", f"{MARKER}.json.json", f"{MARKER}", f".{MARKER}.json", f"{MARKER.upper()}.json"):
        path = plant_text(GOOD, name=name)
        unbelieved(folder, path)
        os.unlink(path)


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o666, 0o622])
def test_a_record_that_others_may_write_is_not_believed(folder: Path, mode: int) -> None:
    unbelieved(folder, plant_text(GOOD, mode=mode))


def test_a_record_of_another_user_is_not_believed(folder: Path) -> None:
    needs_root()
    path = plant_text(GOOD)
    os.chown(path, NOBODY, NOBODY)
    unbelieved(folder, path)


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither to a good record, nor into nowhere, nor to itself."""
    plant_text(GOOD)
    os.rename(folder / f"{MARKER}.json", tmp_path / "good.json")
    for target in (tmp_path / "good.json", "/dev/zero", "/nowhere", f"{MARKER}.json"):
        path = folder / f"{MARKER}.json"
        os.symlink(target, path)
        unbelieved(folder, str(path))
        os.unlink(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_does_not_hold_up_anyone(folder: Path, make: Callable[[str], None]) -> None:
    """A FIFO that nobody writes to would be waited for, for ever."""
    path = plant_text(GOOD)
    os.unlink(path)
    make(path)
    unbelieved(folder, path)


def test_what_has_nothing_to_do_with_us_stays(folder: Path) -> None:
    mine = f"x.partial-{os.getpid()}"
    for name in ("README", ".hidden", "x.json", "x.partial-", "x.partial-²", "x.partial-12x", mine):
        unbelieved(folder, plant_text(GOOD, name=name))
    assert len(list(folder.iterdir())) == 7


def test_a_half_written_record_goes_with_its_writer(folder: Path) -> None:
    """A guardian that was killed at that very moment leaves one behind."""
    with subprocess.Popen(["true"]) as writer:
        writer.wait()
    path = plant_text(GOOD[:50], name=f"{MARKER}.json.partial-{writer.pid}")
    assert servermgr.sweep(dry_run=True) == []
    assert os.path.exists(path)
    assert servermgr.sweep() == []
    assert not os.path.exists(path)


# ---- which directory is not believed --------------------------------------------------------------------------


def linked(folder: Path) -> None:
    (folder.parent / "real").mkdir(mode=0o700)
    os.symlink("real", folder)


def of_another_user(folder: Path) -> None:
    needs_root()
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


def a_file(folder: Path) -> None:
    folder.touch(mode=0o600)


def with_mode(mode: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        folder.chmod(mode)

    return make


def below_a_file(folder: Path) -> None:
    folder.parent.rmdir()
    folder.parent.touch()


UNTRUSTED = {
    "a link": (linked, "it is a link"),
    "another user's": (of_another_user, f"it belongs to uid {NOBODY}"),
    "a file": (a_file, "File exists"),
    "writable for a group": (with_mode(0o770), r"others may write or look into it \(mode 770\)"),
    "readable for all": (with_mode(0o755), r"others may write or look into it \(mode 755\)"),
    "like /tmp": (with_mode(0o1777), r"others may write or look into it \(mode 1777\)"),
    "below a file": (below_a_file, "Not a directory"),
}


@pytest.mark.parametrize("kind", UNTRUSTED)
def test_without_a_directory_of_its_own_the_server_runs_unrecorded(
    folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """It is said once, with the reason and the remedy; and nothing is written, or read, there."""
    make, reason = UNTRUSTED[kind]
    folder.parent.mkdir()
    make(folder)
    for _ in range(2):
        with servermgr.CommandManager(SLEEP) as manager:
            assert manager.process.poll() is None
            assert servermgr.recorded() == []
            assert list(folder.parent.rglob("*.json")) == []
        assert manager.process is None
    (said,) = [record for record in caplog.records if record.name == "servermgr"]
    assert said.levelno == logging.WARNING
    assert "no record of running servers can be kept in" in said.getMessage()
    assert re.search(reason, said.getMessage())
    assert "set SERVERMGR_LEDGER to a directory of your own" in said.getMessage()


@pytest.mark.parametrize("kind", ["a link", "another user's", "writable for a group"])
def test_records_in_an_untrusted_directory_are_not_believed(folder: Path, kind: str) -> None:
    folder.parent.mkdir()
    UNTRUSTED[kind][0](folder)
    (folder / f"{MARKER}.json").write_text(GOOD)
    (folder / f"{MARKER}.json").chmod(0o600)
    unbelieved(folder, str(folder / f"{MARKER}.json"))


# ---- where nothing can be written -----------------------------------------------------------------------------

RUNS_TWO = """
import os, sys, logging
logging.basicConfig(format="%(message)s")
import servermgr
done = []
for _ in range(2):
    with servermgr.CommandManager(["sleep", "60"], name="runs") as manager:
        pid = manager.process.pid
        done.append("ran" if manager.process.poll() is None else "died")
    assert not os.path.exists(f"/proc/{pid}"), pid
print(*done)
"""


WRITES_ON = """
import os, sys
from servermgr.guardian.record import Record
path = os.fsencode(sys.argv[1]) + b"/x.json"
record = Record(path, b'{"x": "", ')
record.write(0, 0)
missing = 4096 - os.path.getsize(path)
record.remove()
record = Record(path, b'{"x": "%s", ' % (b"y" * missing))
record.write(0, 0)
with open(path, "rb") as file:
    before = file.read()
record.write(1, 1)
with open(path, "rb") as file:
    print(len(before), record.failure, file.read() == before)
"""


def in_a_mount(prepare: str, directory: Path, program: str = RUNS_TWO) -> subprocess.CompletedProcess[str]:
    """Run two servers, one after the other, where `prepare` has made `directory` a mount of its own."""
    needs_root()
    directory.mkdir(parents=True)
    script = f'set -e; cd "$1"; {prepare}; cd /; status=0; "$2" -c "$3" "$1" || status=$?; ls -A "$1" >&2; exit $status'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", directory, sys.executable, program]
    env = os.environ | {"PYTHONPATH": str(ROOT), "SERVERMGR_LEDGER": str(directory)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=40.0, check=False)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private mounts can be made here: {done.stderr.strip()}")
    return done


MOUNT = 'mount -t tmpfs -o mode=700,size={size} none "$1"; cd "$1"'
DISKS = {
    # name: how it is made, whether the complaint must name a full disk
    "full": (MOUNT.format(size="4k") + "; head -c 4096 /dev/zero >fill; chmod 600 fill", "fill\n"),
    "no inode left": (MOUNT.format(size="64k,nr_inodes=2") + "; touch fill", "fill\n"),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_full_disk_costs_the_record_and_never_the_server(folder: Path, kind: str) -> None:
    """It is said once; no partial file is left."""
    prepare, left = DISKS[kind]
    done = in_a_mount(prepare, folder)
    assert (done.stdout, done.returncode) == ("ran ran\n", 0), done.stderr
    said, _, listing = done.stderr.partition("\n")
    assert said.startswith(f"a running server could not be recorded in {folder} (")
    assert "o space left" in said or "disk is full" in said
    assert listing == left


def test_a_full_disk_leaves_the_first_line_as_it_is(folder: Path) -> None:
    """There is room for it, and for nothing behind it."""
    done = in_a_mount(MOUNT.format(size="4k"), folder, WRITES_ON)
    assert (done.stdout, done.returncode) == ("4096 No space left on device True\n", 0), done.stderr
    assert done.stderr == "x.json\n"


def test_a_read_only_directory_costs_the_record_and_never_the_server(folder: Path) -> None:
    done = in_a_mount(f'{MOUNT.format(size="64k")}; mount -o remount,ro none "$1"', folder)
    assert (done.stdout, done.returncode) == ("ran ran\n", 0), done.stderr
    expected = (
        f"a running server could not be recorded in {folder} (Read-only file system); see servermgr.ledger.prepare"
    )
    assert done.stderr == f"{expected}\n"


def test_a_directory_that_goes_away_is_made_again(folder: Path) -> None:
    first, second = (servermgr.CommandManager(SLEEP, name=name) for name in ("first", "second"))
    with first:
        shutil.rmtree(folder)
        with second:
            assert [record.name for record in servermgr.recorded()] == ["second"]
    assert is_empty(folder)


# ---- many at once ---------------------------------------------------------------------------------------------

CYCLES = """
import sys, servermgr
for number in range(20):
    manager = servermgr.CommandManager(["sleep", "60"], name=f"{sys.argv[1]}-{number}")
    manager.start()
    (mine,) = [record for record in servermgr.recorded() if record.name == manager.name]
    assert mine.worker.pid == manager.process.pid
    manager.stop()
    assert not [record for record in servermgr.recorded() if record.name == manager.name]
"""


def test_eight_programs_share_one_ledger(folder: Path) -> None:
    """Each starts and stops twenty servers, and sweeps: no error, no foreign record touched, nothing left."""
    with servermgr.CommandManager(SLEEP, name="long") as manager:
        programs = [
            subprocess.Popen([sys.executable, "-c", CYCLES, str(number)], cwd=ROOT, stderr=subprocess.PIPE)
            for number in range(8)
        ]
        complaints = [program.communicate(timeout=50.0)[1].decode() for program in programs]
        assert complaints == [""] * 8
        assert [program.returncode for program in programs] == [0] * 8
        assert manager.process.poll() is None
        assert [path.name for path in folder.iterdir()] == [os.path.basename(record_of("long").path)]
    assert is_empty(folder)


# ---- other boots, other places --------------------------------------------------------------------------------


def test_records_of_an_earlier_boot_go_and_their_numbers_mean_nobody(
    folder: Path, bystander: subprocess.Popen[bytes]
) -> None:
    """They go with the run's log, and whoever has such a number now is not harmed."""
    host, _, namespace = fields()["realm"].split("/")
    everyone = Identity.of(bystander.pid)
    log = os.path.join(tempfile.gettempdir(), "servermgr-earlier-abcd1234.log")
    os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0o600))
    realm = f"{host}/00000000-0000-0000-0000-000000000000/{namespace}"
    path = plant(realm=realm, owner=nobody(), guardian=everyone, worker=everyone, log=log, removes_log=True)
    assert servermgr.recorded() == []
    assert servermgr.sweep(dry_run=True) == []
    assert os.path.exists(path)
    assert servermgr.sweep() == []
    assert not os.path.exists(path)
    assert not os.path.exists(log)


def elsewhere() -> dict[str, str]:
    host, boot, namespace = fields()["realm"].split("/")
    return {
        "another host": f"not-{host}/00000000-0000-0000-0000-000000000000/{namespace}",
        "another host of a longer name": f"{host}2/00000000-0000-0000-0000-000000000000/{namespace}",
        "a clone of this machine": f"not-{host}/{boot}/{namespace}",
        "another pid namespace": f"{host}/{boot}/pid:[1]",
        "no boot": f"{host}//{namespace}",
        "nothing": "",
        "half of it": host,
    }


@pytest.mark.parametrize("kind", elsewhere())
def test_records_of_other_places_are_their_own_business(
    folder: Path, bystander: subprocess.Popen[bytes], kind: str
) -> None:
    """A directory may be shared: the numbers mean nothing here, and the record is not ours to remove."""
    everyone = Identity.of(bystander.pid)
    path = plant(realm=elsewhere()[kind], guardian=everyone, worker=everyone)
    unbelieved(folder, path)


def test_a_second_look_costs_no_look_at_every_process(folder: Path) -> None:
    """A sweep with nothing but living owners reads the ledger, and of the processes only those that it names."""
    needs = ["strace", "-f", "-e", "trace=openat", "-o", str(folder.parent.parent / "trace")]
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with servermgr.CommandManager(SLEEP, name="here"):
        subprocess.run([*needs, sys.executable, "-c", "import servermgr; servermgr.sweep()"], cwd=ROOT, check=True)
        seen = (folder.parent.parent / "trace").read_text()
    assert f'"/proc/{os.getpid()}/stat"' in seen
    assert '"/proc/1/environ"' not in seen
    assert seen.count("/environ") == 0


def test_clean_ends_leave_no_process(folder: Path) -> None:
    """The helpers of an owner that ends in order end with it."""
    script = """
import servermgr, os
with servermgr.CommandManager(["sleep", "60"], name="x"):
    guardian = servermgr.recorded()[0].guardian.pid
    with open(f"/proc/{guardian}/stat") as file:
        nursery = file.read().rpartition(")")[2].split()[1]
print(guardian, nursery)
"""
    pids = [int(word) for word in script_output(script).split()]
    until(lambda: not any(map(is_alive, pids)), "the end of the helpers")


def test_a_clock_that_says_something_else_is_not_believed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As that of a sandbox may, whose /proc is its own: then the creation time is read."""
    real = Identity.of(os.getpid())
    assert real is not None
    path = os.path.join(folder, f"{MARKER}.json")
    folder.mkdir(parents=True, mode=0o700)

    def recorded(before: int) -> Identity | None:
        Record.compare_clocks(before)
        Record(os.fsencode(path), GOOD[: GOOD.index('"guardian"')].encode()).write(os.getpid(), 1, start=12345)
        record = ledger.read(path)
        assert record is not None
        return record.worker

    monkeypatch.setattr(Record, "_knows_start", False)
    assert recorded(real.start) == real._replace(start=12345)  # the control
    for before in (0, real.start + 1, platform.start_now()):
        assert recorded(before) == real
    monkeypatch.setattr(platform, "start_now", lambda: real.start - 1)
    assert recorded(real.start - 1) == real


def test_a_record_that_was_removed_is_written_anew(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    path = os.path.join(folder, f"{MARKER}.json")
    record = Record(os.fsencode(path), GOOD[: GOOD.index('"guardian"')].encode())
    record.write(0, 0)
    os.unlink(path)
    record.write(os.getpid(), 7)
    assert (record.failure, os.listdir(folder)) == ("", [f"{MARKER}.json"])
    (read,) = servermgr.recorded()
    assert (read.worker, read.session) == (Identity.of(os.getpid()), 7)
