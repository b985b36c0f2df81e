"""What the command lines of these programs have in common."""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks import environment


def say(text: str) -> None:
    """Progress, for the person who waits; what is found goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def begin(parser: argparse.ArgumentParser) -> None:
    """Refuse a system on which nothing can be measured; whoever ends us from here on gets the cleaning-up, too."""
    if problem := environment.unsupported():
        parser.error(problem)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
