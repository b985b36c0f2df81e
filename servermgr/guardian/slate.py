"""Where a guardian that is no subreaper writes down who is in its tree, for the nursery to read when it is killed.

Memory that both share, since it is made before the fork: it survives the writer, needs no file and no message.
"""

from __future__ import annotations

import marshal
import mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    #: Creation time and session by pid.
    Members: TypeAlias = dict[int, tuple[int, int]]

_HALF = 64 * 1024
#: About 16 bytes each: so many fit, and the rest of a larger tree is found by the links that these have.
_MOST = 2000


class Slate:
    """Two halves and which of them holds; a writer that is killed in the middle leaves the other one."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * _HALF + 1)
        self._written: Members = {}

    def write(self, members: Members) -> None:
        """Write down who is in the tree."""
        if members == self._written:
            return
        half = 1 - self._memory[2 * _HALF]
        content = marshal.dumps(dict(list(members.items())[:_MOST]))
        self._memory[half * _HALF : half * _HALF + len(content)] = content
        self._memory[2 * _HALF] = half
        self._written = dict(members)

    def read(self) -> Members:
        """Who was written down last; nobody, if nobody ever was."""
        half = self._memory[2 * _HALF]
        content = self._memory[half * _HALF : (half + 1) * _HALF]
        return marshal.loads(content) if content[0] else {}  # noqa: S302  # our own words, in memory of our own

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
