"""Label-free validators: one function each, and one line here.

To add a validator, write a function from :class:`~microg_da.validation.observations.Observed` to a number, higher
is better, and add its line to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microg_da.registry import Entry, Registry

if TYPE_CHECKING:
    from microg_da.validation.observations import Observed

VALIDATORS = Registry(
    "validator",
    {
        "source_map": Entry(
            "microg_da.validation.source:source_map",
            "mAP on source validation clips: says nothing of the target, and cannot be fooled by collapse",
        ),
    },
)


def score_all(observed: Observed) -> dict[str, float]:
    """Every validator's score; NaN where one has nothing to look at."""
    return {name: VALIDATORS.load(name)(observed) for name in VALIDATORS}


__all__ = ["VALIDATORS", "score_all"]
