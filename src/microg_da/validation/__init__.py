"""Label-free validators. Each validator is one function and one line of the registry.

To add a validator, write a function that returns a number for an
:class:`~microg_da.validation.observations.Observed`, where higher is better, and add its line to the table.
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
            "mAP on source validation clips, independent of the target domain and of a collapse on it",
        ),
        "entropy": Entry(
            "microg_da.validation.confidence:entropy",
            "confidence of target predictions: their negative mean Bernoulli entropy",
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
            "density of target predictions: soft neighbourhood density (Saito et al. 2021)",
        ),
        "transfer_score": Entry(
            "microg_da.validation.transfer_score:transfer_score",
            "uniformity of the classifier, clustering of target features, mutual information (Yang et al. 2024)",
        ),
        "mixval": Entry(
            "microg_da.validation.mixing:mixval",
            "agreement of predictions for mixtures of two target people with the larger part (Hu et al. 2023)",
        ),
        "corr_c": Entry(
            "microg_da.validation.structure:corr_c",
            "similarity of class correlations in target and source predictions (after Corr-C, Tu et al. 2023)",
        ),
        "mmd": Entry(
            "microg_da.validation.structure:mmd",
            "similarity of the domains' features: negative maximum mean discrepancy (Long et al. 2015)",
        ),
    },
    group="microg_da.validators",
    check="microg_da.validation.observations:check_outside_validator",
)


def list_validators(pattern: str = "*") -> list[str]:
    """Return the names of the label-free validators, for ``selection: validator:NAME``.

    Example:
        >>> from microg_da import list_validators
        >>> list_validators("*entropy*")
        ['entropy']

    Args:
        pattern: a shell-style pattern.
    """
    return VALIDATORS.names(pattern)


def validators_for(selection: str) -> tuple[str, ...]:
    """Return the validators of a run: all registered validators, and a validator of another package in ``selection``.

    Args:
        selection: value of the key, e.g. ``"validator:entropy"`` or ``"validator:package.module:function"``.
    """
    chosen = selection.removeprefix(VALIDATOR)
    return (*VALIDATORS, chosen) if is_path(chosen) else tuple(VALIDATORS)


def score_all(observed: Observed, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return the scores of validators, by default of all; NaN without data."""
    return {name: float(VALIDATORS.load(name)(observed)) for name in names or VALIDATORS}


def validate(
    observed: Observed, source_map_before: float | None = None, names: Sequence[str] | None = None
) -> tuple[dict[str, float], CollapseReport]:
    """Return the scores of validators and the report of the collapse detection.

    Scores of a collapsed detector are -inf, because validators that reward confident predictions would prefer it.

    Args:
        observed: predictions for both domains.
        source_map_before: the source model's mAP on the same source clips; None if unknown.
        names: names of the validators; None for all registered validators.
    """
    from microg_da.validation.collapse import collapse_report

    report = collapse_report(observed, source_map_before)
    if report.collapsed:
        return dict.fromkeys(names or VALIDATORS, float("-inf")), report
    return score_all(observed, names), report


__all__ = ["VALIDATORS", "list_validators", "score_all", "validate", "validators_for"]
