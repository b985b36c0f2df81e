"""What happens in one trial of the fault campaign, drawn by chance, and what came of it."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks._torture_look import zoo

#: Who dies, with the weight in the draw.
VICTIMS = {
    "owner": 6,
    "guardian": 3,
    "owner and guardian": 3,
    "worker": 2,
    "nursery": 1,
    "guardian and nursery": 2,
    "all helpers and owner": 3,
}
#: Those after whose death nobody is left who holds the tree: what has no evidence on it cannot be proven ours.
WITHOUT_WITNESS = ("guardian and nursery", "all helpers and owner")
#: When, with the most seconds from there.
MOMENTS = {
    "during start": 0.08,
    "before ready": 0.2,
    "at ready": 0.02,
    "as a stop begins": 0.004,
    "during a stop": 0.6,
}
CRASH_GRACE = 0.3
#: How an owner may die; most do by SIGKILL.
DEATHS = (signal.SIGKILL,) * 4 + (signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV, signal.SIGABRT)
#: Scenarios that would be too large for a thousand of them.
SIZES = {"wide": 20, "deep": 15}


@dataclass(frozen=True)
class Plan:
    """One trial.

    Attributes:
        number: Which one of the campaign.
        who: Of `VICTIMS`.
        moment: Of `MOMENTS`.
        delay: Seconds from the moment until the deaths.
        death: The signal that the owner dies of; everyone else gets SIGKILL.
        trees: Scenario and arguments of each server's tree; all servers have one owner.
        grace: Grace period of a stop, in seconds.
        pidfile: Whether the servers have a pidfile that names an innocent, and since when: `none`, `stale`, `fresh`.
    """

    number: int
    who: str
    moment: str
    delay: float
    death: signal.Signals
    trees: tuple[tuple[str, ...], ...]
    grace: float
    pidfile: str

    @classmethod
    def draw(cls, seed: int, number: int) -> Plan:
        """The plan with that number. Campaigns of one seed have the same plans."""
        dice = random.Random(f"{seed}/{number}")
        moment = dice.choice(list(MOMENTS))
        return cls(
            number=number,
            who=dice.choices(list(VICTIMS), list(VICTIMS.values()))[0],
            moment=moment,
            delay=dice.random() * MOMENTS[moment],
            death=dice.choice(DEATHS),
            trees=tuple(_tree(dice) for _ in range(dice.choices((1, 2, 3), (8, 2, 1))[0])),
            grace=dice.choice((0.0, 0.2, 0.6)),
            pidfile=dice.choices(("none", "stale", "fresh"), (8, 1, 1))[0],
        )

    def dies(self, victim: str) -> bool:
        """Whether death meets this one: `owner`, `guardian`, `nursery`, `worker`."""
        return victim in self.who.replace("all helpers", "guardian nursery")

    @property
    def has_witness(self) -> bool:
        """Whether somebody is left who holds the tree, so that it is gone without anyone's help."""
        return self.who not in WITHOUT_WITNESS

    def __str__(self) -> str:
        trees = " + ".join(" ".join(words) for words in self.trees)
        how = f" (owner by {self.death.name})" if self.dies("owner") else ""
        when = f"{self.moment} + {self.delay * 1000:.0f} ms"
        return f"#{self.number}: {self.who}{how}, {when}, {trees}, grace {self.grace}, pidfile {self.pidfile}"


def _tree(dice: random.Random) -> tuple[str, ...]:
    if dice.random() < 0.65:
        return ("mixed", "--seed", str(dice.randrange(10**6)), "--n", str(dice.randint(1, 12)))
    names = [name for name, scenario in zoo.SCENARIOS.items() if os.geteuid() == 0 or not scenario.needs_root]
    name = dice.choice(sorted(names))
    return (name, *(["--n", str(SIZES[name])] if name in SIZES else []))


@dataclass
class Result:
    """What came of a trial.

    Attributes:
        struck: How many processes there were to be killed at the moment: a guardian may not have been born yet.
        processes: How many registered in the trees.
        before: Who lived when the time was over and nobody had swept; helpers count.
        after: Who lived after the sweep, although there was evidence.
        unprovable: Who lived after the sweep, without any.
        faults: Whatever else went wrong.
        seconds: From the deaths until nobody lived.
    """

    plan: Plan
    struck: int = 0
    processes: int = 0
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    unprovable: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def unswept(self) -> list[str]:
        """Who should have been gone without a sweep, and was not."""
        return self.before if self.plan.has_witness else []

    @property
    def failed(self) -> bool:
        """Whether anything is not as promised."""
        return bool(self.unswept or self.after or self.faults)

    def document(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)
