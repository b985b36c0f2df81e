"""Records that cannot be read: nobody is signalled for them, the dead ones go, and of the others it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from stand_ins import SLEEP
from wreckage import MARKER, fields, plant, plant_text, record_of

import servermgr
from servermgr import cli, ledger, sweeping
from servermgr.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="records are read by marker and boot id on Linux")

EARLIER_BOOT = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of the test's own."""
    monkeypatch.setenv(ledger.DIRECTORY_VARIABLE, str(tmp_path / "ledger"))
    return tmp_path / "ledger"


def of_the_future(**changes: object) -> str:
    """A record of another version, which says where it is from as this one does."""
    return json.dumps(fields(**changes) | {"version": 2, "worker": {"pid": 2}})


def long_ago(path: str) -> str:
    """The file, older than this boot."""
    before = psutil.boot_time() - 86400
    os.utime(path, (before, before))
    return path


def realm(*, host: str | None = None, boot: str | None = None) -> str:
    """This realm, or one like it."""
    here = fields()["realm"].split("/")
    return "/".join((host or here[0], boot or here[1], here[2]))


@pytest.fixture
def marked() -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries the mark of the planted records."""
    process = subprocess.Popen(SLEEP, env={**os.environ, "SERVERMGR_TREE": MARKER})
    yield process
    process.kill()
    process.wait()


# ---- which of them go -----------------------------------------------------------------------------------------


def test_another_versions_record_of_an_earlier_boot_goes() -> None:
    """It says of which boot it is, and that one is over."""
    path = plant_text(of_the_future(realm=realm(boot=EARLIER_BOOT)))
    assert servermgr.sweep(dry_run=True) == []
    assert os.path.exists(path)
    assert servermgr.sweep() == []
    assert not os.path.exists(path)


def test_another_versions_record_of_this_boot_stays() -> None:
    """Its tree may live; also when the file is old, for the boot is said."""
    path = long_ago(plant_text(of_the_future()))
    assert servermgr.sweep() == []
    assert os.path.exists(path)


def test_another_machines_record_stays() -> None:
    """It shares the directory, and what runs there nobody knows here."""
    path = long_ago(plant_text(of_the_future(realm=realm(host="not-this-one", boot=EARLIER_BOOT))))
    assert servermgr.sweep() == []
    assert os.path.exists(path)


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"version": 1}', "[1]", '{"realm": 5}', "\0" * 100])
def test_nonsense_that_is_older_than_this_boot_goes(text: str) -> None:
    """And the same nonsense stays if it is not: the control."""
    path = plant_text(text)
    servermgr.sweep()
    assert os.path.exists(path)
    long_ago(path)
    servermgr.sweep()
    assert not os.path.exists(path)


def test_nonsense_stays_while_somebody_carries_its_mark(marked: subprocess.Popen[bytes]) -> None:
    """Whatever the clocks say; and nothing is done to him."""
    path = long_ago(plant_text("nonsense"))
    servermgr.sweep()
    assert os.path.exists(path)
    assert marked.poll() is None


@pytest.mark.parametrize("mode", [0o666, 0o660])
def test_what_others_may_write_stays(mode: int) -> None:
    """It is no business of a sweep."""
    path = long_ago(plant_text("nonsense", mode=mode))
    servermgr.sweep()
    assert os.path.exists(path)


def test_what_is_not_named_like_a_record_stays() -> None:
    """However old it is."""
    for name in ("README", "x.json", f"{MARKER}.txt", f"{MARKER[:-1]}.json"):
        path = long_ago(plant_text("nonsense", name=name))
        servermgr.sweep()
        assert os.path.exists(path)
    assert sweeping.unreadable() == []


def test_the_record_of_a_living_server_is_never_one_of_them() -> None:
    """The control of all this: it can be read."""
    with servermgr.CommandManager(SLEEP, name="real"):
        long_ago(record_of("real").path)
        servermgr.sweep()
        assert record_of("real").worker is not None
        assert sweeping.unreadable() == []


# ---- what is told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ps", "sweep"])
def test_the_others_are_named_with_the_remedy(
    command: str, marked: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the processes that carry the mark; where there are none, that is said."""
    path = plant_text(of_the_future())
    assert cli.main([command]) == 0
    said = capsys.readouterr().err
    assert f"a record cannot be read: {path}: it is damaged, or of another version" in said
    assert f"there live {marked.pid}, to be ended by the version that started it; then delete the file" in said
    marked.kill()
    marked.wait()
    assert cli.main([command]) == 0
    assert "no process is known to be of its server: if none is, delete the file" in capsys.readouterr().err
    os.unlink(path)
    assert cli.main([command]) == 0
    assert "cannot be read" not in capsys.readouterr().err


def test_machines_are_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    """As a line of JSON."""
    path = plant_text("nonsense")
    assert cli.main(["sweep", "--json"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line) == {
        "event": "unreadable", "path": path, "why": "it is damaged, or of another version", "pids": [],
    }  # fmt: skip


def test_why_it_cannot_be_read_is_said() -> None:
    """Where it could be, but must not be believed."""
    plant(owner=Identity.of(os.getpid()))
    os.chmod(os.path.join(ledger.directory(), f"{MARKER}.json"), 0o622)  # noqa: S103  # what must not be believed
    (found,) = sweeping.unreadable()
    assert "others may write" in found.why
