"""What a backend can hold: the words in which it says so.

Each backend declares two sets of these: `ABILITIES` for a command that a manager has launched (`spawn`), and
`ADOPTED_ABILITIES` for a process that was started by other means and handed over. What is declared is tested on
real processes (`tests/contracts`, with the outcome in `docs/contract.md`); what is not, `servermgr doctor` names.
"""

from __future__ import annotations

CHILDREN = "children"
ORPHANS = "orphans"
SESSIONS = "sessions"
DAEMONS = "daemons"
SEEN_DAEMONS = "seen daemons"
STORMS = "storms"
STOPPED = "stopped"
STUBBORN = "stubborn"
POLITE = "polite"
PIDFILES = "pidfiles"
REMAINDER = "remainder"
OWNER_DEATH = "owner death"
OWNER_DEATH_POLITE = "owner death, politely"
GUARDIAN_DEATH = "guardian death"
KEPT = "kept"
PORT_OWNER = "port owner"
IDENTITY = "identity"

#: Each ability, in full.
MEANING: dict[str, str] = {
    CHILDREN: "the worker's children and their children end with it",
    ORPHANS: "a process whose parent has left ends with the tree",
    SESSIONS: "a process ends with it that has left the worker's session (Windows: console), and whose parent has left",
    DAEMONS: "a daemon ends with it that cuts all its links at once: parent, session, environment, descriptors",
    SEEN_DAEMONS: "such a daemon ends with it, if its parent stayed for a second before it left",
    STORMS: "a chain of processes ends with it, each of which starts the next one and leaves",
    STOPPED: "a stopped process ends with it (SIGSTOP; Windows: suspended)",
    STUBBORN: "a process ends with it that ignores the polite signal",
    POLITE: "the worker is asked before it is killed, and can clean up",
    PIDFILES: "a daemon that a pidfile names is the worker, and ends as one, whatever links it has cut",
    REMAINDER: "what a worker leaves that ends by itself is ended, too",
    OWNER_DEATH: "the tree ends when the program that started it is killed",
    OWNER_DEATH_POLITE: "when that program is killed, the worker is asked first",
    GUARDIAN_DEATH: "the tree ends when its guardian is killed",
    KEPT: "with keep=True a server outlives its program, and is ended later by name",
    PORT_OWNER: "who listens on an address that is in use is told by pid",
    IDENTITY: "a process that was given the number of a recorded one is not taken for it",
}
