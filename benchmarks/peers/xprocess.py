"""pytest-xprocess, in a run of pytest as it is made for.

The holder hands its order and its voice to the test by two names of this module, for pytest calls the test itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import py
import pytest
from xprocess import ProcessStarter, XProcess

from benchmarks.peers import Order, Talk

_order: Order
_talk: Talk


def hold(order: Order, talk: Talk) -> None:
    """Run pytest with this file as its only test, in the folder of the order."""
    module = sys.modules["benchmarks.peers.xprocess"]
    module._order, module._talk = order, talk  # type: ignore[attr-defined]
    arguments = [
        "-q",
        "-s",
        "--noconftest",
        "-p",
        "xprocess",
        f"--rootdir={order.folder}",
        "-c",
        "/dev/null",
        "--import-mode=importlib",
    ]
    status = pytest.main([*arguments, "-o", f"cache_dir={order.folder}/cache", "--pyargs", "benchmarks.peers.xprocess"])
    if status:
        raise SystemExit(f"pytest ended with {status!r}")


def test_hold(xprocess: Any) -> None:
    module: Any = sys.modules["benchmarks.peers.xprocess"]
    order: Order = module._order

    class Starter(ProcessStarter):
        args = order.argv  # type: ignore[assignment]
        popen_kwargs = {"cwd": order.folder}  # noqa: RUF012  # as its documentation writes it
        terminate_on_interrupt = True

        def startup_check(self) -> bool:
            return True

    xprocess.ensure("server", Starter)
    module._talk(lambda: _terminate(xprocess, order.grace))


def _terminate(xprocess: Any, grace: float) -> None:
    if xprocess.getinfo("server").terminate(timeout=grace) == -1:
        raise RuntimeError("terminate() returned -1")


@contextlib.contextmanager
def started(command: list[str], folder: str, check: Callable[[], bool]) -> Iterator[Any]:
    """Its information on a started process, as the fixture would give it, but without a run of pytest around it.

    Args:
        command: The server.
        folder: For its log and pidfile.
        check: What it asks, each 0.1 s, until it is true.
    """

    class Starter(ProcessStarter):
        args = command  # type: ignore[assignment]

        def startup_check(self) -> bool:
            return check()

    silent = SimpleNamespace(debug=lambda *_: None)
    xprocess = XProcess(SimpleNamespace(), py.path.local(folder), silent)
    try:
        xprocess.ensure("server", Starter)
        yield xprocess.getinfo("server")
    finally:
        xprocess.getinfo("server").terminate(timeout=5)
        for resource in xprocess.resources:
            resource.popen.wait(5)  # psutil has reaped it, which the Popen does not know
        xprocess._force_clean_up()
