"""Command line: `python -m benchmarks [NAME …]`, from the root of the checkout."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    address,
    crash,
    environment,
    guardian,
    imports,
    kill,
    many,
    phases,
    publish,
    readiness,
    report,
    servers,
    start,
    stop,
    tree,
)
from benchmarks.command_line import say
from benchmarks.harness import FULL, LARGE, QUICK, Measurement, Plan

MEASUREMENTS: dict[str, Measurement] = {
    found.MEASUREMENT.name: found.MEASUREMENT
    for found in (stop, readiness, start, servers, kill, tree, address, crash, imports, guardian, many, phases)
}

DESCRIPTION = """\
Measure servermgr, each figure beside a reference that is taken in the same run, in turns with it.

Prints the machine, then one table for each measurement: for every case the median (and the 95th percentile) of ours,
of the reference and of others, their ratio and difference, and the goal. On a machine that does other things as well
the ratio is what to trust. Nothing is ever touched but the processes that this program has started itself, and none
of them is left when it ends.
"""

EPILOG = """\
examples:
  python -m benchmarks --quick                a first look, in about half a minute
  python -m benchmarks                        everything, in some minutes
  python -m benchmarks kill --large           one measurement, with up to 4,000 processes
  python -m benchmarks --large --publish      everything, into results.json, RESULTS.md, plots and README.md
  python -m benchmarks --from results.json --output tables.md
                                              the tables again, without measuring

A missed goal is shown and does not change the exit status: figures are for people to judge.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for measurement in MEASUREMENTS.values():
            print(f"{measurement.name:10} {measurement.title}")
        return 0
    unknown = [name for name in options.names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    if options.publish and (options.names or options.quick or options.source):
        parser.error("a part of the figures is not to be published")
    if options.source:
        document = report.from_json(Path(options.source).read_text(encoding="utf-8"))
        print(report.results(document))
    else:
        if problem := environment.unsupported():
            parser.error(problem)
        document = run([MEASUREMENTS[name] for name in options.names or MEASUREMENTS], _plan(options), _said(arguments))
    _write(document, options)
    if options.publish:
        publish.keep("results", report.to_json(document))
    return 0


def run(measurements: Sequence[Measurement], plan: Plan, command: str) -> report.Document:
    """Measure, printing each table as soon as it is complete. Returns everything, as it goes to JSON."""
    facts = environment.describe()
    print(report.environment(facts), flush=True)
    document: report.Document = {"environment": facts, "command": command, "plan": dataclasses.asdict(plan)}
    document["measurements"] = []
    for measurement in measurements:
        began, before = time.monotonic(), environment.load()
        say(f"{measurement.name} …")
        rows = [row.document() for row in measurement.measure(plan)]
        done = {"name": measurement.name, "title": measurement.title, "text": measurement.text, "rows": rows}
        done["load"] = [before, environment.load()]
        document["measurements"].append(done)
        say(f"{measurement.name}: {time.monotonic() - began:.0f} s")
        print(report.section(done), flush=True)
    return document


def _said(arguments: Sequence[str] | None) -> str:
    words = list(sys.argv[1:] if arguments is None else arguments)
    return " ".join(["python -m benchmarks", *words])


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else LARGE if options.large else FULL
    return plan if options.rounds is None else dataclasses.replace(plan, rounds=options.rounds)


def _write(document: report.Document, options: argparse.Namespace) -> None:
    for path, text in ((options.json, report.to_json(document)), (options.output, report.results(document))):
        if path:
            Path(path).write_text(text, encoding="utf-8")
            say(f"written: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (see --list); default: everything")
    parser.add_argument("--list", action="store_true", help="say what can be measured")
    parser.add_argument("--rounds", type=_rounds, metavar="N", help="samples of each contender in a cheap case (20)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="5 rounds, small sizes")
    size.add_argument(
        "--large", action="store_true", help="larger sizes, longer times: 4,000 processes, 10,000 connections"
    )
    parser.add_argument("--json", metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--output", metavar="FILE", help="write the tables to FILE, as Markdown")
    parser.add_argument("--publish", action="store_true", help="write all that is published from the figures")
    parser.add_argument("--from", dest="source", metavar="FILE", help="measure nothing: take what --json has written")
    return parser


def _rounds(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 < int(text) <= 10_000:
            return int(text)
    raise argparse.ArgumentTypeError(f"a number from 1 to 10000, not {text!r}")


if __name__ == "__main__":
    sys.exit(main())
