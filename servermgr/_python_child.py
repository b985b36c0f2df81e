"""First in the process of a server that is written in Python: gives it its name, and hands over to its program.

Run by path, `python _python_child.py TITLE PROGRAM ARGUMENT…`, since the interpreter may be that of another
environment, where this package is not installed. So it and the programs need the standard library alone. They
are never imported by the owner.

The title shows in `ps`: as the whole command line where setproctitle is installed for that interpreter, else as
the first argument of it. On Linux it is the short name, too (`ps -o comm`, `top`), cut to 15 bytes.
"""

from __future__ import annotations

import os
import sys

# The interpreter has put this folder first, whose platform/ would hide the standard library's module. In its place
# comes the directory that the server was started in, as with `python -m`.
if sys.path and os.path.abspath(sys.path[0]) == os.path.dirname(os.path.abspath(__file__)):
    del sys.path[0]
sys.path.insert(0, os.getcwd())

import importlib  # only now is it the standard library's for sure, with all that it imports
import runpy


def set_title(title: str) -> None:
    """Show the title in `ps`, as far as this system and this environment allow."""
    if not title:
        return
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(os.fsencode(title)[:15])
    except OSError:  # no such file on this system
        pass
    try:
        importlib.import_module("setproctitle").setproctitle(title)
    except ImportError:
        pass


def main() -> None:
    """Become the program named on the command line."""
    title, program, *arguments = sys.argv[1:]
    set_title(title)
    runpy.run_path(program)["main"](arguments)


if __name__ == "__main__":  # else it is a worker of multiprocessing, which reads the main program again
    main()
