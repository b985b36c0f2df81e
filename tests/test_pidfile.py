"""servermgr.pidfile: what a pidfile says, and when it says nothing.

That whom it names belongs to the tree is proven elsewhere (test_daemons.py); here nobody is signalled.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servermgr.pidfile import Pidfile, PidfileError, parse_pid, read_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.pid"


def rewrite(path: Path, content: bytes) -> None:
    """As a server does: another file under the same name, so that the change shows on the coarsest clock."""
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(path)


# ---- what stands in it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "pid"),
    [
        (b"123\n", 123),
        (b"123", 123),
        (b"  123  \n", 123),
        (b"\n123\n", 123),
        (b"123\r\n", 123),
        (b"0123\n", 123),
        (b"4194304\n", 4194304),  # the most that Linux can be set to
        (b"123\n/var/lib/data\n1700000000\n5432\n", 123),  # postmaster.pid
        (b"123\n456\n", 123),
        (b"123\n\xff\xfe\0", 123),
    ],
)
def test_the_first_line_is_the_pid(content: bytes, pid: int) -> None:
    """Blanks around it and whatever stands on further lines do not matter."""
    assert parse_pid(content) == pid


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n", b" \n \n", b"0\n", b"000\n", b"-1\n", b"-123\n", b"+123\n", b"1.5\n", b"1e3\n", b"0x7b\n"),
        *(b"12 34\n", b"pid 123\n", b"123;456\n", b"12\x0034\n", b"\0\0\0\0", b"\xff\xfe1\x002\x00\n", b"1_000\n"),
        *("١٢٣\n".encode(), b"99999999999\n", b"9" * 5000, b"none\n", b"PID=123\n"),
    ],
)
def test_what_is_no_positive_number_is_no_pid(content: bytes) -> None:
    """Above all not 0 and -1, which kill(2) takes to mean a group, or everyone."""
    assert parse_pid(content) is None


def test_only_the_beginning_of_a_huge_file_is_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"123\n")
        file.truncate(1 << 40)  # a terabyte, without a block of it on the disk
    assert read_pid(str(path)) == 123
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert read_pid(str(path)) is None


def test_a_number_longer_than_any_pid_is_none(path: Path) -> None:
    path.write_bytes(b"1" * 100_000)
    assert read_pid(str(path)) is None
    assert Pidfile(str(path)).fresh_pid() is None


# ---- what it is -----------------------------------------------------------------------------------------------


def test_no_file_is_no_pid_yet(path: Path) -> None:
    assert read_pid(str(path)) is None
    assert Pidfile(str(path)).fresh_pid() is None
    assert read_pid(str(path / "in" / "a" / "folder" / "that" / "is" / "missing")) is None


@posix
@pytest.mark.timeout(10)
def test_a_fifo_does_not_block(path: Path) -> None:
    """Nobody writes to it: an ordinary open would wait for ever."""
    os.mkfifo(path)
    watched = Pidfile(str(path))
    with pytest.raises(PidfileError, match=r"^is not a regular file$"):
        read_pid(str(path))
    with pytest.raises(PidfileError, match=r"^is not a regular file$"):
        watched.fresh_pid()
    assert not watched.names(123)


@posix
def test_what_a_fifo_holds_is_not_taken(path: Path) -> None:
    """A pid from it could be planted by whoever wrote there first, and reading would take it from its reader."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"123\n")
        with pytest.raises(PidfileError):
            Pidfile(str(path)).fresh_pid()
        assert os.read(reader, 100) == b"123\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_directory_is_said_to_be_none(path: Path) -> None:
    path.mkdir()
    with pytest.raises(PidfileError, match=r"is not a regular file|cannot be read"):
        read_pid(str(path))
    with pytest.raises(PidfileError):
        Pidfile(str(path)).fresh_pid()


@posix
def test_a_device_is_no_pidfile() -> None:
    for device in ("/dev/null", "/dev/zero"):
        with pytest.raises(PidfileError, match="is not a regular file"):
            read_pid(device)


@posix
def test_a_symbolic_link_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"123\n")
    path.symlink_to("target")
    assert read_pid(str(path)) == 123


@posix
def test_a_dangling_link_is_no_pid_until_its_target_is_written(path: Path, tmp_path: Path) -> None:
    path.symlink_to("target")
    watched = Pidfile(str(path))
    assert watched.fresh_pid() is None
    (tmp_path / "target").write_bytes(b"123\n")
    assert watched.fresh_pid() == 123


@posix
def test_a_link_to_itself_is_an_error_that_says_so(path: Path) -> None:
    path.symlink_to(path.name)
    with pytest.raises(PidfileError, match=r"cannot be read: .*symbolic links"):
        read_pid(str(path))


@posix
def test_a_file_that_may_not_be_read_is_an_error_that_says_so() -> None:
    with open_folder() as folder:
        file = folder / "server.pid"
        file.write_bytes(b"123\n")
        file.chmod(0)
        watched = Pidfile(str(file))
        denied = r"^cannot be read: Permission denied$"
        with unprivileged():
            with pytest.raises(PidfileError, match=denied):
                read_pid(str(file))
            for each in (watched, Pidfile(str(file))):
                with pytest.raises(PidfileError, match=denied):
                    each.fresh_pid()
                assert not each.names(123)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own ones are closed."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103  # that is its purpose
        yield Path(name)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# ---- since when it stands there -------------------------------------------------------------------------------


def test_what_stood_there_before_is_stale(path: Path) -> None:
    path.write_bytes(b"123\n")
    watched = Pidfile(str(path))
    assert [watched.fresh_pid() for _ in range(5)] == [None] * 5


def test_the_same_number_written_anew_is_fresh(path: Path) -> None:
    """In a container a server has the same pid each time."""
    path.write_bytes(b"123\n")
    watched = Pidfile(str(path))
    rewrite(path, b"123\n")
    assert watched.fresh_pid() == 123


def test_another_number_is_fresh_even_where_nothing_else_has_changed(path: Path) -> None:
    """Written in place within one tick of the file system's clock: same inode, size and time."""
    path.write_bytes(b"123\n")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    watched = Pidfile(str(path))
    path.write_bytes(b"124\n")
    os.utime(path, ns=times)
    assert watched.fresh_pid() == 124


def test_a_stale_file_that_is_removed_and_written_again_is_fresh(path: Path) -> None:
    path.write_bytes(b"123\n")
    watched = Pidfile(str(path))
    path.unlink()
    assert watched.fresh_pid() is None
    rewrite(path, b"124\n")
    assert watched.fresh_pid() == 124


@posix
def test_a_link_turned_to_another_file_is_fresh(path: Path, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"123\n")
    (tmp_path / "new").write_bytes(b"124\n")
    path.symlink_to("old")
    watched = Pidfile(str(path))
    assert watched.fresh_pid() is None
    path.unlink()
    path.symlink_to("new")
    assert watched.fresh_pid() == 124


def test_a_number_with_its_newline_is_taken_at_once(path: Path) -> None:
    watched = Pidfile(str(path))
    path.write_bytes(b"123\n")
    assert watched.fresh_pid() == 123
    rewrite(path, b"124\n")
    assert watched.fresh_pid() == 124


def test_a_number_without_newline_is_taken_when_two_readings_agree(path: Path) -> None:
    watched = Pidfile(str(path))
    path.write_bytes(b"12")
    assert watched.fresh_pid() is None
    path.write_bytes(b"123")  # the first was half of it
    assert watched.fresh_pid() is None
    assert watched.fresh_pid() == 123
    assert watched.fresh_pid() == 123


def test_readings_do_not_agree_across_a_removal(path: Path) -> None:
    watched = Pidfile(str(path))
    path.write_bytes(b"12")
    assert watched.fresh_pid() is None
    path.unlink()
    assert watched.fresh_pid() is None
    path.write_bytes(b"12")
    assert watched.fresh_pid() is None
    assert watched.fresh_pid() == 12


def test_an_empty_file_is_no_pid_and_no_error(path: Path) -> None:
    """So it looks between a server's open and its write."""
    watched = Pidfile(str(path))
    path.write_bytes(b"")
    assert [watched.fresh_pid() for _ in range(3)] == [None] * 3
    path.write_bytes(b"123\n")
    assert watched.fresh_pid() == 123


def test_names_tells_who_stands_there_now_fresh_or_not(path: Path) -> None:
    path.write_bytes(b"123\n")
    watched = Pidfile(str(path))
    assert watched.names(123)
    assert not watched.names(12)
    path.unlink()
    assert not watched.names(123)


# ---- removing what a dead one left ----------------------------------------------------------------------------


def test_a_file_that_names_the_dead_is_removed(path: Path) -> None:
    path.write_bytes(b"123\nmore\n")
    Pidfile(str(path)).remove_if_names(123)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"124\n", b"1234\n", b"12\n", b"", b"not 123\n"])
def test_a_file_that_names_another_stays(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    Pidfile(str(path)).remove_if_names(123)
    assert path.read_bytes() == content


@posix
def test_of_a_link_the_link_is_removed_and_nothing_else(path: Path, tmp_path: Path) -> None:
    """As the server's own unlink does: a link planted there must not be the end of some other file."""
    (tmp_path / "target").write_bytes(b"123\n")
    path.symlink_to("target")
    Pidfile(str(path)).remove_if_names(123)
    assert not path.is_symlink()
    assert (tmp_path / "target").read_bytes() == b"123\n"


@posix
def test_what_is_no_file_stays(path: Path) -> None:
    Pidfile(str(path)).remove_if_names(123)
    os.mkfifo(path)
    Pidfile(str(path)).remove_if_names(123)
    assert path.is_fifo()
