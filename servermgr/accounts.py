"""Whose rights a server has: the caller's own, or, where the caller is root, those of an ordinary user.

Some servers refuse to run as root, and none should.
"""

from __future__ import annotations

import importlib
import os
import tempfile

from servermgr.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a line begins with that says why a command could not be run as its user.
COMPLAINT = "servermgr: "


class Runner:
    """Runs commands as the caller himself.

    Attributes:
        name: The user whom commands are run as; None for the caller himself.
    """

    name: str | None = None

    def acting(self, argv: Sequence[str], folder: str) -> list[str]:
        """The command that becomes `argv`, as the user and in `folder`.

        What hinders it there is one line on its standard error, which begins with `COMPLAINT`; its status is
        then 1.
        """
        return list(argv)

    def hand_over(self, path: str) -> None:
        """Give a file or directory to the user; a link is not followed."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file for the user, readable by him alone.

        Written aside and moved into place: neither is a link followed, nor does a half-written file ever have the
        name.

        Raises:
            LaunchError: It cannot be written.
        """
        folder, name = os.path.split(path)
        try:
            descriptor, aside = tempfile.mkstemp(prefix=f"{name}.", dir=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                self.hand_over(aside)
                os.replace(aside, path)
            except BaseException:
                os.unlink(aside)
                raise
        except OSError as error:
            raise LaunchError(error, f"cannot write {path}") from error

    def may_write(self, folder: str) -> bool:
        """Whether the user may make files in a directory, as far as its modes tell."""
        return os.access(folder, os.W_OK | os.X_OK)

    def environment(self) -> dict[str, str]:
        """What a login as the user would change in the environment."""
        return {}


def choose(folder: str, user: str | None, candidates: Sequence[str], *, root_if_closed: bool = False) -> Runner:
    """Whom to run a server as that keeps its files in `folder`: the caller himself, unless he is root.

    Args:
        folder: It may be missing.
        user: Told by the caller. None: the owner of `folder`, if that is not root; else the first of
            `candidates` that there is.
        candidates: Names of accounts.
        root_if_closed: Whether root runs it after all, where nobody was told and `folder` is closed to that user.

    Raises:
        LaunchError: There is no such user, or the caller is not root and told another user than himself.
    """
    me = effective_user()
    if me is None:  # a system without accounts of this kind
        if user is not None:
            raise LaunchError(f"this system cannot start a server as another user ({user!r})")
        return Runner()
    # By name: where there are no accounts, neither can the module be imported nor mypy see into it.
    posix = importlib.import_module("servermgr._accounts_posix")
    if me != 0:
        if user is not None and posix.number_of(user) != me:
            raise LaunchError(f"only root can start a server as another user ({user!r})")
        return Runner()
    runner: Runner | None = posix.choose(folder, user, candidates, root_if_closed)
    return Runner() if runner is None else runner


def effective_user() -> int | None:
    """The user id that counts for access; None where there are none."""
    ask = getattr(os, "geteuid", None)
    return None if ask is None else int(ask())
