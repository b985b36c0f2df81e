"""When one manager of several fails: whose failure it is, and what becomes of it while the others are looked after."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn, TypeVar

from servermgr._stack_plan import name_of
from servermgr.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    T = TypeVar("T")

_log = logging.getLogger("servermgr")


def attempt(act: Callable[[], T], owner: object) -> tuple[T | None, BaseException | None]:
    """Do it, and return the result and the failure, one of them None.

    Also a Ctrl-C comes back as a failure: who has others to look after raises it when that is done.
    """
    try:
        return act(), None
    except BaseException as error:  # noqa: BLE001  # see above
        return None, named(error, owner)


def named(error: BaseException, owner: object) -> BaseException:
    """The failure, saying whose it is. What is no `Exception` (Ctrl-C, the end of the program) is nobody's."""
    if isinstance(error, WorkerError):
        error.name = error.name or name_of(owner)
        return error
    if isinstance(error, Exception):
        return WorkerError(error, name=name_of(owner))
    return error


def attach(error: BaseException, further: Sequence[BaseException]) -> None:
    """Let an error tell what else has failed: in its `details`, and in its traceback (in the log before 3.11)."""
    further = [other for other in further if other is not error]
    if not further:
        return
    if isinstance(error, WorkerError):
        error.details["further"] = tuple(further)
    for other in further:
        text = f"also failed: {other}" if isinstance(other, WorkerError) else f"also: {other!r}"
        if hasattr(error, "add_note"):
            error.add_note(text)
        else:
            _log.error("%s", text)


def raise_first(failures: Sequence[BaseException]) -> NoReturn:
    """Raise a failure, the others attached: a Ctrl-C before all others, else the first."""
    first = next((failure for failure in failures if not isinstance(failure, Exception)), failures[0])
    attach(first, failures)
    raise first
