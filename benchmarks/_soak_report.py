"""The soak as a table, made from its JSON alone."""

from __future__ import annotations

import json
from typing import Any

from benchmarks._soak_look import WATCHED
from benchmarks.report import number, table

Document = dict[str, Any]


def section(found: Document) -> str:
    """What was run, what was watched, and the verdict."""
    grown = [verdict["name"] for verdict in found["verdicts"] if verdict["grows"]]
    said = f"**growth of {', '.join(grown)}**" if grown else "no growth"
    text = (
        f"{found['cycles']:,} start/stop cycles with {found['servers']:,} servers ({', '.join(found['kinds'])}) of one "
        f"owner in {found['took'] / 60:.0f} min, {len(found['samples'])} samples between cycles: {said}. Compared are "
        f"the medians of the first and of the last third of the samples. Made with `{found['command']}`.\n"
    )
    lines = [["", "first third", "last third", "may grow by", "verdict"]]
    for verdict in found["verdicts"]:
        words = "**grows**" if verdict["grows"] else "no growth"
        title = WATCHED[verdict["name"]].title
        lines.append([title, *(number(verdict[part]) for part in ("first", "last", "tolerance")), words])
    return "\n".join(["## Soak\n", text, table(lines)])


def to_json(found: Document) -> str:
    """Everything, one sample on a line."""
    samples = ",\n  ".join(json.dumps(sample) for sample in found["samples"])
    rest = json.dumps({name: value for name, value in found.items() if name != "samples"}, indent=1, ensure_ascii=False)
    return rest.rstrip("}\n") + f',\n "samples": [\n  {samples}\n ]\n}}\n'
