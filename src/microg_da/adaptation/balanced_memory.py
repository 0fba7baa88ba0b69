"""A memory of test people that is balanced over categories, timely and sure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class Kept(Generic[Item]):
    """One item of a :class:`BalancedMemory`.

    Attributes:
        item: what is kept.
        category: its place among the categories.
        uncertainty: in [0, 1], or a little above.
        age: how many items were offered since.
    """

    item: Item
    category: int
    uncertainty: float
    age: int = 0


class BalancedMemory(Generic[Item]):
    """Keeps a few items, of which no category has more than its share; old and unsure ones leave first.

    An item is worth less by ``timeliness / (1 + exp(-age / capacity)) + unsureness * uncertainty``. A new item of a
    category that has its share competes with the worst of it; one of another category enters as long as there is
    room, and competes with the worst of the largest categories where there is none. It is not kept if it is no better.

    The memory CSTU of Yuan et al., "Robust test-time adaptation in dynamic scenarios", CVPR 2023, as in the authors'
    program.

    Args:
        capacity: most items that are kept.
        categories: how many there are.
        timeliness: weight of age.
        unsureness: weight of uncertainty.
    """

    def __init__(self, capacity: int, categories: int, timeliness: float = 1.0, unsureness: float = 1.0) -> None:
        self.capacity = capacity
        self.timeliness = timeliness
        self.unsureness = unsureness
        self._kept: list[list[Kept[Item]]] = [[] for _ in range(categories)]

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    @property
    def kept(self) -> list[Kept[Item]]:
        """Everything that is kept, category by category, each in the order in which it came."""
        return [one for category in self._kept for one in category]

    def add(self, item: Item, category: int, uncertainty: float) -> None:
        """Offer an item, and let all that are kept grow older by one."""
        new = Kept(item, category, uncertainty)
        if self._makes_room_for(new):
            self._kept[category].append(new)
        for one in self.kept:
            one.age += 1

    def demerit(self, one: Kept[Item]) -> float:
        """How little an item is worth."""
        age = 1 / (1 + math.exp(-one.age / self.capacity))
        return self.timeliness * age + self.unsureness * one.uncertainty

    def _makes_room_for(self, new: Kept[Item]) -> bool:
        share = self.capacity / len(self._kept)
        if len(self._kept[new.category]) >= share:
            rivals = self._kept[new.category]
        elif len(self) < self.capacity:
            return True
        else:
            most = max(map(len, self._kept))
            rivals = [one for category in self._kept if len(category) == most for one in category]
        # Of equally bad ones, the last is taken.
        worst = max(reversed(rivals), key=self.demerit)
        if self.demerit(worst) <= self.demerit(new):
            return False
        own = self._kept[worst.category]
        del own[next(place for place, one in enumerate(own) if one is worst)]
        return True
