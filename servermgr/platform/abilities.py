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
    ORPHANS: "so does a process whose parent has left",
    SESSIONS: "so does a process that has left the worker's session (Windows: its console) together with its parent",
    DAEMONS: "so does a daemon at once: its parent left, a session of its own, no environment, no descriptors",
    SEEN_DAEMONS: "so does such a daemon if its parent stayed for a second before it left",
    STORMS: "so does a chain of processes, each of which starts the next one and leaves",
    STOPPED: "so does a process that is stopped (SIGSTOP; Windows: suspended)",
    STUBBORN: "so does a process that ignores the polite signal",
    POLITE: "the worker is asked before it is killed, and can clean up",
    PIDFILES: "a daemon that a pidfile names is the worker, and ends as one",
    REMAINDER: "what a worker leaves that ends by itself is ended, too",
    OWNER_DEATH: "the tree ends when the program that started it is killed",
    OWNER_DEATH_POLITE: "and its worker is asked first then, too",
    GUARDIAN_DEATH: "the tree ends when its guardian is killed",
    KEPT: "with keep=True it outlives its program, and is ended later by name",
    PORT_OWNER: "who listens on an address that is in use is told by pid",
    IDENTITY: "a process that was given the number of a recorded one is not taken for it",
}
