"""The house rules, read from the source.

Each rule is a function from a module's source to its breaches. It is run over the whole package, and over a
snippet that breaks it (it must find that one) and one that does not (it must stay silent).
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "servermgr"

#: The servers: one module each, with a class Manager.
SERVERS = {"django_app", "haproxy", "memcached", "nginx", "postgres", "pyro_ns", "pyro_service", "redis", "web_app"}

#: Rooms from the top down. A new module gets its place here, `_x_y` lives in the room of `x`. Imports run downward, or
#: to a neighbour of the same floor as long as no circle comes of it.
FLOORS = (
    {"servermgr", "__main__", "cli", "pytest", "pytest_plugin"},
    {"command", "stack", *SERVERS},
    {"accounts", "pyro", "python", "server", "web"},  # what several servers share: `_web_…`, `_python_…`
    {"base", "holding", "interface"},
    {
        "adopted",
        "guarded",
        "guardian",
        "job",
        "launching",
        "ledger",
        "nursery",
        "output",
        "pidfile",
        "ports",
        "probe_forms",
        "probes",
        "process",
    }
    | {"leftovers", "pinned", "readiness", "request", "stopping", "sweeping", "trace", "tree"},
    {"addresses", "_holders", "_trying", "identity", "losses", "platform"},
    {"deadline"},
    {"errors"},
)

ROOMS = {room for floor in FLOORS for room in floor}

#: What the guardian may load of this package, and what it may not load of anyone's: it starts with every first
#: server of a program, and its memory is paid for by every tree.
GUARDIAN_MAY = {"guardian", "stopping", "pidfile", "platform", "deadline", "errors"}
GUARDIAN_MAY_NOT = {
    "asyncio", "collections", "concurrent", "contextlib", "ctypes.util", "dataclasses", "inspect", "json", "logging",
    "multiprocessing", "pathlib", "pickle", "psutil", "re", "shutil", "socket", "subprocess", "tempfile", "threading",
    "typing",
}  # fmt: skip

#: The most lines of a module.
MOST_LINES = 300

#: Rooms that no user enters.
INNER = {"adopted", "guarded", "guardian", "job", "leftovers", "nursery", "pinned", "platform", "stopping"}

#: Names that are documented once, on `ManagerInterface`.
INTERFACE = {"health", "ready_wait", "start", "stop", "wait"}


@dataclass(frozen=True)
class Module:
    """One source file: `name` is dotted, `servermgr.platform` for a package's `__init__.py`."""

    name: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def room(self) -> str:
        return room_of(self.name)

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and dotted name of everything imported, wherever it stands; relative names made absolute."""
        return list(imported(self.nodes, self.package))

    @cached_property
    def imports_at_run_time(self) -> list[tuple[int, str]]:
        """The same without what only a type checker reads, and what only runs when the module is a program."""
        idle = {id(inner) for node in self.nodes if is_idle(node) for inner in ast.walk(node)}
        return list(imported([node for node in self.nodes if id(node) not in idle], self.package))

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def dotted(self) -> list[tuple[ast.AST, str]]:
        """Every name and attribute in the source as the full name of what it means, `import … as` resolved."""
        aliases = dict(alias for node in self.nodes for alias in aliases_of(node))
        return [(node, full) for node in self.nodes if (full := full_name(node, aliases))]


def room_of(name: str) -> str:
    """The room of a dotted name of ours. What the package itself exports lies on the top floor, as it does."""
    first = [*name.split("."), "servermgr"][1]
    if first[0].isupper():
        return "servermgr"
    return max((room for room in ROOMS if first.startswith(f"_{room}_")), key=len, default=first)


def floor_of(room: str) -> int | None:
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


def imported(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[int, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_idle(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")


def aliases_of(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def full_name(node: ast.AST, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        left = full_name(node.value, aliases)
        return f"{left}.{node.attr}" if left else None
    return None


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == "servermgr"


def uses(module: Module, names: set[str]) -> Iterator[str]:
    for node, full in module.dotted:
        if full in names:
            yield f"{module.name}:{node.lineno}: {full}"  # type: ignore[attr-defined]


# ---- the rules ------------------------------------------------------------------------------------------------


def has_a_room(module: Module) -> Iterator[str]:
    """Every module stands on a floor."""
    if floor_of(module.room) is None:
        yield f"{module.name}: has no room yet: give it its place in FLOORS"


def imports_run_downward(module: Module) -> Iterator[str]:
    """A module imports what stands below it, or beside it; also inside functions and for types alone."""
    here = floor_of(module.room)
    for line, name in module.imports:
        there = floor_of(room_of(name)) if is_ours(name) else None
        if here is not None and there is not None and there < here and room_of(name) != module.room:
            yield f"{module.name}:{line}: imports {name}, which stands above it"


def servers_know_only_what_is_below(module: Module) -> Iterator[str]:
    """A server's module imports neither `platform` nor another server."""
    if module.room not in SERVERS:
        return
    for line, name in module.imports:
        room = room_of(name) if is_ours(name) else ""
        if room == "platform" or room in SERVERS - {module.room}:
            yield f"{module.name}:{line}: imports {name}"


def guardian_starts_fast(module: Module) -> Iterator[str]:
    """The guardian imports little of this package, and nothing slow of any other."""
    if module.room != "guardian":
        return
    for line, name in module.imports_at_run_time:
        slow = any(name == slow or name.startswith(f"{slow}.") for slow in GUARDIAN_MAY_NOT)
        if slow and not name.startswith("collections.abc"):  # loaded at every start of Python
            yield f"{module.name}:{line}: imports {name}, which is slow to load"
        if is_ours(name) and room_of(name) not in GUARDIAN_MAY:
            yield f"{module.name}:{line}: imports {name}, which is no business of the guardian"


def only_platform_asks_which_system(module: Module) -> Iterator[str]:
    """Which system this is, is asked in `platform` and nowhere else.

    Allowed is one statement that a type checker reads, on its own: `assert sys.platform != "win32"`.
    """
    if module.room == "platform":
        return
    for_mypy = {
        id(inner)
        for node in module.tree.body
        if isinstance(node, ast.Assert) and ast.unparse(node) == "assert sys.platform != 'win32'"
        for inner in ast.walk(node)
    }
    for node, full in module.dotted:
        if full in ASKS and id(node) not in for_mypy:
            yield f"{module.name}:{node.lineno}: {full}"  # type: ignore[attr-defined]
    for line, name in module.imports:
        if name in ASKS or name.partition(".")[0] == "platform":
            yield f"{module.name}:{line}: imports {name}"


ASKS = {"sys.platform", "os.name", "os.uname", "sys.getwindowsversion", "sysconfig.get_platform"}


def no_cleanup_in_del(module: Module) -> Iterator[str]:
    """No `__del__`: it runs at an unknown time, in an unknown thread, or never."""
    for node in module.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "__del__":
            yield f"{module.name}:{node.lineno}: __del__"


def no_preexec_fn(module: Module) -> Iterator[str]:
    """No `preexec_fn`: it runs Python between fork and exec, where another thread's lock may never open."""
    for node in module.nodes:
        named = (isinstance(node, ast.keyword) and node.arg == "preexec_fn") or (
            isinstance(node, ast.Constant) and node.value == "preexec_fn"
        )
        if named:
            yield f"{module.name}:{node.lineno}: preexec_fn"  # type: ignore[attr-defined]


def no_wall_clock(module: Module) -> Iterator[str]:
    """No wall clock: a step of it would cut a grace period short, or stretch it."""
    clocks = {"time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today"}
    yield from uses(module, clocks | {"datetime.now", "datetime.utcnow", "datetime.today", "datetime.datetime.today"})


def only_deadline_sleeps(module: Module) -> Iterator[str]:
    """`time.sleep` stands in `deadline` only."""
    if module.room != "deadline":
        yield from uses(module, {"time.sleep"})


def modules_stay_small(module: Module) -> Iterator[str]:
    """A module has at most 300 lines."""
    lines = module.text.count("\n")
    if lines > MOST_LINES:
        yield f"{module.name}: {lines} lines: has the room become two?"


def no_module_named_utils(module: Module) -> Iterator[str]:
    """No module is named for holding whatever fitted nowhere."""
    if module.name.split(".")[-1] in {"utils", "util", "helpers", "common", "misc"}:
        yield f"{module.name}: name it for what it does"


def public_names_are_documented(module: Module) -> Iterator[str]:
    """Public modules, classes, functions and methods have docstrings.

    A property may be documented by its class, and a method by another class of the module that has it, too.
    """
    if any(part.startswith("_") for part in module.name.split(".")) or module.room in INNER:
        return
    if not ast.get_docstring(module.tree):
        yield f"{module.name}: no docstring"
    found = list(definitions(module.tree, ()))
    methods = {node.name for node, above in found if above and ast.get_docstring(node)}
    for node, above in found:
        said_above = any(re.search(rf"\b{node.name}\b", ast.get_docstring(holder) or "") for holder in above)
        inherited = bool(above) and (node.name in methods or (node.name in INTERFACE and module.room != "interface"))
        if not ast.get_docstring(node) and not inherited and not (is_property(node) and said_above):
            yield f"{module.name}:{node.lineno}: {'.'.join([*(holder.name for holder in above), node.name])}"


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(
    holder: ast.Module | ast.ClassDef, above: tuple[ast.ClassDef, ...]
) -> Iterator[tuple[Definition, tuple[ast.ClassDef, ...]]]:
    for node in holder.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node, above
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, (*above, node))


def is_property(node: Definition) -> bool:
    return any(ast.unparse(decorator).rpartition(".")[2] in PROPERTIES for decorator in node.decorator_list)


PROPERTIES = {"property", "cached_property", "setter"}


class Rule(NamedTuple):
    """A rule with its controls: (module name, source) that break it, and that keep it."""

    check: Callable[[Module], Iterator[str]]
    breaks: list[tuple[str, str]]
    keeps: list[tuple[str, str]]


RULES = [
    Rule(
        has_a_room,
        [("servermgr.attic", ""), ("servermgr._nginxish", "")],
        [("servermgr.base", ""), ("servermgr", ""), ("servermgr._nginx_config", "")],
    ),
    Rule(
        imports_run_downward,
        [
            ("servermgr.errors", "import servermgr.deadline"),
            ("servermgr.deadline", "from servermgr import base"),
            ("servermgr.tree", "from servermgr.base import Manager"),
            ("servermgr.tree", "def f():\n    from .base import Manager"),
            ("servermgr.platform.linux", "from ..tree import Tree"),
            ("servermgr.identity", "from . import tree"),
            ("servermgr.base", "from servermgr import CommandManager"),
            ("servermgr.base", "if TYPE_CHECKING:\n    from servermgr.command import CommandManager"),
        ],
        [
            ("servermgr.base", "from servermgr import errors, tree\nfrom .platform import linux\nimport os"),
            ("servermgr.tree", "from servermgr.output import Output"),
            ("servermgr.platform.linux", "from . import posix\nfrom ..errors import WorkerError"),
        ],
    ),
    Rule(
        servers_know_only_what_is_below,
        [
            ("servermgr.nginx", "from servermgr import platform"),
            ("servermgr.nginx", "from servermgr.platform.linux import NAME"),
            ("servermgr.redis", "from .nginx import Manager"),
            ("servermgr.redis", "from servermgr._nginx_quoting import quote"),
        ],
        [
            ("servermgr.nginx", "from servermgr.base import Manager\nfrom servermgr import _nginx_quoting"),
            ("servermgr.tree", "from . import platform"),
        ],
    ),
    Rule(
        guardian_starts_fast,
        [
            ("servermgr.guardian.warden", "import psutil"),
            ("servermgr.guardian.warden", "from typing import Any"),
            ("servermgr.guardian.warden", "def f():\n    import subprocess"),
            ("servermgr.guardian.warden", "import socket"),
            ("servermgr.guardian.warden", "from servermgr.tree import Tree"),
            ("servermgr.guardian.warden", "from ..output import Output"),
        ],
        [
            ("servermgr.guardian.warden", "import os, select, _socket\nfrom collections.abc import Callable"),
            ("servermgr.guardian.warden", "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from typing import Any"),
            ("servermgr.guardian.warden", "from servermgr import errors\nfrom .protocol import send"),
            ("servermgr.tree", "import subprocess"),
        ],
    ),
    Rule(
        only_platform_asks_which_system,
        [
            ("servermgr.base", "import sys\nif sys.platform == 'linux': pass"),
            ("servermgr.base", "import sys as s\ns.platform"),
            ("servermgr.base", "from sys import platform"),
            ("servermgr.base", "import os\nwindows = os.name == 'nt'"),
            ("servermgr.base", "import platform\nplatform.system()"),
            ("servermgr.base", "import sys\ndef f():\n    assert sys.platform != 'win32'"),
        ],
        [
            ("servermgr.platform.linux", "import sys\nsys.platform"),
            ("servermgr.base", "from servermgr import platform\nplatform.NAME"),
            ("servermgr.guardian.warden", "import sys\nassert sys.platform != 'win32'"),
        ],
    ),
    Rule(
        no_cleanup_in_del,
        [("servermgr.base", "class A:\n    def __del__(self): pass")],
        [("servermgr.base", "class A:\n    def close(self): del self.x")],
    ),
    Rule(
        no_preexec_fn,
        [("servermgr.tree", "Popen(x, preexec_fn=f)"), ("servermgr.tree", "Popen(x, **{'preexec_fn': f})")],
        [("servermgr.tree", "Popen(x, start_new_session=True)")],
    ),
    Rule(
        no_wall_clock,
        [
            ("servermgr.base", "import time\ntime.time()"),
            ("servermgr.base", "from time import time\ntime()"),
            ("servermgr.base", "import time as clock\nclock.time_ns()"),
            ("servermgr.base", "from datetime import datetime\ndatetime.now()"),
            ("servermgr.base", "import datetime\ndatetime.datetime.now()"),
        ],
        [("servermgr.base", "import time\ntime.monotonic()")],
    ),
    Rule(
        only_deadline_sleeps,
        [("servermgr.base", "import time\ntime.sleep(1)"), ("servermgr.base", "from time import sleep as nap\nnap(1)")],
        [
            ("servermgr.deadline", "import time\ntime.sleep(1)"),
            ("servermgr.base", "from servermgr.deadline import sleep\nsleep(1)"),
        ],
    ),
    Rule(
        modules_stay_small,
        [("servermgr.base", "x = 1\n" * (MOST_LINES + 1))],
        [("servermgr.base", "x = 1\n" * MOST_LINES)],
    ),
    Rule(no_module_named_utils, [("servermgr.platform.utils", "")], [("servermgr.platform.posix", "")]),
    Rule(
        public_names_are_documented,
        [
            ("servermgr.base", "def f(): pass"),
            ("servermgr.base", '"""D."""\nclass A: pass'),
            ("servermgr.base", '"""D."""\nclass A:\n    """D."""\n    def f(self): pass'),
            ("servermgr.base", '"""D."""\nclass A:\n    """D."""\n    @property\n    def f(self): pass'),
        ],
        [
            ("servermgr.base", '"""D."""\ndef f():\n    """D."""\ndef _g(): pass'),
            ("servermgr.base", '"""D."""\nclass A:\n "D."\n def f(): "D."\nclass B:\n "D."\n def f(): pass'),
            ("servermgr.base", '"""D."""\nclass A:\n    """Has f: a thing."""\n    @property\n    def f(self): pass'),
            ("servermgr.nginx", '"""D."""\nclass A:\n    """D."""\n    def start(self): pass'),
        ],
    ),
]


def modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found.append(Module(".".join(parts[:-1] if is_package else parts), path.read_text("utf-8"), is_package))
    return found


def rule_name(rule: Rule) -> str:
    return rule.check.__name__


def examples(which: str) -> list[object]:
    return [
        pytest.param(rule.check, Module(*example), id=f"{rule_name(rule)}-{number}")
        for rule in RULES
        for number, example in enumerate(getattr(rule, which))
    ]


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    breaches = [breach for module in modules() for breach in rule.check(module)]
    assert not breaches, "\n".join([rule.check.__doc__ or "", *breaches])


@pytest.mark.parametrize(("check", "module"), examples("breaks"))
def test_a_breach_is_found(check: Callable[[Module], Iterator[str]], module: Module) -> None:
    assert list(check(module))


@pytest.mark.parametrize(("check", "module"), examples("keeps"))
def test_what_is_allowed_is_not_reported(check: Callable[[Module], Iterator[str]], module: Module) -> None:
    assert list(check(module)) == []


def test_the_package_is_read_at_all() -> None:
    assert {"servermgr.errors", "servermgr.deadline"} <= {module.name for module in modules()}


# ---- circles --------------------------------------------------------------------------------------------------


def circle(sources: list[Module]) -> list[str]:
    """Modules that import one another in a circle, the first again at the end; empty when there is none."""
    names = {module.name for module in sources}
    needs = {
        module.name: {
            target
            for _, name in module.imports_at_run_time
            for target in (name if name in names else name.rpartition(".")[0],)
            if target in names - {module.name, "servermgr", module.package}
        }
        for module in sources
    }
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(needs[name]):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(names) if (found := walk(name, []))), [])


def test_no_modules_import_one_another() -> None:
    """Neighbours on one floor may import each other, but not in a circle."""
    assert circle(modules()) == []


def test_a_circle_is_found() -> None:
    tree, output, pidfile = "servermgr.tree", "servermgr.output", "servermgr.pidfile"
    round_trip = [
        Module(tree, "from servermgr.output import Output"),
        Module(output, "import servermgr.pidfile"),
        Module(pidfile, "def f():\n    from servermgr import tree"),
    ]
    assert set(circle(round_trip)) == {tree, output, pidfile}
    assert circle(round_trip[:2]) == []


# ---- files and words ------------------------------------------------------------------------------------------

#: Folders and files that are published. (Not a list from git: it holds in an unpacked source archive, too.)
PUBLISHED = ("servermgr", "tests", "benchmarks", "examples", "docs", "scripts", "*.md", "*.toml")

#: What only means something where this was written. Put together so that this file does not hold it.
LEAKS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        "/" + r"(work|farm|root|home/\w+)/",
        r"\bsession" + r" \d",
        r"\b(issue|ticket)s?" + r" #?\d",
        r"\b(DESIGN|LIMITS|PEERS|WINDOWS)" + r"\.md",
        r"\bthe" + r" (lead|brief)\b",
        r"\bsub-?" + r"agents?\b",
    )
]


def published_files() -> Iterator[Path]:
    for pattern in PUBLISHED:
        for path in ROOT.glob(pattern):
            yield from (file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def leaks(text: str) -> list[str]:
    return [match.group() for pattern in LEAKS for match in pattern.finditer(text)]


def test_nothing_published_speaks_of_where_it_was_written() -> None:
    found = []
    for path in published_files():
        if "__pycache__" not in path.parts:
            text = path.read_text("utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {words}" for words in leaks(text)]
    assert found == []


@pytest.mark.parametrize("words", ["in /wo" + "rk/main", "Session" + " 1", "see issue" + " #3", "see DESIGN" + ".md"])
def test_such_words_are_found(words: str) -> None:
    assert leaks(words)


@pytest.mark.parametrize("words", ["/var/www/root", "a session of its own", "an issue", "it leads", "workers/1"])
def test_other_words_are_not(words: str) -> None:
    assert leaks(words) == []


def test_no_test_folder_hides_the_standard_library() -> None:
    """A folder `tests/platform` would be imported in place of the module of that name."""
    assert not (ROOT / "tests" / "platform").exists()


# ---- what the guardian really loads ---------------------------------------------------------------------------


def loaded_by(imports: Iterable[str]) -> set[str]:
    """Names in `sys.modules` after these imports, in an interpreter started as the guardian's is."""
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", *(f"import {name}" for name in imports)]
    program = "\n".join([*lines, "print(*sys.modules, sep='\\n')"])
    run = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_guardian_loads_nothing_slow() -> None:
    """Counted in a real interpreter, for what a module imports by way of another shows only there."""
    names = [module.name for module in modules() if module.room == "guardian" and not module.name.endswith("__main__")]
    assert names
    too_much = loaded_by(names) & (GUARDIAN_MAY_NOT - {"collections"}) - loaded_by([])
    assert too_much == set()


def test_a_slow_load_is_seen() -> None:
    assert {"subprocess", "re"} <= loaded_by(["subprocess", "re"]) - loaded_by([])
