"""A directory that several share goes with the last of them, whoever that is, and nothing else goes with it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from stand_ins import SLEEP, Server, script_output, until

if sys.platform == "win32":
    pytest.skip("there is no guardian on Windows", allow_module_level=True)

from servermgr.guardian.scratch import Scratch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with files, folders, and a link to somebody else's."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "precious").touch()
    folder = tmp_path / "scratch"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "data").touch()
    (folder / "log").touch()
    (folder / "link").symlink_to(tmp_path / "theirs")
    (folder / "a" / "broken").symlink_to("nowhere")
    return folder


def test_the_last_who_leaves_removes_it(folder: Path) -> None:
    """Not the one before; and what a link means stays."""
    first, second = Scratch(str(folder)), Scratch(str(folder))
    first.leave()
    assert (folder / "log").exists()
    second.leave()
    assert not folder.exists()
    assert (folder.parent / "theirs" / "precious").exists()
    second.leave()


def test_who_lets_go_of_it_removes_nothing(folder: Path) -> None:
    """Neither does he hold the others up."""
    first, second = Scratch(str(folder)), Scratch(str(folder))
    first.close()
    assert (folder / "log").exists()
    second.leave()
    assert not folder.exists()


def test_a_link_is_no_directory(folder: Path) -> None:
    """What was put in the place of the directory leads nowhere."""
    link = folder.parent / "other"
    link.symlink_to(folder)
    Scratch(str(link)).leave()
    assert (folder / "log").exists()


def test_a_directory_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    """Before, or meanwhile."""
    Scratch(str(tmp_path / "missing")).leave()
    (tmp_path / "there").mkdir()
    held = Scratch(str(tmp_path / "there"))
    os.rmdir(tmp_path / "there")
    held.leave()


def test_a_server_of_a_living_program_takes_nothing_with_it(folder: Path) -> None:
    """As long as the program has a share, it is the program's to remove."""
    mine = Scratch(str(folder))
    server = Server(SLEEP)
    server.scratch = folder
    server.start()
    server.stop()
    assert (folder / "log").exists()
    mine.close()


OWNER = """
import os, signal, sys, servermgr
from servermgr.guardian.scratch import Scratch
share = Scratch(sys.argv[1])
servers = [servermgr.CommandManager(["sleep", "60"], crash_grace=1.0) for _ in range(2)]
for server in servers:
    server.scratch = sys.argv[1]
    server.start()
sys.stdout.flush()
{end}
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "for server in servers: server.stop()\nos._exit(0)"])
def test_when_the_program_is_gone_it_goes_with_the_last_tree(folder: Path, end: str) -> None:
    """And where the trees went before the program, nobody of them has touched it."""
    script_output(OWNER.format(end=end), folder)
    if end.startswith("os"):
        until(lambda: not folder.exists(), "the end of the directory")
    else:
        assert (folder / "log").exists()
