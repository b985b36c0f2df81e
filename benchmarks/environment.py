"""What a figure depends on, besides the program: the machine and its software."""

from __future__ import annotations

import gzip
import os
import platform
import re
import sys
from pathlib import Path

import psutil

import servermgr


def describe() -> dict[str, str]:
    """What to know of this machine, by name, in the order in which to show it."""
    return {
        "kernel": _kernel(),
        "HZ": _hertz(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "virtual machine": _virtual(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "psutil": psutil.__version__,
        "servermgr": servermgr.__version__,
        "user": "root" if os.geteuid() == 0 else "an ordinary one",
        "processes running": str(len(psutil.pids())),
    }


def load() -> str:
    """The load average over one minute: how much else the machine did, and what the measurement itself added."""
    return f"{os.getloadavg()[0]:.2f}"


def _kernel() -> str:
    # The numbers alone: what a distributor or an owner appends names him, not what the kernel does.
    release = re.match(r"[0-9.]+", platform.release())
    words = [word for word in platform.version().split() if word.startswith(("SMP", "PREEMPT"))]
    return " ".join([platform.system(), release[0] if release else "?", *words])


def _hertz() -> str:
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}")):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        if found := re.search(r"^CONFIG_HZ=(\d+)", text, re.MULTILINE):
            return found[1]
    return "unknown"


def _cpuinfo(name: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _processor() -> str:
    return _cpuinfo("model name") or platform.machine()


def _virtual() -> str:
    flags = _cpuinfo("flags").split()
    if not flags:
        return "unknown"
    return "yes" if "hypervisor" in flags else "no"


def unsupported() -> str:
    """Why nothing can be measured here; empty if it can."""
    missing = [name for name in ("smaps_rollup", "schedstat") if not os.path.exists(f"/proc/self/{name}")]
    if not hasattr(os, "pidfd_open"):
        missing.append("pidfd_open")
    return (
        f"the measurements need Linux 5.3 or newer; {sys.platform} here lacks {', '.join(missing)}" if missing else ""
    )
