"""The escape matrix: `python -m benchmarks.matrix`, from the root of the checkout."""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks import _matrix_report as report
from benchmarks import environment, publish
from benchmarks._matrix_rows import Row, rows
from benchmarks.command_line import begin, say
from benchmarks.peers import PEERS
from benchmarks.processes import environment as program_environment
from benchmarks.processes import module

DESCRIPTION = """\
Who gets away from whom: each peer holds each hostile tree and each real server, ends it politely, and is killed.

A cell is an owner (a process of its own) that holds one tree by one peer. Either it is told to stop that, or it is
killed by SIGKILL; then it is seen who of the tree lives. Bystanders with the same program and arguments must not get a
signal. Everything is ended after each cell, and nothing else of this machine is touched.
"""
EPILOG = """\
examples:
  python -m benchmarks.matrix --peers servermgr,killpg --rows 'escape:d*'     a part of it
  python -m benchmarks.matrix --publish      all of it, into benchmarks/matrix.json, RESULTS.md, plots and README.md

The exit status is 1 if a cell of servermgr is not ok.
"""
ENDINGS = ("stop", "owner")
#: Seconds from the polite signal to the forced one, for every peer.
GRACE = 1.0
#: Seconds beyond the grace period after which a tree whose owner was killed counts as left; half of it after a stop.
MOURNING = 2.0
#: Seconds for one cell, all included.
PATIENCE = 150.0

Cell = tuple[str, Row, str]
Document = dict[str, Any]


class Lane:
    """A process that runs cells one after the other."""

    def __init__(self, folder: Path, grace: float, mourning: float) -> None:
        folder.mkdir()
        folder.chmod(0o755)  # servers that become another user have to enter it
        self._process = subprocess.Popen(
            module("lane", folder, grace, mourning),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=program_environment() | {"TMPDIR": str(folder)},
        )

    def run(self, cell: Cell) -> Document:
        """What became of it.

        Raises:
            RuntimeError: The lane itself has failed.
        """
        peer, row, ending = cell
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{peer}\t{row.key}\t{ending}\n".encode())
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], PATIENCE)
        line = stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"no answer for {peer}, {row.key}, {ending}")
        told: Document = json.loads(line)
        return told

    def close(self) -> None:
        """Let it end, and wait for that."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(60.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def run(cells: Sequence[Cell], *, jobs: int, grace: float = GRACE, mourning: float = MOURNING) -> list[Document]:
    """Run all cells, some side by side. Returns what became of each, in the order of the cells."""
    waiting: queue.SimpleQueue[tuple[int, Cell]] = queue.SimpleQueue()
    for numbered in enumerate(cells):
        waiting.put(numbered)
    found: dict[int, Document] = {}
    stop = threading.Event()
    folder = Path(tempfile.mkdtemp(prefix="matrix-"))
    folder.chmod(0o755)

    def drive(number: int) -> None:
        lane = Lane(folder / f"lane-{number}", grace, mourning)
        try:
            while not stop.is_set():
                try:
                    place, cell = waiting.get_nowait()
                except queue.Empty:
                    return
                found[place] = lane.run(cell)
                if len(found) % 50 == 0:
                    say(f"{len(found)} of {len(cells)} cells")
        except BaseException:
            stop.set()  # the other lanes need not go on
            raise
        finally:
            lane.close()

    try:
        with ThreadPoolExecutor(jobs) as pool:
            try:
                list(pool.map(drive, range(jobs)))
            except BaseException:
                stop.set()
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [found[place] for place in sorted(found)]


def document(cells: Sequence[Cell], told: list[Document], **facts: Any) -> Document:
    """Everything, as it goes to JSON."""
    peers = list(dict.fromkeys(peer for peer, _, _ in cells))
    picked = list(dict.fromkeys(row for _, row, _ in cells))
    return {
        "environment": environment.describe(),
        **facts,
        "peers": [
            {"key": key, "name": peer.name, "version": peer.version, "how": peer.how, "missing": peer.missing}
            for key, peer in PEERS.items()
            if key in peers
        ],
        "rows": [{"key": row.key, "title": row.title, "missing": row.missing} for row in picked],
        "cells": told,
    }


def measure(peers: Sequence[str], picked: Sequence[Row], endings: Sequence[str], **options: Any) -> Document:
    """The matrix of these peers and rows; what is missing here is left out of the cells, and named."""
    command = options.pop("command", "")
    every = [(peer, row, ending) for row in picked for ending in endings for peer in peers]
    cells = [cell for cell in every if not cell[1].missing and not PEERS[cell[0]].missing]
    began = time.monotonic()
    told = run(cells, **options)
    took = time.monotonic() - began
    facts = {"grace": GRACE, "mourning": MOURNING} | options
    return document(every, told, command=command, took=round(took, 1), **facts)


def faults(found: Document) -> list[Document]:
    """The cells of servermgr that are not ok."""
    return [
        cell for cell in found["cells"] if cell["peer"] == "servermgr" and cell["verdict"] not in ("ok", "impossible")
    ]


# ---- command line ---------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    begin(parser)
    peers = options.peers.split(",") if options.peers else list(PEERS)
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    picked = [row for row in rows() if any(fnmatch(row.key, pattern) for pattern in options.rows.split(","))]
    if not picked:
        parser.error(f"no row is like {options.rows}")
    if options.publish and (options.peers or options.rows != "*" or options.endings != ",".join(ENDINGS)):
        parser.error("a part of the matrix is not to be published")
    for key in peers:
        if PEERS[key].missing:
            say(f"{key}: {PEERS[key].missing}: its column stays empty")
    words = " ".join(["python -m benchmarks.matrix", *(sys.argv[1:] if arguments is None else arguments)])
    found = measure(peers, picked, options.endings.split(","), jobs=options.jobs, command=words)
    print(report.section(found))
    _write(found, options)
    for cell in faults(found):
        say(f"servermgr, {cell['row']}, {cell['ending']}: {cell['verdict']} {cell['left']} {cell['error']}")
    return int(bool(faults(found)))


def _write(found: Document, options: argparse.Namespace) -> None:
    if options.json:
        Path(options.json).write_text(report.to_json(found), encoding="utf-8")
        say(f"written: {options.json}")
    if options.publish:
        publish.keep("matrix", report.to_json(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.matrix",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", metavar="NAMES", help=f"some of {','.join(PEERS)}; default: all")
    parser.add_argument("--rows", default="*", metavar="PATTERNS", help="some rows, as `escape:*` or `server:nginx:*`")
    parser.add_argument("--endings", default=",".join(ENDINGS), metavar="ENDINGS", help="stop, owner, or both")
    parser.add_argument("--jobs", type=int, default=6, choices=range(1, 17), metavar="N", help="cells side by side (6)")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--publish", action="store_true", help="all of it, into this folder and README.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
