"""Where a server's output goes: a private file unless told otherwise, and its last lines are in the error."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stand_ins import SLEEP, Server, content, python, sh, until

from servermgr.base import LaunchError, ReadyTimeoutError, WorkerError, WorkerExitedError
from servermgr.output import TAIL_BYTES, TAIL_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Says one line on each of its outputs, and how much it can read from its input.
TALK = 'echo "to out"; echo "to err" >&2; wc -c'
SAID = ["to out", "to err", "0"]


def run(argv: list[str], **options: Any) -> Server:
    """Run a command to its end."""
    server = Server(argv, **options)
    server.start(wait=False)
    server.wait()
    return server


# ---- a private file -------------------------------------------------------------------------------------------


def test_the_private_file_is_nobody_elses_business() -> None:
    """Readable by its user alone, in the directory for temporary files, a plain file of an unguessable name."""
    with Server(SLEEP) as server:
        path = Path(server.log_path or "")
        found = path.lstat()
        assert stat.S_ISREG(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert (found.st_uid, found.st_nlink) == (os.geteuid(), 1)
        assert path.parent == Path(tempfile.gettempdir())
        assert re.fullmatch(r"servermgr-stand-in-\d+\.\d+\.\d+-[a-z0-9_]{8,}\.log", path.name)


def test_the_private_file_is_another_one_each_time() -> None:
    """Two runs never share a file, and none can be foretold from the last."""
    names = set()
    for _ in range(3):
        with Server(SLEEP) as server:
            names.add(server.log_path)
    assert len(names) == 3


def test_the_private_file_goes_with_the_tree() -> None:
    """It is there while the server runs and gone after stop; its last lines are kept."""
    server = Server(sh("echo hello; exec sleep 60"))
    server.start()
    until(server.output_tail)
    path = Path(server.log_path or "")
    assert path.read_text() == "hello\n"
    server.stop()
    assert not path.exists()
    assert server.output_tail() == ["hello"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b c\n", "x" * 300, "", "\u00fc\u4e2d", "a\0b"])
def test_a_name_cannot_choose_the_file(name: str) -> None:
    """Whatever the manager is called, its file is in the directory for temporary files."""
    server = Server(SLEEP)
    server.name = name
    with server:
        assert Path(server.log_path or "").parent == Path(tempfile.gettempdir())


def test_standard_output_and_error_go_there_in_order() -> None:
    """Both outputs of the worker are one file; its input is empty."""
    assert run(sh(TALK)).output_tail() == SAID


def test_a_failed_start_leaves_no_file() -> None:
    """Nothing was started, so nothing is kept. (That no file is left, the fixture around every test says.)"""
    server = Server(["/no/such/program"])
    with pytest.raises(LaunchError):
        server.start()
    assert (server.log_path, server.output_tail()) == (None, [])


def take_all(taken: list[int]) -> None:
    """Every descriptor that there is."""
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))


def test_no_descriptor_left_is_a_clear_error() -> None:
    """With the limit of open files reached nothing is started, no file is left, and the next start works."""
    server = Server(SLEEP)
    with server:
        pass  # whatever is opened once and kept is open now
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    for spare in range(6):
        highest = max(map(int, os.listdir("/proc/self/fd"))) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        try:
            take_all(taken)
            for _ in range(spare):
                os.close(taken.pop())
            with pytest.raises((WorkerError, OSError)):
                server.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            while taken:
                os.close(taken.pop())
        assert server.process is None
    with server:
        assert server.process.poll() is None


# ---- the last lines -------------------------------------------------------------------------------------------


def test_much_output_does_not_stop_the_worker() -> None:
    """A worker that writes megabytes goes on, and of its output the last lines are kept."""
    server = run(python("for number in range(300_000): print('line', number)"))
    assert server.output_tail() == [f"line {number}" for number in range(300_000 - TAIL_LINES, 300_000)]
    assert server.output_tail(2) == ["line 299998", "line 299999"]


def test_one_endless_line_is_cut() -> None:
    """Output without a newline does not fill the memory."""
    (line,) = run(python("print('x' * 1_000_000, end='')")).output_tail()
    assert line == "x" * TAIL_BYTES


def test_output_that_is_no_text_is_shown_as_well_as_it_can_be() -> None:
    """Bytes that are no UTF-8 are replaced, never a second error."""
    assert run(sh(r"printf 'a\377b\n'")).output_tail() == ["a\ufffdb"]


def test_the_error_shows_only_this_run(tmp_path: Path) -> None:
    """The last lines in an error are those of the run that failed, not of the one before it in the same file."""
    log = tmp_path / "log"
    run(sh("echo the first run"), output=log)
    server = Server(sh("echo the second run; exit 3"), ask=lambda: False, output=log)
    with pytest.raises(WorkerExitedError) as caught:
        server.start()
    assert list(caught.value.output) == ["the second run"]


# ---- a path ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_appended_to_and_kept(tmp_path: Path, kind: type) -> None:
    """output=PATH: earlier lines stay, and so does the file."""
    log = tmp_path / "server.log"
    log.write_text("from yesterday\n")
    server = run(sh(TALK), output=kind(log))
    assert server.log_path == str(log)
    assert log.read_text().splitlines() == ["from yesterday", *SAID]
    assert server.output_tail() == SAID


def test_a_new_file_is_nobody_elses_business(tmp_path: Path) -> None:
    """A file that is made for the output is readable by its user alone; one that was there keeps its mode."""
    (tmp_path / "old").touch(mode=0o644)
    for name, mode in (("new", 0o600), ("old", 0o644)):
        run(sh("echo"), output=tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_a_relative_path_is_relative_to_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the server's directory: it is the caller's word."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    server = run(sh("echo hello"), output="log", cwd=tmp_path / "elsewhere")
    assert (tmp_path / "log").read_text() == "hello\n"
    assert server.log_path == str(tmp_path / "log")


@pytest.mark.parametrize(
    ("argv", "error"), [(sh("echo sad; exit 3"), WorkerExitedError), (sh("echo sad; sleep 60"), ReadyTimeoutError)]
)
def test_the_error_names_the_file(tmp_path: Path, argv: list[str], error: type[WorkerError]) -> None:
    """A kept file is named in the error, so that one can read on."""
    server = Server(argv, ask=lambda: False, output=tmp_path / "log")
    server.start(wait=False)
    content(tmp_path / "log")
    with pytest.raises(error) as caught:
        server.ready_wait(0.01)
    assert caught.value.log == str(tmp_path / "log")
    assert f"last output ({tmp_path / 'log'}):\n    sad" in str(caught.value)


def test_a_file_that_was_emptied_meanwhile_is_no_error(tmp_path: Path) -> None:
    """Log rotation by truncation: the worker goes on at the new end, and so do the last lines."""
    log = tmp_path / "log"
    server = Server(sh('echo before; until [ -e "$1" ]; do sleep 0.01; done; echo after', tmp_path / "go"), output=log)
    server.start(wait=False)
    content(log)
    os.truncate(log, 0)
    (tmp_path / "go").touch()
    server.wait()
    assert log.read_text() == "after\n"
    assert server.output_tail() == ["after"]


# ---- other places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [subprocess.DEVNULL, os.devnull])
def test_output_can_be_thrown_away(target: int | str) -> None:
    """The null device: nothing is kept, nothing is shown, and errors say nothing of a log."""
    server = Server(sh("echo lost; exit 3"), ask=lambda: False, output=target)
    with pytest.raises(WorkerExitedError) as caught:
        server.start()
    assert (server.log_path, server.output_tail(), caught.value.log) == (None, [], None)
    assert "lost" not in str(caught.value)


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_an_open_file_is_handed_on(tmp_path: Path, mode: str) -> None:
    """Behind what this process has written to it, buffered or not; it stays open here."""
    head: Any = "head\n" if mode == "w" else b"head\n"
    tail: Any = "tail\n" if mode == "w" else b"tail\n"
    with open(tmp_path / "log", mode) as file:
        file.write(head)
        server = run(sh("echo middle"), output=file)
        file.write(tail)
    assert (tmp_path / "log").read_text().splitlines() == ["head", "middle", "tail"]
    assert server.log_path is None


def test_a_descriptor_is_handed_on() -> None:
    """output=FD, also the end of a pipe that the caller reads himself; it stays open here."""
    read_end, write_end = os.pipe()
    try:
        run(sh("echo through the pipe"), output=write_end)
        os.write(write_end, b"still open\n")
        assert os.read(read_end, 4096) == b"through the pipe\nstill open\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_datagram_socket_hears_only_the_worker() -> None:
    """Looking whether a descriptor can be written to sends nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        run(sh("echo hello"), output=theirs.fileno())
        assert ours.recv(100) == b"hello\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Places where no output can go."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    closed = open(tmp_path / "closed", "w")  # noqa: SIM115
    closed.close()
    free = os.dup(0)
    os.close(free)
    with open(tmp_path / "file") as for_reading:
        yield {
            "PIPE": subprocess.PIPE,
            "STDOUT": subprocess.STDOUT,
            "directory": tmp_path,
            "no directory": tmp_path / "missing" / "log",
            "below a file": tmp_path / "file" / "log",
            "loop": tmp_path / "loop",
            "fifo": tmp_path / "fifo",
            "long": tmp_path / ("x" * 300),
            "closed file": closed,
            "for reading": for_reading,
            "no descriptor": free,
            "memory": io.StringIO(),
            "number": 3.5,
            "list": ["log"],
        }


PLACES = """
    PIPE, STDOUT, directory, no directory, below a file, loop, fifo, long, closed file, for reading, no descriptor,
    memory, number, list
"""


@pytest.mark.parametrize("place", [place.strip() for place in PLACES.split(",")])
def test_where_no_output_can_go_nothing_is_started(hostile: dict[str, Any], place: str) -> None:
    """One clear error, at once, and no process."""
    server = Server(SLEEP, output=hostile[place])
    with pytest.raises(LaunchError, match=r"stand-in: .*output"):
        server.start()
    assert server.process is None


def test_a_pipe_is_refused_with_a_reason() -> None:
    """subprocess.PIPE would stop the server in the middle of a write: the error says so, and what to do."""
    with pytest.raises(LaunchError, match=r"fill up.*give a path"):
        Server(SLEEP, output=subprocess.PIPE).start()


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_the_servers_problem() -> None:
    """A worker that cannot write its output is told so by the system, and ends with its own status."""
    server = Server(sh("echo hello || exit 7"), output="/dev/full")
    server.start(wait=False)
    assert server.wait().status == 7
