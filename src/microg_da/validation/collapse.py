"""Detection of collapse: whether a detector distinguishes target people from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from microg_da.validation.collapse_report import CollapseReport, CollapseVerdict
from microg_da.validation.observations import Observed

POSITIVE = 0.5
"""Probability above which a class is predicted for a person."""
FEWEST_PEOPLE = 10
"""Minimum number of target people for a verdict, because few people may agree by chance."""
LARGEST_RATIO = 4.0
"""Maximum ratio of predicted rates between domains that is attributed to the domain gap.

Label rates differ between domains: on the embedded data, a source model predicts 0.8 times as many labels per person on
the target. A collapse changes the rates by a factor of ten or more, or to 0.
"""
LARGEST_AGREEMENT = 0.9
"""Maximum share of target people with the same prediction, that is, the same set of classes."""
SMALLEST_SOURCE_SHARE = 0.5
"""Minimum share of the source model's mAP on source clips. Below it, a detector has forgotten the source.

Adaptation usually reduces source mAP: a fifth is usual with rolls.
"""
NOISE = 3.0
"""Number of standard errors of the difference in rates above which a class is flagged."""


def collapse_report(observed: Observed, source_map_before: float | None = None) -> CollapseReport:
    """Compare the predictions for target people with those for source people.

    With fewer than ten target people there is no verdict. A detector has collapsed on the target if

    - 90% of the people have the same prediction (no class, all classes, or one class), or
    - labels are predicted four times as often as on the source, or a quarter as often.

    The first criterion does not use the source, so it also finds a collapse on both domains. A detector that has
    not collapsed has forgotten the source if its mAP on source clips is less than half of the source model's.

    Args:
        observed: predictions for both domains.
        source_map_before: the source model's mAP on the same source clips; None if unknown.
    """
    source, target = (
        torch.sigmoid(logits.float()) > POSITIVE for logits in (observed.source_logits, observed.target_logits)
    )
    agreement, answered = commonest_answer(target)
    source_rate, target_rate = _mean(source), _mean(target)
    verdict: CollapseVerdict = "sound"
    reason = ""
    if len(target) < FEWEST_PEOPLE:
        people = "person" if len(target) == 1 else "people"
        verdict, reason = "too_few_people", f"{len(target)} target {people}, expected at least {FEWEST_PEOPLE}"
    elif agreement >= LARGEST_AGREEMENT:
        verdict, reason = "collapsed", _agreement_text(agreement, answered, target.shape[1])
    elif len(source) >= FEWEST_PEOPLE and _ratio_is_large(source_rate, target_rate):
        verdict, reason = "collapsed", _rates_text(source_rate, target_rate, target.shape[1])
    elif _has_forgotten(observed.source_map, source_map_before):
        verdict, reason = "source_forgotten", _forgotten_text(observed.source_map, source_map_before)
    return CollapseReport(
        verdict=verdict,
        reason=reason,
        source_rate=source_rate,
        target_rate=target_rate,
        agreement=agreement,
        source_rates=_rates(source),
        target_rates=_rates(target),
        flagged=flagged_classes(source, target),
    )


def commonest_answer(positive: Tensor) -> tuple[float, int]:
    """Return the share of people with the commonest row of a boolean ``(K, C)``, and the number of classes in that row.

    The share is NaN without people.
    """
    if not len(positive):
        return float("nan"), 0
    answers, counts = torch.unique(positive, dim=0, return_counts=True)
    return int(counts.max()) / len(positive), int(answers[counts.argmax()].sum())


def flagged_classes(source: Tensor, target: Tensor) -> tuple[int, ...]:
    """Return the indices of the classes whose rates differ; see :class:`CollapseReport`.

    Args:
        source: boolean ``(K_s, C)``.
        target: boolean ``(K_t, C)``.
    """
    if not (len(source) and len(target)):
        return ()
    before, after = source.double().mean(dim=0), target.double().mean(dim=0)
    pooled = torch.cat([source, target]).double().mean(dim=0)
    error = (pooled * (1 - pooled) * (1 / len(source) + 1 / len(target))).sqrt()
    differs = torch.maximum(before, after) > LARGEST_RATIO * torch.minimum(before, after)
    return tuple(torch.nonzero(differs & ((after - before).abs() > NOISE * error)).flatten().tolist())


def _ratio_is_large(before: float, after: float) -> bool:
    return max(before, after) > LARGEST_RATIO * min(before, after)


def _has_forgotten(now: float | None, before: float | None) -> bool:
    # Comparisons with NaN, the mAP without scores, are false.
    return now is not None and before is not None and now < SMALLEST_SOURCE_SHARE * before


def _forgotten_text(now: float | None, before: float | None) -> str:
    assert now is not None
    assert before is not None
    return f"mAP on source clips fell from {100 * before:.0f} to {100 * now:.0f}"


def _agreement_text(share: float, answered: int, classes: int) -> str:
    answer = {0: "no class", classes: "every class", 1: "one class"}.get(answered, f"{answered} classes")
    return f"{100 * share:.0f}% of the target people get the same prediction, {answer}"


def _rates_text(before: float, after: float, classes: int) -> str:
    return f"{after * classes:.2g} classes per person are predicted on the target, {before * classes:.2g} on the source"


def _mean(positive: Tensor) -> float:
    return float(positive.double().mean()) if positive.numel() else float("nan")


def _rates(positive: Tensor) -> tuple[float, ...]:
    return tuple(positive.double().mean(dim=0).tolist()) if len(positive) else ()
