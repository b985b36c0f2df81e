"""Who of a stack needs whom: checked once, then the order of every start and stop.

Managers are known by their place among the arguments here, since a class may say that two of its objects are equal.
"""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING, TypeAlias

from servermgr.interface import ManagerInterface

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: A manager of the stack, or the name of one.
Named: TypeAlias = "ManagerInterface | str"
#: Who needs whom, as given.
Needs: TypeAlias = "Mapping[Named, Named | Iterable[Named]]"


class Plan:
    """The managers of a stack and their needs.

    Args:
        managers: The managers.
        needs: For those that need others: whom; all given as objects or by name.

    Attributes:
        managers: As given.
        needs: For each manager, the numbers of those that it needs.

    Raises:
        TypeError: Something that is no manager.
        ValueError: The same manager twice, a name that is not one manager's, or needs that go round in a circle.
    """

    def __init__(self, managers: Sequence[ManagerInterface], needs: Needs | None) -> None:
        self.managers = tuple(managers)
        self._check_managers()
        self.needs: list[set[int]] = [set() for _ in managers]
        for one, others in (needs or {}).items():
            several = [others] if isinstance(others, (str, ManagerInterface)) else others
            self.needs[self._number(one)].update(self._number(other) for other in several)
        self._check_circles()

    def name(self, number: int) -> str:
        """How errors call a manager."""
        return name_of(self.managers[number])

    def upward(self) -> graphlib.TopologicalSorter[int]:
        """The order of a start, prepared: each after all that it needs."""
        sorter = graphlib.TopologicalSorter(dict(enumerate(self.needs)))
        sorter.prepare()
        return sorter

    def downward(self) -> list[list[int]]:
        """The order of a stop: first all whom nobody needs, then all whom only those needed, …."""
        sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
        for number in reversed(range(len(self.managers))):
            sorter.add(number, *(above for above, needed in enumerate(self.needs) if number in needed))
        sorter.prepare()
        tiers = []
        while sorter.is_active():
            tiers.append(list(sorter.get_ready()))
            sorter.done(*tiers[-1])
        return tiers

    def is_needed(self, number: int) -> bool:
        """Whether any other manager needs this one."""
        return any(number in needed for needed in self.needs)

    def _check_managers(self) -> None:
        for number, manager in enumerate(self.managers):
            if not isinstance(manager, ManagerInterface):
                raise TypeError(f"a stack is made of managers, as Stack(db, app), and this is none: {manager!r}")
            if any(manager is other for other in self.managers[:number]):
                raise ValueError(f"{name_of(manager)} is in the stack twice")

    def _number(self, wanted: Named) -> int:
        found = [
            number
            for number, manager in enumerate(self.managers)
            if (name_of(manager) == wanted if isinstance(wanted, str) else manager is wanted)
        ]
        if len(found) == 1:
            return found[0]
        name = wanted if isinstance(wanted, str) else name_of(wanted)
        there = ", ".join(map(name_of, self.managers)) or "none"
        if found:
            raise ValueError(f"needs: {len(found)} managers are called {name!r}: give the manager itself")
        raise ValueError(f"needs: {name!r} is not in the stack; its managers are: {there}")

    def _check_circles(self) -> None:
        try:
            self.upward()
        except graphlib.CycleError as error:
            # graphlib lists each before the one that needs it.
            circle = " needs ".join(map(self.name, reversed(error.args[1])))
            raise ValueError(f"needs: they go round in a circle: {circle}") from None


def name_of(manager: object) -> str:
    """The name of a manager; an object without one is called by its class."""
    name = getattr(manager, "name", None)
    return name if isinstance(name, str) else type(manager).__name__
