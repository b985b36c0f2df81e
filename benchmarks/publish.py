"""Write what is published from the JSON of the runs: `python -m benchmarks.publish`, from the root of the checkout.

`benchmarks/RESULTS.md`, the plots beside it, and the figures in `README.md` are made from `results.json` (speed),
`matrix.json` (escapes) and `soak.json` (cycles) and nothing else. With `--check` nothing is written: the exit status is
1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import _matrix_report as matrix
from benchmarks import _readme_figures, _soak_report, plots, report
from benchmarks.processes import ROOT

Document = dict[str, Any]

HOME = ROOT / "benchmarks"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
HEAD = """\
# Results

Written by `python -m benchmarks.publish` from the JSON beside this file; do not edit. Anyone can have them again:
`scripts/matrix --publish`, `scripts/bench --large --publish`, `scripts/soak --publish`.
"""


def load(name: str, folder: Path = HOME) -> Document | None:
    """What a run has written; None if there was none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    found: Document = json.loads(path.read_text(encoding="utf-8"))
    return found


def files(folder: Path = HOME) -> dict[Path, str]:
    """What is to be written below `folder`, by path: RESULTS.md and the plots."""
    results, cells, soak = (load(name, folder) for name in ("results", "matrix", "soak"))
    found, parts = {}, [HEAD]
    if cells:
        found[folder / "plots" / "matrix.svg"] = plots.grid(cells)
        picture = "![Which peer ends which tree: the tables below as a picture](plots/matrix.svg)\n"
        parts += [matrix.section(cells, picture), report.environment(cells["environment"])]
    if results:
        picture = ""
        if any(measurement["name"] == "kill" for measurement in results["measurements"]):
            found[folder / "plots" / "kill.svg"] = plots.kill(results)
            picture = "![Time to kill a tree, by its size](plots/kill.svg)\n"
        parts.append(report.body(results, {"kill": picture}))
    if soak:
        parts += [_soak_report.section(soak), report.environment(soak["environment"])]
    found[folder / "RESULTS.md"] = "\n".join(parts)
    return found


def readme(text: str, folder: Path = HOME) -> str:
    """The README with its figures replaced by what the runs have given.

    Raises:
        ValueError: It has no place for them.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in the README")
    return f"{before}{BEGIN}\n{_readme_figures.block(load('results', folder), load('matrix', folder))}\n{END}{after}"


def everything() -> dict[Path, str]:
    """What is to be written, by path."""
    path = ROOT / "README.md"
    return files() | {path: readme(path.read_text(encoding="utf-8"))}


def keep(name: str, text: str) -> None:
    """Keep the JSON of a run as the one that is published, and write what is made from it."""
    (HOME / f"{name}.json").write_text(text, encoding="utf-8")
    write()


def write() -> list[Path]:
    """Write what differs; returns the paths."""
    changed = different()
    for path, text in changed.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)
    return list(changed)


def different() -> dict[Path, str]:
    """What is not as it would be written, by path."""
    every = everything()
    return {path: text for path, text in every.items() if not path.exists() or path.read_text("utf-8") != text}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if anything would change")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    changed = different()
    for path in changed:
        print(f"not as the JSON gives it: {path.relative_to(ROOT)}", file=sys.stderr)
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
