"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def block(first_words: str) -> str:
    """The Python block of the README that begins with these words."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [code for code in blocks if code.startswith(first_words)]
    return found


def test_the_first_example() -> None:
    """It prints the tree of a server that is ready, and leaves nothing."""
    answer = subprocess.run(
        [sys.executable, "-c", block("import sys\n")], capture_output=True, text=True, check=False, timeout=30
    )
    assert answer.returncode == 0, answer.stderr
    assert re.fullmatch(r"python\S* \[\d+\]\n", answer.stdout)


def test_the_trace(tmp_path: Path) -> None:
    """It is written where the example says, with a lane for the server."""
    code = block("from servermgr import CommandManager\n")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=tmp_path)
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert "web" in [event["args"]["name"] for event in events if event["ph"] == "M"]


@pytest.mark.server("redis-server")
def test_the_fixture_in_one_line(tmp_path: Path) -> None:
    """The whole file is a green test against a real server."""
    (tmp_path / "test_example.py").write_text(block("# test_cache.py"), encoding="utf-8")
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tmp_path / 'base'}",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "SERVERMGR_LEDGER": str(tmp_path / "ledger")},
    )
    assert "1 passed" in answer.stdout, answer.stdout + answer.stderr
