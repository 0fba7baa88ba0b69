"""Label-free validators: one function each, and one line here.

To add a validator, write a function from :class:`~microg_da.validation.observations.Observed` to a number, higher
is better, and add its line to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microg_da.registry import Entry, Registry

if TYPE_CHECKING:
    from microg_da.validation.collapse_report import CollapseReport
    from microg_da.validation.observations import Observed

VALIDATORS = Registry(
    "validator",
    {
        "source_map": Entry(
            "microg_da.validation.source:source_map",
            "mAP on source validation clips: says nothing of the target, and cannot be fooled by collapse",
        ),
        "entropy": Entry(
            "microg_da.validation.confidence:entropy",
            "how sure target predictions are: minus their mean Bernoulli entropy",
        ),
        "information_maximisation": Entry(
            "microg_da.validation.confidence:information_maximisation",
            "how sure and how varied: mutual information between people and classes (Musgrave et al. 2022)",
        ),
        "bnm": Entry(
            "microg_da.validation.confidence:bnm",
            "how sure and how varied: nuclear norm of the answers, 1 where all are the same (Cui et al. 2020)",
        ),
        "snd": Entry(
            "microg_da.validation.structure:snd",
            "how densely target predictions lie together: soft neighbourhood density (Saito et al. 2021)",
        ),
        "transfer_score": Entry(
            "microg_da.validation.transfer_score:transfer_score",
            "an even classifier, clustered target features, sure and varied answers (Yang et al. 2024)",
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
)


def score_all(observed: Observed) -> dict[str, float]:
    """Every validator's score; NaN where one has nothing to look at."""
    return {name: VALIDATORS.load(name)(observed) for name in VALIDATORS}


def validate(observed: Observed, source_map_before: float | None = None) -> tuple[dict[str, float], CollapseReport]:
    """Every validator's score and what the collapse guard says; for a collapsed detector all scores are -inf.

    Validators that reward sure predictions prefer collapsed detectors; with -inf these never have the highest score.

    Args:
        observed: predictions for both domains.
        source_map_before: the source model's mAP on the same source clips; None if it is not known.
    """
    from microg_da.validation.collapse import collapse_report

    report = collapse_report(observed, source_map_before)
    if report.collapsed:
        return dict.fromkeys(VALIDATORS, float("-inf")), report
    return score_all(observed), report


__all__ = ["VALIDATORS", "score_all", "validate"]
