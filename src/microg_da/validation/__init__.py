"""Label-free validators: one function and one registry line each.

To add a validator, write a function from :class:`~microg_da.validation.observations.Observed` to a number, higher
is better, and add its line to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microg_da.config import VALIDATOR
from microg_da.registry import Entry, Registry, is_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microg_da.validation.collapse_report import CollapseReport
    from microg_da.validation.observations import Observed

VALIDATORS = Registry(
    "validator",
    {
        "source_map": Entry(
            "microg_da.validation.source:source_map",
            "mAP on source validation clips: independent of the target; not misled by collapse",
        ),
        "entropy": Entry(
            "microg_da.validation.confidence:entropy",
            "confidence of target predictions: minus their mean Bernoulli entropy",
        ),
        "information_maximisation": Entry(
            "microg_da.validation.confidence:information_maximisation",
            "confidence and diversity: mutual information between people and classes (Musgrave et al. 2022)",
        ),
        "bnm": Entry(
            "microg_da.validation.confidence:bnm",
            "confidence and diversity: nuclear norm of predictions, 1 if all are equal (Cui et al. 2020)",
        ),
        "snd": Entry(
            "microg_da.validation.structure:snd",
            "how densely target predictions lie together: soft neighbourhood density (Saito et al. 2021)",
        ),
        "transfer_score": Entry(
            "microg_da.validation.transfer_score:transfer_score",
            "uniformity of the classifier, clustering of target features, mutual information (Yang et al. 2024)",
        ),
        "mixval": Entry(
            "microg_da.validation.mixing:mixval",
            "whether mixtures of two target people get the answer of the larger part (Hu et al. 2023)",
        ),
        "corr_c": Entry(
            "microg_da.validation.structure:corr_c",
            "whether classes go together in target predictions as in source ones (after Corr-C, Tu et al. 2023)",
        ),
        "mmd": Entry(
            "microg_da.validation.structure:mmd",
            "how near the domains' features are: minus their maximum mean discrepancy (Long et al. 2015)",
        ),
    },
    group="microg_da.validators",
    check="microg_da.validation.observations:check_outside_validator",
)


def list_validators(pattern: str = "*") -> list[str]:
    """The names of the label-free scores, for ``selection: validator:NAME``.

    Example:
        >>> from microg_da import list_validators
        >>> list_validators("*entropy*")
        ['entropy']

    Args:
        pattern: shell-style.
    """
    return VALIDATORS.names(pattern)


def validators_for(selection: str) -> tuple[str, ...]:
    """Return the validators of a run: all registered ones, and one of another package in ``selection``.

    Args:
        selection: of the configuration, e.g. ``"validator:entropy"`` or ``"validator:package.module:function"``.
    """
    chosen = selection.removeprefix(VALIDATOR)
    return (*VALIDATORS, chosen) if is_path(chosen) else tuple(VALIDATORS)


def score_all(observed: Observed, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return the score of each validator, by default of all; NaN without data."""
    return {name: float(VALIDATORS.load(name)(observed)) for name in names or VALIDATORS}


def validate(
    observed: Observed, source_map_before: float | None = None, names: Sequence[str] | None = None
) -> tuple[dict[str, float], CollapseReport]:
    """Return the scores of validators and the result of the detection of collapse; -inf for a collapsed detector.

    Validators that reward sure predictions prefer collapsed detectors; with -inf these never have the highest score.

    Args:
        observed: predictions for both domains.
        source_map_before: the source model's mAP on the same source clips; None if it is not known.
        names: of the validators; None for all that have a name.
    """
    from microg_da.validation.collapse import collapse_report

    report = collapse_report(observed, source_map_before)
    if report.collapsed:
        return dict.fromkeys(names or VALIDATORS, float("-inf")), report
    return score_all(observed, names), report


__all__ = ["VALIDATORS", "list_validators", "score_all", "validate", "validators_for"]
