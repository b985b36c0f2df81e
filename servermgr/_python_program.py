"""Programs written in Python, in an interpreter and an environment of their own.

What the owner has imported, patched or forked into is not theirs: each starts in a fresh interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from servermgr.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_STARTER = os.path.join(_FOLDER, "_python_child.py")
#: Prints those of its arguments that are no modules here. Top-level names only: nothing is imported for that.
_ASK = "import sys; from importlib.util import find_spec; print(*[n for n in sys.argv[1:] if not find_spec(n)])"
#: Seconds for an interpreter to start and answer that.
_ASK_TIMEOUT = 20.0
#: Means for the process that got them, not for its children: where to tell systemd that it is ready.
_NOT_INHERITED = {"NOTIFY_SOCKET"}


class Interpreter:
    """A Python interpreter with its environment.

    Args:
        executable: Path or name; None for the one that runs this.
        env: The whole environment; None for this process's own.
        pythonpath: Directories to look for modules in, before those of `PYTHONPATH`.
        cwd: The directory to start in; None for this process's own. Modules are looked for there first.
        without: Names of environment variables that the program must not see.

    Attributes:
        executable, env, cwd: What to start programs with.
    """

    def __init__(
        self,
        executable: str | os.PathLike[str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        pythonpath: Iterable[str | os.PathLike[str]] = (),
        cwd: str | os.PathLike[str] | None = None,
        without: Iterable[str] = (),
    ) -> None:
        self._own = executable is None
        self.executable = os.fspath(executable) if executable is not None else sys.executable
        self.cwd = os.path.abspath(cwd if cwd is not None else os.curdir)
        self.env = {key: value for key, value in (os.environ if env is None else env).items() if key not in without}
        for name in _NOT_INHERITED:
            self.env.pop(name, None)
        # What it prints shall be in the log when it is killed, too.
        self.env.setdefault("PYTHONUNBUFFERED", "1")
        folders = [os.path.join(self.cwd, os.fspath(folder)) for folder in pythonpath]
        if folders:
            given = self.env.get("PYTHONPATH")
            self.env["PYTHONPATH"] = os.pathsep.join([*folders, given] if given else folders)

    def command(self, program: str, title: str | None, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a program of this package.

        Args:
            program: File name of a module of this package, which is run and not imported.
            title: To show in `ps`; None for none.
            arguments: For the program.
        """
        return [self.executable, _STARTER, title or "", os.path.join(_FOLDER, program), *arguments]

    def missing(self, *packages: str) -> list[str]:
        """Those of these top-level packages that the interpreter does not find.

        Raises:
            LaunchError: There is no such interpreter, or it does not run.
        """
        if self._own and all(map(_is_here, packages)):  # what this process finds, one like it will
            return []
        return self._ask(packages)

    def require(self, package: str, extra: str) -> None:
        """Raise unless the interpreter finds a package.

        Args:
            package: Its top-level name.
            extra: The extra of this package that brings it.

        Raises:
            LaunchError: It does not; the text says how to install it.
        """
        if self.missing(package):
            raise not_installed(package, extra, self.executable)

    def _ask(self, packages: Sequence[str]) -> list[str]:
        try:
            done = subprocess.run(
                [self.executable, "-c", _ASK, *packages],
                env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=_ASK_TIMEOUT, check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            complaint = str(error.stderr).strip()
            raise LaunchError(None, f"{self.executable} does not run:\n{complaint}", status=error.returncode) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LaunchError(error, f"cannot run {self.executable} in {self.cwd}") from error
        return done.stdout.split()


def not_installed(package: str, extra: str, executable: str = sys.executable) -> LaunchError:
    """The error that says how to install what is missing."""
    return LaunchError(None, f"{package} is not installed for {executable}: pip install 'servermgr[{extra}]'")


def _is_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module in sys.modules that does not say where it is from
        return False
