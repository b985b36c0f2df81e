"""What can go wrong, as exceptions that carry data.

Every error of this package is a `WorkerError`; the subclasses are also kin of the standard library's
`TimeoutError` or `OSError` where those fit, so that code which knows nothing of servermgr handles them.
"""

from __future__ import annotations

import errno
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would cost every process that imports this package
    from collections.abc import Sequence
    from typing import Any


def describe_status(status: int | None) -> str:
    """An exit status as a person says it.

    Args:
        status: As `subprocess.Popen.returncode`: `0` and above is an exit status, below `0` the negative
            number of the signal that ended the process, `None` means that it has not ended.
    """
    if status is None:
        return "still running"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no name of their own
        return f"killed by signal {-status}"


class WorkerError(Exception):
    """A worker failed to start, to become ready, to respond, or to end.

    Args:
        exception: The cause, or None. Also kept as `__cause__`, so that a traceback shows it.
        *args: Text, in one or more pieces.
        **kwargs: `name` (of the manager), `pid`, `status` (as `Popen.returncode`), `elapsed` (seconds),
            `output` (the last lines of the server's output) and `log` (where the rest of it is) become
            attributes and part of the text. Others are kept in `details`.

    Attributes:
        exception: The cause, or None.
        text: The pieces of text as one.
        name: The manager's name, or None.
        pid: The worker's pid, or None.
        status: The worker's status as `Popen.returncode`; None if it has not ended, or nothing is known of it.
        elapsed: Seconds from the start of what failed, or None.
        output: The last lines of the server's output; empty where there are none.
        log: The file with the rest of the output, or None.
        details: Every other keyword argument.

    Instances can be pickled (they cross process borders in pytest-xdist and multiprocessing); a cause
    that cannot be pickled arrives as a `RuntimeError` holding its repr.
    """

    def __init__(self, exception: BaseException | str | None = None, *args: object, **kwargs: Any) -> None:
        if isinstance(exception, str):  # WorkerError("text"), which people write although it never was documented
            exception, args = None, (exception, *args)
        super().__init__()
        self.args = (exception, *args)  # whole: OSError takes two of them for errno and text, and drops a third
        self.exception = exception
        self.text = " ".join(str(piece) for piece in args)
        self.name: str | None = kwargs.pop("name", None)
        self.pid: int | None = kwargs.pop("pid", None)
        self.status: int | None = kwargs.pop("status", None)
        self.elapsed: float | None = kwargs.pop("elapsed", None)
        self.output: Sequence[str] = tuple(kwargs.pop("output", None) or ())
        self.log: str | None = kwargs.pop("log", None)
        self.details: dict[str, Any] = kwargs
        self.__cause__ = exception

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.name, self.text or self._cause_text()) if part)
        facts = ", ".join(self._facts())
        lines = [f"{head} ({facts})" if facts else head]
        if self.text and self.exception is not None:
            lines.append(f"cause: {self._cause_text()}")
        if self.output:
            lines.append(f"last output ({self.log}):" if self.log else "last output:")
            lines += [f"    {line}" for line in self.output]
        elif self.log:
            lines.append(f"no output in {self.log}")
        return "\n".join(lines)

    def _cause_text(self) -> str:
        if self.exception is None:
            return ""
        text = str(self.exception)
        return f"{type(self.exception).__name__}: {text}" if text else repr(self.exception)

    def _facts(self) -> list[str]:
        facts = []
        if self.pid is not None:
            facts.append(f"pid {self.pid}")
        if self.status is not None:
            facts.append(describe_status(self.status))
        if self.elapsed is not None:
            facts.append(f"after {self.elapsed:.1f} s")
        return facts

    def _data(self) -> dict[str, Any]:
        names = ("name", "pid", "status", "elapsed", "output", "log")
        return {name: getattr(self, name) for name in names} | self.details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), _portable(self.exception), self.args[1:], self._data())


def _portable(cause: BaseException | None) -> BaseException | None:
    try:
        import pickle  # noqa: PLC0415  # an error is made often, and rarely sent to another process

        pickle.loads(pickle.dumps(cause))  # noqa: S301  # our own bytes; some exceptions pickle but do not unpickle
    except Exception:  # noqa: BLE001  # a pickle hook of a foreign exception may raise anything at all
        return RuntimeError(repr(cause))
    return cause


def _rebuild(
    kind: type[WorkerError], cause: BaseException | None, args: tuple[object, ...], data: dict[str, Any]
) -> WorkerError:
    return kind(cause, *args, **data)


class LaunchError(WorkerError):
    """The command could not be started: no such program, no permission, no such directory."""


class _SystemWorkerError(WorkerError, OSError):
    """Kin of `OSError`, with the number of the class and not with what `OSError` makes of our arguments."""

    _number = errno.EIO

    def __init__(self, exception: BaseException | str | None = None, *args: object, **kwargs: Any) -> None:
        super().__init__(exception, *args, **kwargs)
        self.errno = self._number
        self.strerror = self.text
        self.filename = None


class ReadyTimeoutError(_SystemWorkerError, TimeoutError):
    """The server did not become ready in time. Nothing of it is left running.

    Attributes:
        errno: `errno.ETIMEDOUT`.
    """

    _number = errno.ETIMEDOUT


class WorkerExitedError(WorkerError):
    """The worker ended before it was ready. Nothing of its tree is left running."""


class AddressInUseError(_SystemWorkerError):
    """Something else listens on the address.

    Attributes:
        errno: `errno.EADDRINUSE`.
        details: `host`, `port`, and `holders`, a list of texts that say who listens, as far as this user
            may know.
    """

    _number = errno.EADDRINUSE


class SurvivorsError(WorkerError):
    """Processes of the tree are alive after `stop`, and cannot be ended from here.

    Attributes:
        survivors: One entry for each, with pid, name and the reason.
        outcome: The whole `StopOutcome`.
    """

    @property
    def outcome(self) -> Any:
        return self.details.get("outcome")

    @property
    def survivors(self) -> tuple[Any, ...]:
        return tuple(self.details.get("survivors", ()))


class GuardianError(WorkerError):
    """The guardian could not be started, or was lost. The text says what became of the tree."""
