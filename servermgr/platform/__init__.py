"""Which system this is: the only place of the package that chooses.

Every system's module has the same functions; `linux` says in full what each of them promises. The rest of
the package asks for abilities (`HOLDER`, what a function returns), never for names of systems.
"""

from __future__ import annotations

import sys

from servermgr.platform.unheard import Unheard

if sys.platform == "win32":
    from servermgr.platform.windows import (
        HOLDER,
        NAME,
        SIGCONT,
        SIGKILL,
        STEP,
        all_pids,
        become_subreaper,
        boot_id,
        children,
        close_pidfd,
        contained,
        descendants,
        enclose,
        environment_holds,
        is_alive,
        open_append,
        open_pidfd,
        pid_namespace,
        process_facts,
        process_serial,
        read_stat,
        set_process_name,
        signal_pidfd,
        socket_inodes,
        wait_readable,
    )
elif sys.platform == "linux":
    from servermgr.platform.descriptors import close_pidfd, contained, enclose, open_append
    from servermgr.platform.linux import (
        HOLDER,
        NAME,
        SIGCONT,
        SIGKILL,
        STEP,
        all_pids,
        become_subreaper,
        boot_id,
        children,
        descendants,
        environment_holds,
        is_alive,
        open_pidfd,
        pid_namespace,
        process_facts,
        process_serial,
        read_stat,
        set_process_name,
        signal_pidfd,
        socket_inodes,
    )
    from servermgr.platform.polling import wait_readable
else:
    from servermgr.platform.descriptors import close_pidfd, contained, enclose, open_append
    from servermgr.platform.polling import wait_readable
    from servermgr.platform.posix import (
        HOLDER,
        NAME,
        SIGCONT,
        SIGKILL,
        STEP,
        all_pids,
        become_subreaper,
        boot_id,
        children,
        descendants,
        environment_holds,
        is_alive,
        open_pidfd,
        pid_namespace,
        process_facts,
        process_serial,
        read_stat,
        set_process_name,
        signal_pidfd,
        socket_inodes,
    )

__all__ = [
    "HOLDER",
    "NAME",
    "SIGCONT",
    "SIGKILL",
    "STEP",
    "Unheard",
    "all_pids",
    "become_subreaper",
    "boot_id",
    "children",
    "close_pidfd",
    "contained",
    "descendants",
    "enclose",
    "environment_holds",
    "is_alive",
    "open_append",
    "open_pidfd",
    "pid_namespace",
    "process_facts",
    "process_serial",
    "read_stat",
    "set_process_name",
    "signal_pidfd",
    "socket_inodes",
    "wait_readable",
]
