"""The server's own last word, as part of the error that says that it ended."""

from __future__ import annotations

import contextlib

from servermgr.errors import WorkerExitedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def explained(complaint: Callable[[Sequence[str]], str | None]) -> Iterator[None]:
    """Add to a `WorkerExitedError` of the block what the server has said against starting.

    Args:
        complaint: Finds it among the last lines of the output; None where there is nothing of the kind.
    """
    try:
        yield
    except WorkerExitedError as error:
        reason = complaint(error.output)
        if reason is None:
            raise
        facts = {name: getattr(error, name) for name in ("name", "pid", "status", "elapsed", "output", "log")}
        raise WorkerExitedError(error.exception, f"{error.text}: {reason}", **facts, **error.details) from None
