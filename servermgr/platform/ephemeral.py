"""Which TCP ports the system gives away by itself, for outgoing connections and for port 0.

Importable on every system; where it cannot be asked, the widest of the usual defaults is the answer.

Sources: Linux's ip-sysctl documentation (`ip_local_port_range`, `ip_local_reserved_ports`), sysctl(8) of macOS and
the BSDs (`net.inet.ip.portrange`), RFC 6335 (49152 to 65535, as Windows has it).
"""

from __future__ import annotations

import functools
import os

_PROC = "/proc/sys/net/ipv4"
#: Linux begins at 32768, the others at 49152.
_USUAL = range(32768, 65536)


def kept_ports() -> tuple[range, ...]:
    """Ports that must not be chosen: those that the system gives to anyone, and those reserved by its administrator."""
    local = _read("ip_local_port_range").split()
    if len(local) != 2:
        return (_by_sysctl(),)
    return (_range(*local), *_reserved(_read("ip_local_reserved_ports")))


def _read(name: str) -> str:
    try:
        with open(f"{_PROC}/{name}", encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _range(first: str, last: str) -> range:
    return range(int(first), int(last) + 1)


def _reserved(text: str) -> list[range]:
    """A list such as `8080,9148-9150`: services that are known to this machine, running or not."""
    spans = [entry.partition("-") for entry in text.split(",") if entry.strip()]
    return [_range(first, last or first) for first, _, last in spans]


@functools.lru_cache(maxsize=1)
def _by_sysctl() -> range:
    import shutil  # noqa: PLC0415  # never on Linux
    import subprocess  # noqa: PLC0415

    program = shutil.which("sysctl", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
    if program is None:
        return _USUAL
    names = [f"net.inet.ip.portrange.{end}" for end in ("first", "last")]
    answer = subprocess.run([program, "-n", *names], capture_output=True, text=True, check=False).stdout.split()
    return _range(*answer) if len(answer) == 2 and all(map(str.isdigit, answer)) else _USUAL
