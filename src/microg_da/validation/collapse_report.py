"""The report of the collapse detection. This module does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

CollapseVerdict = Literal["sound", "collapsed", "source_forgotten", "too_few_people", "unknown"]
"""Verdict of the collapse detection; ``unknown`` occurs only in runs of older versions."""


@dataclass(frozen=True)
class CollapseReport:
    """Result of the collapse detection.

    Attributes:
        verdict: ``too_few_people`` with fewer target people than
            :data:`~microg_da.validation.collapse.FEWEST_PEOPLE`; ``source_forgotten`` if predictions are varied and
            source mAP is less than half of the source model's.
        reason: the reason in words; empty for the verdict ``sound``.
        source_rate: share of (person, class) pairs predicted positive on the source; NaN without people.
        target_rate: share of (person, class) pairs predicted positive on the target; NaN without people.
        agreement: share of target people with the commonest prediction; NaN without people.
        source_rates: the share of source people for whom each class is predicted.
        target_rates: the share of target people for whom each class is predicted.
        flagged: indices of classes whose target rate is significantly more than four times, or less than a quarter of,
            the source rate. Labels differ between domains, so flagged classes do not affect the verdict.
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
        """Whether the verdict is a collapse."""
        return self.verdict == "collapsed"

    def with_class_ids(self, class_ids: Sequence[int]) -> CollapseReport:
        """Return the report with the ids of the flagged classes instead of their indices."""
        return replace(self, flagged=tuple(class_ids[index] for index in self.flagged))
