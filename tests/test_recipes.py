"""The recipes for CI and containers: their files make sense to those who read them, and their commands do well."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from pages import ROOT, Block, Folder, sections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guardians hold whole trees on Linux")

RECIPES = ROOT / "docs" / "recipes"


def files(page: str, kind: str) -> list[Block]:
    found = [block for section in sections(RECIPES / f"{page}.md") for block in section.blocks if block.kind == kind]
    assert found
    return found


@pytest.fixture
def project(tmp_path: Path) -> Folder:
    """A folder with a green test, and the servers that the pages declare."""
    folder = Folder(tmp_path, {})
    folder.write("tests/test_one.py", "def test_one():\n    pass\n")
    for block in files("github-actions", "toml"):
        folder.write(block.file or "", block.text)
    return folder


def all_succeed(project: Folder, commands: list[str]) -> None:
    """Each in a shell of its own, as a runner does it."""
    assert any("servermgr" in command for command in commands)
    for command in commands:
        done = project.shell(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}"


def parsed(block: Block) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(block.text)


@pytest.mark.parametrize("number", range(3))
def test_github_actions(project: Folder, number: int) -> None:
    """A workflow with a trigger and jobs, each step of which uses an action or runs commands, which do well."""
    workflow = parsed(files("github-actions", "yaml")[number])
    # `on` is a truth value for YAML 1.1, which GitHub does not mind.
    assert set(workflow) == {"name", True, "jobs"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(job["runs-on"] for job in workflow["jobs"].values())
    for step in steps:
        assert set(step) <= {"name", "uses", "with", "run", "if"}
        assert ("uses" in step) != ("run" in step)
    all_succeed(project, [step["run"] for step in steps if "run" in step])


def test_each_workflow_of_the_page_is_tried() -> None:
    assert len(files("github-actions", "yaml")) == 3


@pytest.mark.parametrize("number", range(2))
def test_gitlab_ci(project: Folder, number: int) -> None:
    """A job with a script; what stands before and after it does well, too."""
    pipeline = parsed(files("gitlab-ci", "yaml")[number])
    jobs = {name: job for name, job in pipeline.items() if name != "default"}
    assert list(jobs) == ["test"]
    parts = [pipeline.get("default", {}), *jobs.values()]
    keys = ("before_script", "script", "after_script")
    commands = [line for key in keys for part in parts for line in part.get(key, [])]
    assert all(isinstance(command, str) for command in commands)  # a colon in it would make a table of it
    all_succeed(project, commands)
    for path in jobs["test"].get("artifacts", {}).get("paths", []):
        assert (project.path / path).exists()


def test_jenkins(project: Folder) -> None:
    """Braces and quotes are closed; the commands do well, and the files that are archived are there."""
    (block,) = files("jenkins", "groovy")
    bare = re.sub(r"'[^'\n]*'", "", block.text)
    assert bare.count("{") == bare.count("}")
    assert "'" not in bare
    all_succeed(project, re.findall(r"\bsh '(.*)'", block.text))
    for path in re.findall(r"(?:artifacts|testResults): '(.*?)'", block.text):
        assert (project.path / path).exists()


def test_tox(project: Folder) -> None:
    """The real tox, without what it would fetch from an index."""
    pytest.importorskip("tox")
    (block,) = files("tox-nox", "ini")
    project.write("tox.ini", block.text)
    given = ["-x", "testenv.deps=", "-x", "testenv.allowlist_externals=servermgr"]
    done = project.run(sys.executable, "-m", "tox", "run", *given, "--", "-q")
    assert done.returncode == 0, done.stdout
    assert "servermgr run -- pytest -q" in done.stdout
    assert "1 passed" in done.stdout


def test_nox(project: Folder) -> None:
    """The real nox, without what it would fetch from an index."""
    pytest.importorskip("nox")
    (block,) = [block for block in files("tox-nox", "python") if block.file == "noxfile.py"]
    project.write("noxfile.py", block.text)
    done = project.run(sys.executable, "-m", "nox", "--no-venv", "--no-install", "--", "-q")
    assert done.returncode == 0, done.stdout
    assert "servermgr run -- pytest -q" in done.stdout
    assert "1 passed" in done.stdout


# ---- Docker ---------------------------------------------------------------------------------------------------


def instructions(text: str) -> Iterator[tuple[str, str]]:
    for line in text.replace("\\\n", "").splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def in_a_container() -> list[str]:
    """What makes a command PID 1, where this user may; else nothing."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return []
    return [] if subprocess.run([*command, "true"], check=False).returncode else command


@pytest.mark.parametrize("number", range(2))
def test_docker(project: Folder, number: int) -> None:
    """Known instructions; no shell is PID 1; and as PID 1 the entry point runs the command and has its status."""
    found = dict(instructions(files("docker", "dockerfile")[number].text))
    assert list(found) == ["FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD"]
    entry, command = json.loads(found["ENTRYPOINT"]), json.loads(found["CMD"])
    done = project.run(*in_a_container(), *entry, *command)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert project.run(*in_a_container(), *entry, "sh", "-c", "exit 7").returncode == 7


def test_the_other_entry_points_of_the_docker_page(project: Folder) -> None:
    """Those that stand in its text."""
    text = (RECIPES / "docker.md").read_text("utf-8")
    entries = [json.loads(found) for found in re.findall(r'`(?:ENTRYPOINT )?(\["servermgr".*?\])`', text)]
    assert len(entries) == 2
    for entry in entries:
        done = project.run(*entry, "true")
        assert done.returncode == 0, done.stdout
