"""Entries of a record, as they are believed: a record may be half-written, of another version, or planted.

Each of these functions raises ValueError or TypeError for what is not to be believed, and else returns the value.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from servermgr.identity import Identity

if TYPE_CHECKING:
    from typing import Any

_CHANGING = {"worker", "session"}
_MOST_PID = 2**31 - 1  # more does not fit a pid, and the system calls refuse it in ways of their own


def joined(content: bytes) -> dict[str, Any]:
    """All entries: the first line's, with what the lines behind it say anew.

    A last line without its end is being written, and does not count.
    """
    first, *later = content.split(b"\n")
    fields: dict[str, Any] = json.loads(first)
    for line in later[:-1]:
        changed = json.loads(line)
        if set(changed) != _CHANGING:
            raise ValueError(line)
        fields |= changed
    return fields


def text(value: object) -> str:
    """A text that can be a path or an argument."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    return value


def optional_text(value: object) -> str | None:
    """The same, or None."""
    return None if value is None else text(value)


def marker(value: object) -> str:
    """128 bits as 32 hexadecimal digits."""
    digits = text(value)
    if len(digits) != 32 or set(digits) - set("0123456789abcdef"):
        raise ValueError(value)
    return digits


def number(value: object, most: int = 2**63) -> int:
    """A whole number from 0 to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(value)
    return value


def seconds(value: object) -> float:
    """A number from 0 on; infinity is one."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:  # also refuses NaN
        raise ValueError(value)
    return float(value)


def identity(value: object, *, least: int = 2) -> Identity:
    """A process by pid, creation time and serial number.

    Args:
        value: The three in a list.
        least: The smallest pid to be believed. 0 and 1 are no process of ours; and kill(2) reads 0 and negative
            numbers as whole groups.
    """
    if not isinstance(value, list):
        raise TypeError(value)
    pid, start, serial = value
    if number(pid, _MOST_PID) < least:
        raise ValueError(value)
    return Identity(pid, number(start), number(serial, 2**64))
