"""`servermgr ps`: every recorded tree, live, kept or left over."""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import TYPE_CHECKING, Any

from servermgr import _cli_look, _cli_trees
from servermgr._cli_look import BAD, FAINT, GOOD, STRONG, WARNING, Look, Node
from servermgr.deadline import sleep

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from servermgr._cli_look import Piece
    from servermgr._cli_trees import Member, Standing

    Render = Callable[[list[Standing]], None]

EPILOG = """\
A server is `live` while the program that started it lives, `kept` if it was started to outlive that one, and `left
over` when nobody has it any more: `servermgr sweep` ends it.

examples:
  servermgr ps                     what runs, as trees
  servermgr ps --watch             the same, every two seconds, until Ctrl-C
  servermgr ps --json              for machines

exit status: 0
"""
_LOOKS = {_cli_trees.LIVE: GOOD, _cli_trees.KEPT: WARNING, _cli_trees.LEFT_OVER: BAD}
_SHOWN = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ps`."""
    parser.add_argument("--json", action="store_true", help="one JSON document; with --watch one in each line")
    text = "look again every S seconds (default: 2), until Ctrl-C"
    parser.add_argument("--watch", nargs="?", type=_pause, const=2.0, metavar="S", help=text)


def _pause(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 86400:
        raise ValueError(text)
    return value


def run(options: argparse.Namespace) -> int:
    """Show them."""
    look = Look(as_json=options.json)
    if options.watch is None:
        _show(_cli_trees.standing(), look)
        _cli_trees.tell_unreadable(look)
        return 0
    with contextlib.suppress(KeyboardInterrupt), _watching(look) as show:
        while True:
            show(_cli_trees.standing())
            sleep(options.watch)
    return 0


def _show(trees: list[Standing], look: Look) -> None:
    if look.as_json:
        look.data([tree.data() for tree in trees])
        return
    for node in map(node_of, trees):
        look.tree(node)
    if not trees:
        look.answer("no server is running or left over")


def node_of(tree: Standing) -> Node:
    """A tree as it is printed."""
    command = shlex.join(tree.record.argv)
    owner = (
        f"owner {tree.owner} [{tree.record.owner.pid}]" if tree.owner else f"owner [{tree.record.owner.pid}] is dead"
    )
    head: list[Piece] = [
        (tree.record.name, STRONG),
        "  ",
        (tree.state, _LOOKS[tree.state]),
        f"  {_cli_trees.shown_age(tree.age)}  {_cli_trees.shown_memory(tree.memory)}  ",
        *[f"{port}  " for port in tree.record.ports],
        (f"{owner}  ", FAINT),
        command if len(command) <= _SHOWN else f"{command[:_SHOWN]}…",
    ]
    return Node(head, _nodes(tree.members))


def _nodes(members: Sequence[Member]) -> list[Node]:
    """The forest that the depths say."""
    roots: list[Node] = []
    path: list[list[Node]] = [roots]
    for member in members:
        children: list[Node] = []
        del path[member.depth + 1 :]
        path[-1].append(Node(_pieces(member), children))
        path.append(children)
    return roots


def _pieces(member: Member) -> list[Any]:
    ports = f"  {' '.join(member.ports)}" if member.ports else ""
    return [member.name, (f" [{member.pid}]", FAINT), f"  {_cli_trees.shown_memory(member.memory)}", (ports, GOOD)]


@contextlib.contextmanager
def _watching(look: Look) -> Any:
    """What shows one picture after the other: in its place on a terminal, else below it."""
    drawing = None if look.as_json else _cli_look.console(sys.stdout)
    if drawing is None:
        yield lambda trees: _next(trees, look)
        return
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    with Live(console=drawing, auto_refresh=False) as live:

        def picture(trees: list[Standing]) -> None:
            drawn = [_cli_look.rich_tree(node_of(tree)) for tree in trees]
            live.update(Group(*drawn or ["no server is running or left over"]), refresh=True)

        yield picture


def _next(trees: list[Standing], look: Look) -> None:
    if look.as_json:
        look.compact([tree.data() for tree in trees])
        return
    _show(trees, look)
    look.answer("")
