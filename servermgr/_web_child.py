"""In the process of a web server: finds the application, and becomes the server. Never imported by the owner.

`main(["gunicorn", MODULE, ARGUMENT…])`, also `uvicorn` and `runserver`, runs that server once the module was found.
`main(["look", APPLICATION])` imports the application and prints whether it is `wsgi` or `asgi`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import runpy
import sys
from typing import Any


def main(arguments: list[str]) -> None:
    """Do what the arguments say; ends the process with a line of text if there is no such module."""
    server, target, *rest = arguments
    if os.environ.get("RUN_MAIN") != "true":  # set by Django's reloader for the child that it restarts
        require(target.partition(":")[0])
    if server == "look":
        sys.stdout.write(f"{kind_of(load(target))}\n")
    elif server == "runserver":
        management = importlib.import_module("django.core.management")
        management.execute_from_command_line(["django-admin", "runserver", *rest])
    else:
        if server == "gunicorn":
            rest = [*quiet(), *rest]
        sys.argv = [server, *rest]
        runpy.run_module(server, run_name="__main__", alter_sys=True)


def quiet() -> list[str]:
    """Options against a file of gunicorn's outside: since version 25 it makes a socket in the user's home."""
    known = {setting.name for setting in importlib.import_module("gunicorn.config").KNOWN_SETTINGS}
    return ["--no-control-socket"] if "control_socket_disable" in known else []


def require(module: str) -> None:
    """End with one line if there is no such module: the servers' own words for that are a page of traceback."""
    if is_found(module):
        return
    try:
        importlib.import_module(module)  # what makes itself findable only by running is found now
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module != missing and not module.startswith(f"{missing}."):
            raise  # it is there, and wants something else that is not
        told = os.environ.get("PYTHONPATH")
        places = f"{os.getcwd()}, PYTHONPATH ({told})" if told else os.getcwd()
        sys.exit(
            f"servermgr: there is no module {module!r} in {places}, or where {sys.executable} looks: see the options "
            "cwd and pythonpath"
        )


def is_found(module: str) -> bool:
    """Whether the module's file is found. Nothing of it is run, its packages included."""
    places: Any = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        specs = (finder.find_spec(name, places) for finder in sys.meta_path)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return False
        places = spec.submodule_search_locations or []
    return True


def load(application: str) -> Any:
    """The application that `package.module:name` or `package.module:factory()` names."""
    module, _, name = application.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in name.removesuffix("()").split("."):
        found = getattr(found, attribute)
    return found() if name.endswith("()") else found


def kind_of(application: Any) -> str:
    """`asgi` if it takes scope, receive and send (in version 2: scope); `wsgi` if environ and start_response."""
    call = application if inspect.isroutine(application) or inspect.isclass(application) else application.__call__
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(call):
        return "asgi"
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = [one for one in inspect.signature(application).parameters.values() if one.kind in kinds]
    except ValueError:  # written in C, and silent about it
        return "wsgi"
    needed = [one for one in parameters if one.default is one.empty]
    return "asgi" if len(needed) in (1, 3) else "wsgi"
