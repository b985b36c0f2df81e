"""servermgr.errors: what the errors say, what they are kin of, and that they cross process borders."""

from __future__ import annotations

import copy
import errno
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from servermgr import base, errors
from servermgr.errors import (
    AddressInUseError,
    GuardianError,
    LaunchError,
    ReadyTimeoutError,
    SurvivorsError,
    WorkerError,
    WorkerExitedError,
    describe_status,
)
from servermgr.tree import StopOutcome, Survivor

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = [
    WorkerError,
    LaunchError,
    ReadyTimeoutError,
    WorkerExitedError,
    AddressInUseError,
    SurvivorsError,
    GuardianError,
]
every_kind = pytest.mark.parametrize("kind", KINDS)


class Unpicklable(Exception):
    """As errors of drivers are that hold a connection."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Ununpicklable(Exception):
    """Pickles, and fails when it is unpickled: its arguments are not those of its constructor."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port}")


def pickled(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes


# ---- what it says ---------------------------------------------------------------------------------------------


@every_kind
def test_an_error_holds_its_text_and_its_cause(kind: type[WorkerError]) -> None:
    """str() of WorkerError(cause, text) shows both, and the cause is kept as `exception` and for tracebacks."""
    cause = ConnectionRefusedError("nobody there")
    error = kind(cause, "it does not answer")
    assert "it does not answer" in str(error)
    assert "ConnectionRefusedError: nobody there" in str(error)
    assert error.exception is cause
    assert error.__cause__ is cause


@every_kind
def test_pieces_of_text_are_joined(kind: type[WorkerError]) -> None:
    """Several positional arguments after the cause are one text."""
    assert str(kind(None, "port", 80, "is closed")) == "port 80 is closed"


@every_kind
def test_an_error_says_everything_it_knows(kind: type[WorkerError]) -> None:
    """Name, pid, status, elapsed seconds, the last output and where the rest of it is are in the text."""
    error = kind(
        None, "gone", name="blog", pid=4711, status=-11, elapsed=1.26, output=["line one", "line two"], log="/tmp/x.log"
    )
    head, *rest = str(error).splitlines()
    assert head == "blog: gone (pid 4711, killed by SIGSEGV, after 1.3 s)"
    assert rest == ["last output (/tmp/x.log):", "    line one", "    line two"]


def test_a_cause_alone_is_said() -> None:
    """WorkerError(cause) reads as its cause, also when the cause has no text of its own."""
    assert str(WorkerError(OSError("disk full"))) == "OSError: disk full"
    assert str(WorkerError(TimeoutError())) == "TimeoutError()"
    assert str(WorkerError()) == ""


def test_a_text_alone_is_no_cause() -> None:
    """WorkerError("text"), which was never documented and is often written, is a text without a cause."""
    error = WorkerError("it broke")
    assert str(error) == "it broke"
    assert error.exception is None


def test_silence_is_said_too() -> None:
    """Where the output is kept and empty, the text says so: the reader need not look."""
    assert str(WorkerError(None, "gone", log="/tmp/x.log")).splitlines() == ["gone", "no output in /tmp/x.log"]


def test_what_is_not_known_is_none() -> None:
    """Facts that were not given are None, the output is empty, and the text names none of them."""
    error = WorkerError(None, "gone")
    assert [error.name, error.pid, error.status, error.elapsed, error.log] == [None] * 5
    assert (tuple(error.output), error.details) == ((), {})
    assert str(error) == "gone"


def test_other_keyword_arguments_are_kept() -> None:
    """`WorkerError(exception, *args, **kwargs)` takes any keyword argument; unknown ones are in `details`."""
    assert WorkerError(None, "gone", shard=3).details == {"shard": 3}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (7, "exit status 7"),
        (-9, "killed by SIGKILL"),
        (-40, "killed by signal 40"),
        (None, "still running"),
    ],
)
def test_a_status_is_said_in_words(status: int | None, text: str) -> None:
    """Exit statuses and signals read as a person says them, real-time signals without a name included."""
    assert describe_status(status) == text


# ---- whom it is kin of ----------------------------------------------------------------------------------------


@every_kind
def test_every_error_is_a_worker_error(kind: type[WorkerError]) -> None:
    """`except WorkerError` is enough, and the old name in `base` is the same class."""
    assert issubclass(kind, errors.WorkerError)
    assert base.WorkerError is errors.WorkerError


def test_a_time_out_is_a_timeout_error() -> None:
    """Code that knows nothing of this package catches it as TimeoutError."""
    with pytest.raises(TimeoutError):
        raise ReadyTimeoutError(None, "too late")


def test_an_address_in_use_is_an_os_error() -> None:
    """Code that knows nothing of this package finds EADDRINUSE in `errno`."""
    error = AddressInUseError(None, "taken", host="::1", port=80, holders=["nginx (12)"])
    assert isinstance(error, OSError)
    assert error.errno == errno.EADDRINUSE
    assert (error.details["host"], error.details["port"], error.details["holders"]) == ("::1", 80, ["nginx (12)"])


def test_survivors_are_listed() -> None:
    """The error about survivors carries each of them and the whole outcome; without any it reads as none."""
    survivor = Survivor(12, "nginx", "this user may not signal it")
    outcome = StopOutcome(survivors=(survivor,))
    error = SurvivorsError(None, "1 lives on", survivors=outcome.survivors, outcome=outcome)
    assert error.survivors == (survivor,)
    assert error.outcome is outcome
    assert (SurvivorsError(None, "").survivors, SurvivorsError(None, "").outcome) == ((), None)


# ---- across process borders -----------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("carry", [pickled, copy.copy, copy.deepcopy])
def test_an_error_arrives_whole(kind: type[WorkerError], carry: Callable[[WorkerError], WorkerError]) -> None:
    """Pickled or copied, an error is of the same class and says the same, fact by fact."""
    facts = {"name": "blog", "pid": 4711, "status": 3, "elapsed": 0.5, "output": ("last", "words"), "log": "/tmp/x"}
    error = kind(OSError(2, "no such file"), "one", "two", "three", shard=3, **facts)
    twin = carry(error)
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert {name: getattr(twin, name) for name in facts} == facts
    assert twin.details == {"shard": 3}
    assert isinstance(twin.exception, OSError)
    assert twin.exception.errno == errno.ENOENT
    assert twin.__cause__ is twin.exception


@every_kind
@pytest.mark.parametrize("cause", [Unpicklable("socket 7"), Ununpicklable("host", 80)])
def test_a_cause_that_cannot_be_pickled_does_not_take_the_error_with_it(
    kind: type[WorkerError], cause: Exception
) -> None:
    """Such a cause arrives as a RuntimeError that holds its repr; all else arrives unharmed."""
    twin = pickled(kind(cause, "it broke", pid=12))
    assert type(twin) is kind
    assert (twin.text, twin.pid) == ("it broke", 12)
    assert type(twin.exception) is RuntimeError
    assert repr(cause) in str(twin.exception)


def test_survivors_can_be_pickled() -> None:
    """The error that carries a StopOutcome crosses process borders with it."""
    survivor = Survivor(12, "nginx", "this user may not signal it")
    error = SurvivorsError(None, "1", survivors=(survivor,), outcome=StopOutcome(survivors=(survivor,), seconds=5.0))
    twin = pickled(error)
    assert twin.survivors == (survivor,)
    assert twin.outcome == error.outcome


@pytest.mark.parametrize("text", [(), ("late",), ("late", "by", "far")])
def test_the_kin_of_os_error_have_a_number_for_errno(text: tuple[str, ...]) -> None:
    """OSError reads two positional arguments as errno and strerror; the cause must not end up there."""
    assert ReadyTimeoutError(ValueError("?"), *text).errno in (None, errno.ETIMEDOUT)
    assert AddressInUseError(ValueError("?"), *text).errno == errno.EADDRINUSE
