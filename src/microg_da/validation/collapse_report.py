"""The report of the collapse guard. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

CollapseVerdict = Literal["sound", "collapsed", "source_forgotten", "too_few_people", "unknown"]
"""Verdict of the collapse guard on a detector; ``unknown`` comes only from runs that older versions wrote."""


@dataclass(frozen=True)
class CollapseReport:
    """Observations of the guard.

    Attributes:
        verdict: ``too_few_people`` with fewer target people than
            :data:`~microg_da.validation.collapse.FEWEST_PEOPLE`; ``source_forgotten`` where predictions are varied and
            source mAP is less than half of the source model's.
        reason: why, in words; empty if sound.
        source_rate: share of (person, class) pairs predicted positive on the source; NaN without people.
        target_rate: likewise on the target.
        agreement: share of target people who get the commonest answer; NaN without people.
        source_rates: the share of people of whom each class is predicted, on the source.
        target_rates: likewise on the target.
        flagged: indices of classes whose rate is more than four times, or less than a quarter of, that on the
            source, beyond what the number of people explains. Domains differ in their labels, so that flagged
            classes alone are no verdict.
    """

    verdict: CollapseVerdict
    reason: str
    source_rate: float
    target_rate: float
    agreement: float
    source_rates: tuple[float, ...]
    target_rates: tuple[float, ...]
    flagged: tuple[int, ...]

    @property
    def collapsed(self) -> bool:
        """Whether the verdict is that it has collapsed."""
        return self.verdict == "collapsed"

    def with_class_ids(self, class_ids: Sequence[int]) -> CollapseReport:
        """The same report with the ids of the flagged classes in place of their indices."""
        return replace(self, flagged=tuple(class_ids[index] for index in self.flagged))
