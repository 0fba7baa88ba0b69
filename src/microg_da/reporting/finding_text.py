"""A run's finding in words: for the terminal's table, the page and the comparison."""

from __future__ import annotations

from microg_da.evaluation.finding import FEWEST_BOXES, Absence, Difference, Finding
from microg_da.evaluation.intervals import FEWEST_VIDEOS
from microg_da.reporting.numbers import MISSING, percent

ABSENT: dict[Absence, str] = {
    "no_adaptation": "nothing was adapted",
    "no_bound": "the target-supervised variant was not trained",
    "no_score": "a detector has no target mAP",
    "no_interval": "the gap has no interval",
    "no_gap": "target labels give no improvement",
    "gap_not_measurable": "the gap is within its interval",
}
"""The reasons for a missing gap recovered."""


def change_text(finding: Finding) -> str | None:
    """``+3.2 points, 95% interval −1.0 to +7.4: no measurable change``; None without a change."""
    return None if finding.change is None else _difference_text(finding.change, finding, "change")


def gap_text(finding: Finding) -> str | None:
    """Return the same text for the gap."""
    return None if finding.gap is None else _difference_text(finding.gap, finding, "gap")


def gap_recovered_text(finding: Finding) -> str:
    """Return ``42.0 %``, or a dash if it is not given."""
    return MISSING if finding.gap_recovered is None else f"{percent(finding.gap_recovered)} %"


def few_boxes_text(finding: Finding) -> str | None:
    """Return a note on the number of boxes if it is small."""
    if not finding.few_boxes:
        return None
    boxes = f"{finding.boxes} {'box' if finding.boxes == 1 else 'boxes'}"
    return f"only {boxes} in the target test set, fewer than {FEWEST_BOXES}"


def same_data_text(finding: Finding) -> str | None:
    """Return a note if source and target share data."""
    if finding.same_data:
        return "source and target are the same data, without a domain gap"
    if finding.shared_boxes:
        return f"{finding.shared_boxes} of the {finding.boxes} boxes of the target test set are also in the source's"
    return None


def finding_lines(finding: Finding) -> list[str]:
    """Return notes below the scores, one line each."""
    lines = [same_data_text(finding), few_boxes_text(finding)]
    if change := change_text(finding):
        lines.append(f"change: {change}")
    if gap := gap_text(finding):
        lines.append(f"gap: {gap}")
        if finding.absent is not None:
            lines.append(f"gap recovered is not given: {ABSENT[finding.absent]}")
    return [line for line in lines if line]


def _difference_text(difference: Difference, finding: Finding, noun: str) -> str:
    points = f"{percent(difference.value, signed=True)} points"
    if difference.low is None or difference.high is None:
        return f"{points}, no interval ({_why_no_interval(finding)})"
    bounds = " to ".join(percent(bound, signed=True) for bound in (difference.low, difference.high))
    return f"{points}, 95% interval {bounds}" + ("" if difference.measurable else f": no measurable {noun}")


def _why_no_interval(finding: Finding) -> str:
    if finding.source_videos is None:
        return "the run folder has no tables"
    videos = "source video" if finding.source_videos == 1 else "source videos"
    return f"{finding.source_videos} {videos} in the target test set, at least {FEWEST_VIDEOS} are needed"
