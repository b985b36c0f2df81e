"""Ports for `port=0`: no two runs draw the same one, whoever dies in between, and none stays taken for ever."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stand_ins import PATIENCE, ROOT, as_nobody, living, python, run_script, script_output, sh, tree_of, until

import servermgr
from servermgr import CommandManager, _ports_claims, ledger, nginx, ports
from servermgr.errors import AddressInUseError, LaunchError, WorkerError
from servermgr.identity import Identity, realm
from servermgr.platform import ephemeral

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
READY = "tcp://127.0.0.1:{port}"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="process trees are not held on Windows yet")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the claims of the test are: in a ledger of its own, so that a draw meets nobody else's."""
    monkeypatch.setenv(ledger.DIRECTORY_VARIABLE, str(tmp_path / "ledger"))
    monkeypatch.setattr(_ports_claims, "_said", False)
    return tmp_path / "ledger" / "ports"


def claims(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


# ---- programs that draw ---------------------------------------------------------------------------------------

#: Draws as many ports as it is told to in each line, prints them, and holds them until its input ends.
DRAWING = """
import json, sys
from servermgr import ports
print("up", flush=True)
held = []
for line in sys.stdin:
    drawn = [ports.lease() for _ in range(int(line))]
    held += drawn
    print(json.dumps([lease.port for lease in drawn]), flush=True)
"""
#: Takes each of the given ports, all of them claimed by the dead, and prints those that it got.
TAKING = """
import json, sys
from servermgr._ports_claims import Claimant
print("up", flush=True)
wanted = json.loads(sys.stdin.readline())
got = []
for port in wanted:
    with Claimant() as claimant:
        if claimant.take(port) is not None:
            claimant.keep()
            got.append(port)
print(json.dumps(got), flush=True)
sys.stdin.readline()
"""


class Program:
    """A program of its own that draws ports."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def draw(self, count: int) -> list[int]:
        self.say(str(count))
        return json.loads(self.hear())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def programs(count: int, code: str = DRAWING) -> Iterator[list[Program]]:
    """Several of them, all at the same line; none outlives the block."""
    running = [Program(code) for _ in range(count)]
    try:
        for program in running:
            assert program.hear() == "up\n"
        yield running
    finally:
        for program in running:
            program.kill()
            for stream in (program.process.stdin, program.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]


def test_eight_programs_that_draw_two_hundred_ports_each_never_draw_the_same(folder: Path) -> None:
    with programs(8) as running:
        for program in running:
            program.say("200")
        drawn = [port for program in running for port in json.loads(program.hear())]
        assert len(drawn) == 1600
        assert len(set(drawn)) == 1600
        assert {int(path.parent.name) for path in claims(folder)} == set(drawn)
        # The dead free nothing by themselves; the next sweep does it for them, and leaves the living alone.
        for program in running[1:]:
            program.kill()
        servermgr.sweep()
        left = {int(path.parent.name) for path in claims(folder)}
        assert left == set(drawn[:200])
        more = running[0].draw(200)
        assert not set(more) & left
    servermgr.sweep()
    assert list(folder.iterdir()) == []


def test_of_several_who_take_over_the_port_of_a_dead_one_exactly_one_gets_it(folder: Path) -> None:
    """All want the same ports, in the same order, at the same time."""
    stale = list(range(20_000, 20_100))
    for port in stale:
        plant(folder, port)
    with programs(4, TAKING) as running:
        for program in running:
            program.say(json.dumps(stale))
        got = [port for program in running for port in json.loads(program.hear())]
        assert sorted(got) == stale
        assert len(claims(folder)) == len(stale)


# ---- one lease ------------------------------------------------------------------------------------------------


def test_a_drawn_port_can_be_listened_on_and_is_none_that_the_system_gives_away() -> None:
    with ports.lease() as lease, socket.create_server(("127.0.0.1", lease.port)):
        assert all(lease.port not in span for span in ephemeral.kept_ports())
        assert 1024 <= lease.port <= 65535


def test_a_lease_is_a_file_with_the_identity_of_its_owner_that_nobody_else_can_read(folder: Path) -> None:
    lease = ports.lease()
    path = Path(lease.path)
    assert lease.removes == (lease.path, str(path.parent))
    assert claims(folder) == [path]
    assert path.parent == folder / str(lease.port)
    content = json.loads(path.read_text())
    assert Identity(*content["owner"]) == Identity.of(os.getpid())
    assert content["realm"] == realm()
    for private in (path, path.parent, folder):
        assert private.stat().st_mode & 0o077 == 0
    lease.release()
    assert list(folder.iterdir()) == []


def test_a_lease_is_released_once_however_often_it_is_told_to(folder: Path) -> None:
    lease = ports.lease()
    lease.release()
    successor = take(lease.port)
    lease.release()  # must not take the port away from whoever has it now
    assert claims(folder) == [Path(successor)]


def test_the_guardian_cannot_free_the_port_of_its_successor(folder: Path) -> None:
    """It removes the file it was told of, twice if need be; the port's next holder has a file of another name."""
    lease = ports.lease()
    os.unlink(lease.path)  # as a guardian does
    successor = take(lease.port)
    with pytest.raises(FileNotFoundError):
        os.unlink(lease.path)
    assert claims(folder) == [Path(successor)]


@pytest.mark.skipif(sys.platform != "linux", reason="it is the guardian that frees the port")
def test_a_server_that_had_a_port_leaves_not_even_an_empty_folder(folder: Path) -> None:
    """Else a program that starts servers over and over would fill the ledger until the next one sweeps."""
    code = "import time; time.sleep(60) # {port}"
    for _ in range(3):
        with servermgr.CommandManager([sys.executable, "-I", "-S", "-c", code], port=0, grace_period=0):
            assert len(claims(folder)) == 1
        assert list(folder.iterdir()) == []


def test_a_lease_ends_with_its_block(folder: Path) -> None:
    with ports.lease() as lease:
        assert claims(folder) == [Path(lease.path)]
        assert str(lease.port) in repr(lease)
    assert claims(folder) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_draws_its_own_and_cannot_release_its_parents(folder: Path) -> None:
    lease = ports.lease()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child, which must not return into pytest
        try:
            lease.release()
            own = ports.lease()
            told = json.loads(Path(own.path).read_text())["owner"][0] == os.getpid() and own.port != lease.port
            os.write(writer, b"%d" % told)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        assert answer.read() == b"1"
    os.waitpid(pid, 0)
    assert len(claims(folder)) == 2
    servermgr.sweep()
    assert claims(folder) == [Path(lease.path)]


def test_drawn_takes_a_port_as_it_is_and_draws_for_zero(folder: Path) -> None:
    with ports.drawn("127.0.0.1", 8123) as lease:
        assert (lease.port, lease.removes) == (8123, ())
        lease.release()
    with ports.drawn("127.0.0.1", 0) as lease:
        assert lease.port
    assert claims(folder) == [Path(lease.path)]  # it is the server's now
    lease.release()


def test_a_port_that_was_drawn_for_a_start_that_failed_is_free(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), ports.drawn("127.0.0.1", 0):
        raise ZeroDivisionError
    assert claims(folder) == []


# ---- which ports ----------------------------------------------------------------------------------------------


def listener(host: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        pytest.skip(f"{host} cannot be listened on here: {error}")


@pytest.mark.parametrize(
    ("busy", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "::"),
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::1", "::"),
        ("::1", ""),
        ("::", "::1"),
    ],
)
def test_a_port_on_which_somebody_listens_is_not_drawn(
    busy: str, asked: str, free_port: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By IPv4 and IPv6, and where one of the two addresses is every address."""
    with listener(busy) as there:
        taken = there.getsockname()[1]
        monkeypatch.setattr(ports, "_candidates", lambda _: [taken, free_port])
        with ports.lease(asked) as lease:
            assert lease.port == free_port
            assert [path.parent.name for path in claims(folder)] == [str(free_port)]
        monkeypatch.setattr(ports, "_candidates", lambda _: [taken])
        with pytest.raises(WorkerError, match="no port is free"):
            ports.lease(asked)
    assert claims(folder) == []


def test_a_port_that_is_bound_but_not_listened_on_is_not_drawn_either(
    free_ports: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = free_ports(2)  # type: ignore[operator]
    monkeypatch.setattr(ports, "_candidates", lambda _: [taken, free])
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", taken))
        with ports.lease() as lease:
            assert lease.port == free


@pytest.mark.parametrize(
    ("host", "says"),
    [("192.0.2.1", "no address of this machine"), ("no-such-host.invalid", "cannot be resolved")],
)
def test_a_host_where_no_server_can_listen_is_one_clear_error(host: str, says: str, folder: Path) -> None:
    with pytest.raises(WorkerError, match=says):
        ports.lease(host)
    assert not folder.exists() or claims(folder) == []


def test_a_program_that_sets_the_seed_does_not_draw_what_another_one_has_drawn() -> None:
    seeded = DRAWING.replace("import json, sys", "import json, random, sys; random.seed(0)")
    with programs(2, seeded) as (one, other):
        first, second = one.draw(5), other.draw(5)
        assert first != second
        assert not set(first) & set(second)


@pytest.mark.skipif(not os.path.exists("/proc/sys/net/ipv4/ip_local_port_range"), reason="Linux says it there")
def test_the_range_that_the_system_gives_away_is_the_kernels() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        assert one.getsockname()[1] in ephemeral.kept_ports()[0]


def test_ports_reserved_by_the_administrator_are_left_alone() -> None:
    assert ephemeral._reserved("8080,9148-9150\n") == [range(8080, 8081), range(9148, 9151)]
    assert ephemeral._reserved("\n") == []
    candidates = set(ports._candidates((range(32768, 61000), range(15_000, 16_000))))
    assert candidates == {*range(10_000, 15_000), *range(16_000, 32_768), *range(61_000, 65_536)}


def test_a_system_that_gives_away_nearly_everything_leaves_the_ports_below(caplog: pytest.LogCaptureFixture) -> None:
    assert list(ports._candidates((range(9_000, 65_536),))) == list(range(1_024, 9_000))
    assert not caplog.records
    assert len(ports._candidates((range(1_024, 65_536),))) == 55_536
    assert "gives away nearly every port" in caplog.text


def test_every_candidate_is_tried_before_a_draw_is_given_up() -> None:
    for count in (1, 2, 997, 1000):
        assert sorted(ports._shuffled(range(count))) == list(range(count))


# ---- whose are they? ------------------------------------------------------------------------------------------


def ours() -> Identity:
    found = Identity.of(os.getpid())
    assert found is not None
    return found


def dead() -> Identity:
    """Of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = Identity.of(process.pid)
    assert found is not None
    return found


def plant(folder: Path, port: int, owner: Identity | None = None, where: str | None = None) -> Path:
    """A claim as another process would have left it: by default a dead one."""
    for place in (folder.parent, folder, folder / str(port)):
        place.mkdir(mode=0o700, exist_ok=True)
    path = folder / str(port) / os.urandom(16).hex()
    content = {"version": 1, "owner": owner or Identity(2**22 + 1, 1, 1), "realm": where or realm()}
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


def take(port: int) -> str | None:
    with _ports_claims.Claimant() as claimant:
        path = claimant.take(port)
        if path is not None:
            claimant.keep()
        return path


def test_the_port_of_a_dead_owner_can_be_taken_without_a_sweep(folder: Path) -> None:
    stale = plant(folder, 20_000, dead())
    assert take(20_000) is not None
    assert not stale.exists()
    assert len(claims(folder)) == 1


def test_a_process_with_the_pid_of_the_dead_owner_is_not_the_owner(folder: Path) -> None:
    """Neither one that was created at another time, nor one of the same tick with another serial number."""
    plant(folder, 20_000, ours()._replace(start=ours().start - 1))
    assert take(20_000) is not None
    if ours().serial:
        plant(folder, 20_001, ours()._replace(serial=ours().serial + 1))
        assert take(20_001) is not None
    held = plant(folder, 20_002, ours())
    assert take(20_002) is None
    servermgr.sweep()
    assert held.exists()


def test_what_was_leased_before_the_last_boot_is_free_and_what_another_machine_leased_is_not(folder: Path) -> None:
    host, boot, rest = realm().split("/", 2)
    if not boot:
        pytest.skip("this system does not tell one boot from another")
    before = plant(folder, 20_000, where=f"{host}/another-boot/{rest}")
    elsewhere = plant(folder, 20_001, where=f"another-{host}/another-boot/{rest}")
    container = plant(folder, 20_002, where=f"{host}/{boot}/another-namespace")
    servermgr.sweep()
    assert not before.exists()
    assert elsewhere.exists()
    assert container.exists()
    assert take(20_001) is None
    assert take(20_002) is None


def test_a_claim_in_the_making_whose_maker_died_is_removed_and_a_living_ones_is_not(folder: Path) -> None:
    plant(folder, 20_000)
    gone, alive = folder / f".new-{dead().pid}-x", folder / f".new-{os.getpid()}-x"
    gone.mkdir(mode=0o700)
    alive.mkdir(mode=0o700)
    servermgr.sweep()
    assert list(folder.iterdir()) == [alive]


# ---- what others may have put there ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 2}', "[" * 4000, '{"version": 1, "owner": 7}'])
def test_a_claim_that_cannot_be_believed_is_left_alone_and_its_port_is_not_drawn(content: str, folder: Path) -> None:
    strange = plant(folder, 20_000)
    strange.write_text(content)
    assert take(20_000) is None
    servermgr.sweep()
    assert strange.read_text() == content


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
def test_links_pipes_and_files_of_others_are_neither_followed_nor_removed(folder: Path, tmp_path: Path) -> None:
    victim = plant(tmp_path / "elsewhere", 1)  # a stale claim by its content
    plant(folder, 20_000).unlink()
    (folder / "20000" / "link").symlink_to(victim)
    (folder / "20001").symlink_to(victim.parent)
    (folder / "20002").write_text("a file where a directory should be")
    (folder / "20003").mkdir(mode=0o700)
    os.mkfifo(folder / "20003" / "pipe", 0o600)  # whoever opens it without care waits for ever
    plant(folder, 20_004).chmod(0o666)
    before = sorted(folder.rglob("*"))
    for port in range(20_000, 20_005):
        assert take(port) is None
    servermgr.sweep()
    assert sorted(folder.rglob("*")) == before
    assert victim.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
@pytest.mark.parametrize("how", ["link", "open", "file", "ledger"])
def test_a_folder_that_others_could_write_to_is_not_used_and_that_is_said_once(
    how: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ports are drawn all the same, each only once in this program."""
    folder.parent.mkdir(mode=0o755 if how == "ledger" else 0o700)
    if how == "link":
        (tmp_path / "other").mkdir()
        folder.symlink_to(tmp_path / "other")
    elif how == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif how == "file":
        folder.touch()
    stale = plant(folder, 20_000) if how == "open" else None
    leases = [ports.lease() for _ in range(50)]
    assert len({lease.port for lease in leases}) == 50
    assert not any(os.path.exists(lease.path) for lease in leases)
    said = [record for record in caplog.records if "without a lease" in record.getMessage()]
    assert len(said) == 1
    servermgr.sweep()
    assert stale is None or stale.exists()
    for lease in leases:
        lease.release()
    assert _ports_claims._unwritten == {}


def test_a_ledger_that_cannot_be_written_to_costs_the_lease_and_not_the_port() -> None:
    """As an ordinary user, for root writes to every directory."""
    interpreter, options = as_nobody()
    code = """
import os
from servermgr import ports
leases = [ports.lease() for _ in range(3)]
assert len({lease.port for lease in leases}) == 3
assert not any(os.path.exists(lease.path) for lease in leases)
"""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o500)
        os.chown(name, options["user"], options["group"])
        options["env"] |= {ledger.DIRECTORY_VARIABLE: name}
        done = run_script(code, interpreter=interpreter, **options)
        assert (done.returncode, done.stderr.count("without a lease")) == (0, 1)
        assert os.listdir(name) == []


# ---- a lease is the server's as long as it lives --------------------------------------------------------------


def get(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
        return int(answer.status)


@posix_only
def test_the_port_is_free_when_the_server_is_gone_whoever_ended_it(folder: Path, tmp_path: Path) -> None:
    manager = CommandManager(HTTP, port=0, ready=READY, cwd=tmp_path)
    assert manager.port == 0
    drawn = []
    for ending in (manager.stop, lambda: (manager.process.kill(), manager.wait())):
        manager.start(timeout=PATIENCE)
        assert manager.port
        assert get(manager.port) == 200
        manager.health()
        assert [path.parent.name for path in claims(folder)] == [str(manager.port)]
        servermgr.sweep()
        assert len(claims(folder)) == 1
        drawn.append(manager.port)
        ending()
        assert claims(folder) == []
    assert len(drawn) == 2


@posix_only
def test_servers_side_by_side_get_ports_of_their_own(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        managers = [CommandManager(HTTP, port=0, ready=READY, cwd=tmp_path, name=f"web {n}") for n in range(3)]
        for manager in managers:
            stack.enter_context(manager)
        assert len({manager.port for manager in managers}) == 3
        assert [get(manager.port or 0) for manager in managers] == [200] * 3


#: Starts a server with `port=0` and the given options, says where it is, and waits to be killed.
SERVING = """
import json, sys
from servermgr import CommandManager
options = json.loads(sys.argv[1])
manager = CommandManager(options.pop("argv"), port=0, ready="tcp://127.0.0.1:{port}", **options)
manager.start(timeout=30)
print(json.dumps([manager.port, manager.process.pid]), flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def serving(**options: object) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    text = json.dumps({"argv": HTTP, **options})
    owner = subprocess.Popen(
        [sys.executable, "-c", SERVING, text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert owner.stdout is not None
        port, pid = json.loads(owner.stdout.readline())
        yield owner, port, pid
    finally:
        owner.kill()
        owner.communicate()


@posix_only
def test_the_guardian_frees_the_port_of_an_owner_that_was_killed(folder: Path, tmp_path: Path) -> None:
    with serving(cwd=str(tmp_path)) as (owner, port, pid):
        tree = tree_of(pid)
        assert [path.parent.name for path in claims(folder)] == [str(port)]
        owner.kill()
        until(lambda: not living(tree) and not claims(folder), "the end of tree and lease")


@posix_only
def test_a_kept_server_keeps_its_port_when_its_owner_is_gone(folder: Path, tmp_path: Path) -> None:
    """No sweep frees it and no draw takes it, also while the server does not listen; it is free with the server."""
    with serving(cwd=str(tmp_path), keep=True, name="kept for good") as (owner, port, pid):
        tree = tree_of(pid)
        owner.kill()
        owner.wait()
        try:
            servermgr.sweep()
            assert [path.parent.name for path in claims(folder)] == [str(port)]
            assert take(port) is None
            assert get(port) == 200
        finally:
            servermgr.stop("kept for good")
        assert not living(tree)
        assert claims(folder) == []


#: Keeps a server that was told of its port by other means, hands it the lease where it should, and dies.
KEEPING = """
import os, sys
from servermgr import ports
from servermgr.base import Manager
lease, manager = ports.lease(), Manager("kept by hand")
manager.spawn(["sleep", "60"], keep=True, removes=lease.removes if sys.argv[1] == "handed" else ())
print(lease.port, flush=True)
os._exit(0)
"""


@posix_only
@pytest.mark.parametrize("lease", ["handed", "forgotten"])
def test_a_lease_that_was_handed_to_a_kept_server_lives_as_long_as_its_tree(folder: Path, lease: str) -> None:
    """Also where nobody has said on which address it listens. The control: one that was not handed on is swept."""
    port = int(script_output(KEEPING, lease))
    try:
        servermgr.sweep()
        assert [path.parent.name for path in claims(folder)] == ([str(port)] if lease == "handed" else [])
    finally:
        servermgr.stop("kept by hand")
    assert claims(folder) == []


@posix_only
def test_a_server_that_cannot_be_started_leaves_no_lease(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LaunchError):
        CommandManager(["no-such-program-anywhere", "{port}"], port=0).start()
    ended = CommandManager(sh("exit 3", "{port}"), port=0, ready=READY)
    with pytest.raises(WorkerError):
        ended.start(timeout=PATIENCE)
    assert claims(folder) == []


@pytest.mark.server("nginx")
def test_nginx_with_port_zero_knows_its_port_and_its_url_once_it_is_started(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page").write_text("the page")
    one, other = (nginx.Manager("127.0.0.1", 0, tmp_path / name, str(tmp_path / "site")) for name in ("one", "other"))
    assert one.port == 0
    with one, other:
        assert one.port != other.port
        assert [path.parent.name for path in sorted(claims(folder))] == sorted(map(str, (one.port, other.port)))
        for manager in (one, other):
            assert manager.url == f"http://127.0.0.1:{manager.port}/"
            assert manager.name == f"nginx 127.0.0.1:{manager.port}"
            with urllib.request.urlopen(manager.url + "page", timeout=PATIENCE) as answer:
                assert answer.read() == b"the page"
    assert claims(folder) == []
    one.start()
    one.health()
    one.stop()


# ---- the placeholder ------------------------------------------------------------------------------------------

#: Writes what it was told into a file, and listens where the environment says.
TOLD = """
import json, os, socket, sys, time
out = sys.argv[1]
with open(out + ".new", "w") as file:
    json.dump([sys.argv[2:], os.environ["WHERE"], os.environ["PLAIN"]], file)
os.rename(out + ".new", out)
listener = socket.create_server(("127.0.0.1", int(os.environ["WHERE"].rpartition(":")[2])))
print("listening on", listener.getsockname()[1], flush=True)
time.sleep(60)
"""


def told(path: Path, words: list[str], **options: object) -> tuple[CommandManager, list[object]]:
    env = os.environ | {"WHERE": "127.0.0.1:{port}", "PLAIN": "{{port}} {x}"}
    manager = CommandManager(python(TOLD, path, *words), env=env, **options)  # type: ignore[arg-type]
    with manager:
        return manager, json.loads(path.read_text())


@posix_only
@pytest.mark.parametrize("given", [0, "fixed"])
def test_the_placeholder_is_the_port_and_every_other_brace_is_itself(
    given: object, tmp_path: Path, free_port: int
) -> None:
    """In the command, in the environment, and in what is waited for."""
    words = ["--port={port}", '{"port": {port}}', "{{port}}", "${{port}}", "{ports}", "{", "}}", "{0}"]
    port = free_port if given == "fixed" else 0
    manager, (arguments, where, plain) = told(tmp_path / "told", words, port=port, ready=READY)
    number = manager.port
    assert number == free_port if given == "fixed" else number
    assert arguments == [
        f"--port={number}", f'{{"port": {number}}}', "{port}", "${port}", "{ports}", "{", "}}", "{0}"
    ]  # fmt: skip
    assert (where, plain) == (f"127.0.0.1:{number}", "{port} {x}")


@posix_only
def test_without_a_port_nothing_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "told"
    script = 'printf "%s\\n" "$@" >"$0.new"; mv "$0.new" "$0"; exec sleep 60'
    with CommandManager(["/bin/sh", "-c", script, str(path), "{port}", "{{port}}"], ready=path.exists) as manager:
        assert manager.port is None
        assert path.read_text() == "{port}\n{{port}}\n"


@posix_only
def test_a_log_probe_may_wait_for_the_port_and_the_listener_must_be_the_servers(tmp_path: Path, folder: Path) -> None:
    """Without an address to ask, the drawn port is recorded all the same, on every address."""
    env = os.environ | {"WHERE": "127.0.0.1:{port}", "PLAIN": ""}
    ready = r"log:^listening on {port}$"
    with CommandManager(python(TOLD, tmp_path / "told"), env=env, port=0, ready=ready) as manager:
        record = next(record for record in servermgr.recorded() if record.name == manager.name)
        assert [address.rpartition(":")[2] for address in record.ports] == [str(manager.port)]


@posix_only
def test_a_fixed_port_that_is_in_use_is_refused(tmp_path: Path) -> None:
    with listener("127.0.0.1") as there, pytest.raises(AddressInUseError):
        CommandManager(HTTP, port=there.getsockname()[1], ready=READY, cwd=tmp_path).start()


@pytest.mark.parametrize(
    ("argv", "port", "ready", "says"),
    [
        (["x"], 0, READY, "write {port}"),
        (["x", "{{port}}"], 0, READY, "write {port}"),
        (["x", "{port}"], -1, None, "from 0 to 65535"),
        (["x", "{port}"], 65536, None, "from 0 to 65535"),
        (["x", "{port}"], "80", None, "from 0 to 65535"),
        (["x", "{port}"], True, None, "from 0 to 65535"),
        (["x", "{port}"], 0, "tpc://127.0.0.1:{port}", "no readiness probe"),
        (["x", "{port}"], 0, "tcp://127.0.0.1", "needs a host and a port"),
        (["x", "{port}"], None, READY, "needs a host and a port|port"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_started(
    argv: list[str], port: object, ready: str | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        CommandManager(argv, port=port, ready=ready)  # type: ignore[arg-type]
