"""How the command line speaks: to people on a terminal, in plain lines elsewhere, and in JSON when it is told so.

What is drawn on a terminal is drawn by rich (`pip install servermgr[cli]`), which also honours `NO_COLOR`. Without
it, and wherever a stream is no terminal, the same words come as plain text.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeAlias

    #: A piece of a line: text, or text and how it looks, in rich's words.
    Piece: TypeAlias = "str | tuple[str, str]"

GOOD, BAD, WARNING, FAINT, STRONG = "green", "bold red", "yellow", "dim", "bold"


class Node(NamedTuple):
    """One line of a tree, and what hangs below it."""

    pieces: Sequence[Piece]
    children: Sequence[Node] = ()


def console(stream: TextIO) -> Any:
    """What draws on the stream; None where that is no terminal, or rich is not installed."""
    if not _is_terminal(stream):
        return None
    try:
        from rich.console import Console  # noqa: PLC0415  # only on terminals: it takes longer to load than `ps` takes
    except ImportError:
        return None
    return Console(file=stream, highlight=False, soft_wrap=True)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _rich_text(pieces: Sequence[Piece]) -> Any:
    from rich.text import Text  # noqa: PLC0415

    return Text.assemble(*pieces)


def plain(pieces: Sequence[Piece]) -> str:
    """A line without its looks."""
    return "".join(piece if isinstance(piece, str) else piece[0] for piece in pieces)


class Look:
    """What a command writes: its answer to standard output, everything else to standard error.

    Args:
        as_json: Whether answers and messages are JSON.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = _Stream(sys.stdout, bare=as_json)
        self._err = _Stream(sys.stderr, bare=as_json, needed=False)

    # --- the answer ---------------------------------------------------------------------------------------------

    def answer(self, *pieces: Piece) -> None:
        """A line of the answer."""
        self._out.line(pieces)

    def tree(self, root: Node) -> None:
        """A tree, as part of the answer."""
        self._out.tree(root)

    def data(self, data: object) -> None:
        """The whole answer, for machines."""
        self._out.line([json.dumps(data, indent=2, default=str)])

    def compact(self, data: object) -> None:
        """A part of the answer for machines, in one line."""
        self._out.line([json.dumps(data, default=str)])

    # --- messages -----------------------------------------------------------------------------------------------

    def say(self, *pieces: Piece, **facts: Any) -> None:
        """A message. With JSON, `facts` are written as one object in a line, and nothing where there are none."""
        if not self.as_json:
            self._err.line([("servermgr: ", FAINT), *pieces])
        elif facts:
            self._err.line([json.dumps(facts, default=str)])

    def error(self, error: object) -> None:
        """What went wrong."""
        if self.as_json:
            self._err.line([json.dumps({"event": "error", **error_data(error)}, default=str)])
        else:
            first, *more = str(error).splitlines() or [""]
            self._err.line([("servermgr: ", FAINT), ("error: ", BAD), first])
            for line in more:
                self._err.line([line])

    @contextlib.contextmanager
    def waiting(self, *labels: str) -> Iterator[Progress]:
        """Show what is waited for, with the time it takes, for as long as the block runs."""
        drawing = None if self.as_json else self._err.console
        with _drawn(drawing, labels) if drawing is not None else contextlib.nullcontext(Progress()) as progress:
            yield progress


def error_data(error: object) -> dict[str, Any]:
    """An error as data; a `WorkerError` has more to tell than its text."""
    names = ("name", "text", "pid", "status", "elapsed", "log", "output")
    known = {name: value for name in names if (value := getattr(error, name, None)) not in (None, ())}
    return {"error": type(error).__name__, "message": str(error), **known}


class Progress:
    """What is waited for; without a terminal it shows nothing: the lines that are said meanwhile have to do."""

    def done(self, label: str) -> None:
        """One of them need not be waited for any more."""


class _Drawn(Progress):
    def __init__(self, progress: Any, labels: Sequence[str]) -> None:
        self._progress = progress
        self._tasks = {label: progress.add_task(label, total=None) for label in labels}

    def done(self, label: str) -> None:
        if label in self._tasks:
            self._progress.remove_task(self._tasks.pop(label))


@contextlib.contextmanager
def _drawn(drawing: Any, labels: Sequence[str]) -> Iterator[Progress]:
    from rich.progress import Progress as Drawing  # noqa: PLC0415
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Drawing(*columns, console=drawing, transient=True) as progress:
        yield _Drawn(progress, labels)


class _Stream:
    """One of the two streams.

    Args:
        stream: The stream.
        bare: Whether it stays without looks on a terminal, too.
        needed: Whether a reader that has gone away is a reason to end: not for messages, behind which there is work.
    """

    def __init__(self, stream: TextIO, *, bare: bool, needed: bool = True) -> None:
        self._stream = stream
        self.bare = bare
        self._needed = needed
        self._console: Any = None
        self._asked = False

    @property
    def console(self) -> Any:
        if not self._asked:
            self._asked = True
            self._console = console(self._stream)
        return self._console

    def line(self, pieces: Sequence[Piece]) -> None:
        if self.console is not None and not self.bare:
            self.console.print(_rich_text(pieces))
        else:
            self._write(plain(pieces) + "\n")

    def tree(self, root: Node) -> None:
        if self.console is not None:
            self.console.print(rich_tree(root))
        else:
            self._write("".join(f"{line}\n" for line in plain_tree(root)))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError, AttributeError):  # gone, closed, or never there
            if self._needed:
                raise


def plain_tree(root: Node, depth: int = 0) -> Iterator[str]:
    """A tree as lines, indented by depth."""
    yield "   " * (depth - 1) + ("└─ " if depth else "") + plain(root.pieces)
    for child in root.children:
        yield from plain_tree(child, depth + 1)


def rich_tree(root: Node) -> Any:
    """A tree as rich draws it."""
    from rich.tree import Tree  # noqa: PLC0415

    tree = Tree(_rich_text(root.pieces), guide_style=FAINT)
    pending = [(tree, root)]
    while pending:
        above, node = pending.pop()
        pending += [(above.add(_rich_text(child.pieces)), child) for child in node.children]
    return tree
