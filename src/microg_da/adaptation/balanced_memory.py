"""A memory of test people that is balanced over categories and prefers recent and confident predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class Kept(Generic[Item]):
    """One item of a :class:`BalancedMemory`.

    Attributes:
        item: the stored item.
        category: index of the category.
        uncertainty: uncertainty in [0, 1], or slightly above.
        age: number of items that were offered later.
    """

    item: Item
    category: int
    uncertainty: float
    age: int = 0


class BalancedMemory(Generic[Item]):
    """Memory with an equal capacity for each category, from which old and uncertain items are removed first.

    The penalty of an item is ``timeliness / (1 + exp(-age / capacity)) + unsureness * uncertainty``. If the category
    of a new item is full, the new item replaces the item with the highest penalty in the category. Otherwise it is
    added, or, if the memory is full, it replaces the item with the highest penalty in the largest categories. A new
    item is discarded if its penalty is not lower.

    This is the memory CSTU of Yuan et al., "Robust test-time adaptation in dynamic scenarios", CVPR 2023, as in the
    authors' code.

    Args:
        capacity: maximum number of items.
        categories: number of categories.
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
        """Return all items by category, in the order of their arrival."""
        return [one for category in self._kept for one in category]

    def add(self, item: Item, category: int, uncertainty: float) -> None:
        """Offer an item, and increase the age of all stored items by one."""
        new = Kept(item, category, uncertainty)
        if self._makes_room_for(new):
            self._kept[category].append(new)
        for one in self.kept:
            one.age += 1

    def demerit(self, one: Kept[Item]) -> float:
        """Return the penalty of an item."""
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
        # Among equal penalties, the last item is removed.
        worst = max(reversed(rivals), key=self.demerit)
        if self.demerit(worst) <= self.demerit(new):
            return False
        own = self._kept[worst.category]
        del own[next(place for place, one in enumerate(own) if one is worst)]
        return True
