"""`servermgr completions`: what a shell needs to complete the words of a command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from servermgr import sweeping
from servermgr._cli_look import Look

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG = """\
Names of servers are completed, too: those that run now.

  bash   eval "$(servermgr completions bash)"         in ~/.bashrc
  zsh    eval "$(servermgr completions zsh)"          in ~/.zshrc, after compinit
  fish   servermgr completions fish | source          in ~/.config/fish/config.fish

exit status: 0
"""
#: Commands whose words are names of running servers.
_NAMED = ("stop", "logs")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `completions`."""
    parser.add_argument("shell", choices=[*_SHELLS, "names"], help="the shell; `names` lists the running servers")
    parser.add_argument("--json", action="store_true", help="what is completed, as JSON")


def run(options: argparse.Namespace) -> int:
    """Print them."""
    look = Look(as_json=options.json)
    if options.shell == "names":
        names = list(dict.fromkeys(record.name for record in sweeping.recorded()))
        if options.json:
            look.data(names)
        for name in names if not options.json else ():
            look.answer(name)
        return 0
    words = {name: sorted(found) for name, found in _words().items()}
    if options.json:
        look.data(words)
    else:
        look.answer(_SHELLS[options.shell](words))
    return 0


def _words() -> dict[str, dict[str, str]]:
    """The options of each command, with their help."""
    from servermgr.cli import COMMANDS, make_parser  # noqa: PLC0415  # it has loaded this module

    parser = make_parser(list(COMMANDS))
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: _options(sub) for name, sub in subparsers.choices.items()}


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    found = {}
    for action in parser._actions:
        for word in action.option_strings:
            if word.startswith("--"):
                found[word] = str(action.help or "")
        if action.choices is not None and not action.option_strings:
            found |= {str(choice): "" for choice in action.choices}
    return found


def _bash(words: dict[str, list[str]]) -> str:
    cases = "\n".join(f"        {name}) words='{' '.join(options)}' ;;" for name, options in words.items())
    return f"""\
_servermgr() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='{" ".join(words)}'
    else
        case ${{COMP_WORDS[1]}} in
{cases}
        esac
        case ${{COMP_WORDS[1]}} in
        {"|".join(_NAMED)}) words="$words $(servermgr completions names 2>/dev/null)" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _servermgr servermgr"""


def _zsh(words: dict[str, list[str]]) -> str:
    return f"autoload -Uz bashcompinit && bashcompinit\n{_bash(words)}"


def _fish(words: dict[str, list[str]]) -> str:
    from servermgr.cli import COMMANDS  # noqa: PLC0415

    none = f"not __fish_seen_subcommand_from {' '.join(words)}"
    lines = ["complete -c servermgr -f"]
    lines += [f"complete -c servermgr -n '{none}' -a {name} -d '{COMMANDS[name].text}'" for name in words]
    for name, options in words.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        long = [f"complete -c servermgr {seen} -l {word[2:]}" for word in options if word.startswith("--")]
        lines += long + [f"complete -c servermgr {seen} -a {word}" for word in options if not word.startswith("--")]
        if name in _NAMED:
            lines.append(f"complete -c servermgr {seen} -a '(servermgr completions names 2>/dev/null)'")
    return "\n".join(lines)


_SHELLS: dict[str, Callable[[dict[str, list[str]]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
