"""What `server_fixture` makes: a function that pytest takes for a fixture with the arguments of the manager's maker."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    import pytest

    from servermgr.interface import ManagerInterface


def declared(make: Any, scope: str, name: str | None, timeout: float | None) -> Callable[..., Iterator[object]]:
    """The function of a fixture that starts a server and stops it; see `pytest_plugin.server_fixture`."""
    wanted = _arguments_of(make)
    give = functools.partial(_shared, make) if scope == "run" else _own

    def fixture(**arguments: Any) -> Iterator[object]:
        def made() -> ManagerInterface:
            manager: ManagerInterface = make(**{name: arguments[name] for name in wanted}) if callable(make) else make
            return manager

        yield from give(arguments["request"], made, timeout)

    fixture.__name__ = fixture.__qualname__ = name or "server"
    fixture.__doc__ = f"A server, started for the {scope}."
    names = dict.fromkeys(["request", *wanted])
    keyword = inspect.Parameter.KEYWORD_ONLY
    fixture.__signature__ = inspect.Signature([inspect.Parameter(name, keyword) for name in names])  # type: ignore[attr-defined]
    fixture.__servermgr_run__ = scope == "run"  # type: ignore[attr-defined]
    return fixture


def _arguments_of(make: object) -> list[str]:
    if not callable(make):
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [argument for argument in inspect.signature(make).parameters.values() if argument.kind in kinds]
    return [argument.name for argument in found if argument.default is argument.empty]


def _own(
    request: pytest.FixtureRequest, made: Callable[[], ManagerInterface], timeout: float | None
) -> Iterator[object]:
    from servermgr._pytest_servers import Servers  # noqa: PLC0415  # with the first server, not with its declaration
    from servermgr._pytest_use import Use  # noqa: PLC0415

    servers = Servers(Use.of(request.config), str(request.fixturename))
    yield servers.start(made(), timeout=timeout)
    servers.close()


def _shared(
    make: object, request: pytest.FixtureRequest, made: Callable[[], ManagerInterface], timeout: float | None
) -> Iterator[object]:
    from servermgr import _pytest_shared  # noqa: PLC0415

    with _pytest_shared.shared(request, _pytest_shared.key_of(make, request), made, timeout) as server:
        yield server
