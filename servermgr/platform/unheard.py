"""What is raised where a process cannot be asked to end."""

from __future__ import annotations


class Unheard(OSError):
    """This system has no way to ask that process: it can be killed, or left alone, and waiting for it is in vain."""
