"""Which system this is: the only place of the package that chooses.

Every system's module has the same functions; `linux` says in full what each of them promises. The rest of
the package asks for abilities (`HOLDER`, what a function returns), never for names of systems.
"""

from __future__ import annotations

import os
import sys

from servermgr.platform.unheard import Unheard

#: For tests: `posix` in this variable makes Linux do without all that other POSIX systems do not have. The guardian
#: is handed it on.
CHOICE_VARIABLE = "SERVERMGR_PLATFORM"

if sys.platform == "win32":
    from servermgr.platform.windows import (
        ABILITIES,
        ADOPTED_ABILITIES,
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
        exit_event,
        group_for,
        is_alive,
        is_group_of,
        losses,
        marked,
        memory_file,
        open_append,
        open_pidfd,
        pid_namespace,
        process_facts,
        process_name,
        process_serial,
        processes,
        read_stat,
        session,
        set_process_name,
        signal_pidfd,
        socket_inodes,
        start_now,
        wait_readable,
    )
elif sys.platform == "linux" and os.environ.get(CHOICE_VARIABLE) != "posix":
    from servermgr.platform.cgroups import contained, group_for, is_group_of
    from servermgr.platform.descriptors import close_pidfd, enclose, open_append
    from servermgr.platform.linux import (
        ABILITIES,
        ADOPTED_ABILITIES,
        HOLDER,
        NAME,
        SIGCONT,
        SIGKILL,
        STEP,
        all_pids,
        become_subreaper,
        children,
        descendants,
        environment_holds,
        exit_event,
        is_alive,
        losses,
        marked,
        open_pidfd,
        process_name,
        process_serial,
        processes,
        read_stat,
        session,
        set_process_name,
        signal_pidfd,
        start_now,
    )
    from servermgr.platform.linux_facts import boot_id, memory_file, pid_namespace, process_facts, socket_inodes
    from servermgr.platform.polling import wait_readable
else:
    from servermgr.platform.descriptors import close_pidfd, contained, enclose, group_for, is_group_of, open_append
    from servermgr.platform.polling import wait_readable
    from servermgr.platform.posix import (
        ABILITIES,
        ADOPTED_ABILITIES,
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
        exit_event,
        is_alive,
        losses,
        marked,
        memory_file,
        open_pidfd,
        pid_namespace,
        process_facts,
        process_name,
        process_serial,
        processes,
        read_stat,
        session,
        set_process_name,
        signal_pidfd,
        socket_inodes,
        start_now,
    )

__all__ = [
    "ABILITIES",
    "ADOPTED_ABILITIES",
    "CHOICE_VARIABLE",
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
    "exit_event",
    "group_for",
    "is_alive",
    "is_group_of",
    "losses",
    "marked",
    "memory_file",
    "open_append",
    "open_pidfd",
    "pid_namespace",
    "process_facts",
    "process_name",
    "process_serial",
    "processes",
    "read_stat",
    "session",
    "set_process_name",
    "signal_pidfd",
    "socket_inodes",
    "start_now",
    "wait_readable",
]
