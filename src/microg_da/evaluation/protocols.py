"""Scores from detections and ground truth, by one of two protocols.

``published`` reproduces the numbers of the MicroG-4M benchmark (Wen et al., ICLR 2026). ``corrected`` uses the standard
definitions of the same metrics. ``docs/evaluation.md`` describes and quantifies the differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from microg_da.data.annotations import SOURCE_VIDEO
from microg_da.data.score_kinds import ScoreKind
from microg_da.data.source_videos import source_videos_of
from microg_da.errors import unknown_name
from microg_da.evaluation import classwise
from microg_da.evaluation.checks import (
    checked_detections,
    checked_ground_truth,
    require_common_keyframes,
    score_kind,
    warn_if_unclear,
)
from microg_da.evaluation.clip_accuracy import clip_accuracy
from microg_da.evaluation.outcomes import Outcomes
from microg_da.taxonomy import Taxonomy, get_taxonomy

MIN_SUPPORT = 5


@dataclass(frozen=True)
class Protocol:
    """Rules of evaluation.

    Attributes:
        name: its name on the command line.
        summary: one line of text.
        truth: ``"frame"`` or ``"box"``: see :func:`microg_da.evaluation.outcomes.Outcomes.from_tables`.
        raw_threshold: whether raw scores are compared with 0.5, even if they are logits.
        all_classes: whether F1 and recall are averaged over all classes of the taxonomy (0 if undefined), or else over
            classes with ground truth.
        drop_duplicates: whether a repeated row counts once.
    """

    name: str
    summary: str
    truth: Literal["frame", "box"]
    raw_threshold: bool
    all_classes: bool
    drop_duplicates: bool

    def threshold(self, scores: ScoreKind) -> float:
        """The score above which a class counts as predicted."""
        return 0.0 if scores == "logit" and not self.raw_threshold else 0.5


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "published",
            "that of the MicroG-4M benchmark: raw scores at 0.5, truth per frame, all classes",
            truth="frame",
            raw_threshold=True,
            all_classes=True,
            drop_duplicates=False,
        ),
        Protocol(
            "corrected",
            "probabilities at 0.5, truth per box, classes with ground truth, repeated rows once",
            truth="box",
            raw_threshold=False,
            all_classes=False,
            drop_duplicates=True,
        ),
    )
}


@dataclass(frozen=True)
class Scores:
    """Scores of a set of detections; fractions, not percent.

    Attributes:
        map: mean average precision at IoU 0.5 over classes with ground truth.
        f1_macro: mean F1 over classes.
        recall_macro: mean recall over classes.
        auroc_macro: mean AUROC over classes with positives and negatives.
        map_min_support: mAP over classes with at least :data:`MIN_SUPPORT` labels.
        map_worst_ties: mAP if false positives are first in all ties.
        map_best_ties: mAP if true positives are first in all ties.
        num_keyframes: keyframes of the ground truth.
        num_keyframes_without_detections: keyframes of the ground truth without detections; their people are missed.
        num_keyframes_without_ground_truth: keyframes only in detections, which count as false positives.
        num_boxes: distinct boxes of the ground truth.
        num_detections: rows of the detections that were scored.
        num_classes_with_ground_truth: number of classes in mAP.
        num_classes_min_support: number of classes in ``map_min_support``.
        num_tied_scores: detections with the same score as another detection of the class.
        num_ignored: rows whose action id is not in the taxonomy.
        num_duplicates: repeated rows, of detections and ground truth together.
        protocol: the protocol's name.
        score_kind: ``"logit"`` or ``"probability"``.
        per_class: one row per class: ``action_id, name, group, ap, f1, recall, auroc, support``; NaN where a
            number is undefined.
        top1: top-1 accuracy for data with one label per clip, see
            :func:`~microg_da.evaluation.clip_accuracy.clip_accuracy`; NaN for other data.
        num_clips: number of clips in ``top1``; 0 for other data.
    """

    map: float
    f1_macro: float
    recall_macro: float
    auroc_macro: float
    map_min_support: float
    map_worst_ties: float
    map_best_ties: float
    num_keyframes: int
    num_keyframes_without_detections: int
    num_keyframes_without_ground_truth: int
    num_boxes: int
    num_detections: int
    num_classes_with_ground_truth: int
    num_classes_min_support: int
    num_tied_scores: int
    num_ignored: int
    num_duplicates: int
    protocol: str
    score_kind: str
    per_class: pd.DataFrame
    top1: float = float("nan")
    num_clips: int = 0

    @property
    def is_single_label(self) -> bool:
        """Whether each clip of the ground truth has one label, so that ``top1`` is defined."""
        return self.num_clips > 0

    def as_dict(self, per_class: bool = True) -> dict[str, object]:
        """Return plain numbers and strings; ``per_class`` as a list of dicts, or omitted; ``top1`` if defined."""
        left_out = {"per_class"} if self.is_single_label else {"per_class", *_OF_CLIPS}
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}
        return {**values, "per_class": self.per_class.to_dict("records")} if per_class else values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Scores:
        """Read the output of :meth:`as_dict`, after JSON turned NaN into null.

        Raises:
            KeyError: if a value is missing.
            TypeError: if a value has another type than it should.
        """
        there = [field for field in fields(cls) if field.name not in _OF_CLIPS or field.name in values]
        figures = {
            field.name: _read_figure(values[field.name], str(field.type))
            for field in there
            if field.name != "per_class"
        }
        return cls(**figures, per_class=_read_classes(values["per_class"]))  # type: ignore[arg-type]

    def by_group(self) -> pd.DataFrame:
        """Means over the classes of each group: ``group, map, f1, recall, auroc, num_classes, support``."""
        table = self.per_class
        if not PROTOCOLS[self.protocol].all_classes:
            table = table[table["support"] > 0]
        groups = table.groupby("group", sort=False)
        means = groups[["ap", "f1", "recall", "auroc"]].mean().rename(columns={"ap": "map"})
        means["num_classes"] = groups["support"].agg(lambda support: int((support > 0).sum()))
        means["support"] = groups["support"].sum()
        return means.reset_index()


_OF_CLIPS = ("top1", "num_clips")
"""Values that exist only for data with one label per clip."""


def _read_figure(value: object, kind: str) -> float | int | str:
    if kind == "float" and value is None:
        return float("nan")
    allowed = {"float": (int, float), "int": (int,), "str": (str,)}[kind]
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise TypeError(f"expected {kind}, found {value!r:.60}")
    return float(value) if kind == "float" else value


def _read_classes(lines: object) -> pd.DataFrame:
    """Read the table of classes; undefined numbers are None in JSON and NaN in the table."""
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise TypeError("'per_class' must be a list of objects")
    kinds = {"ap": float, "f1": float, "recall": float, "auroc": float, "action_id": int, "support": int}
    columns = ["action_id", "name", "group", "ap", "f1", "recall", "auroc", "support"]
    table = pd.DataFrame(lines, columns=None if lines else columns)
    try:
        return table[columns].astype(kinds)
    except ValueError as error:
        raise TypeError(f"'per_class': {error}") from error


def evaluate(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    *,
    protocol: str | Protocol = "corrected",
    taxonomy: str | Path | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
) -> Scores:
    """Frame-level mAP at IoU 0.5, macro F1, macro recall and macro AUROC.

    Equal scores are ordered by the first occurrence of their boxes in the file.

    Example:
        >>> import pandas as pd
        >>> from microg_da import evaluate
        >>> box = {"x1": 0.1, "y1": 0.1, "x2": 0.5, "y2": 0.9}
        >>> truth = pd.DataFrame([{"video_id": "film_1", "frame_stamp": 46, **box, "action_id": 12}])
        >>> found = pd.DataFrame([{"video_id": "film_1", "frame_stamp": 46, **box, "action_id": 12, "score": 0.9}])
        >>> evaluate(found, truth, scores="probability").map
        1.0

    Args:
        detections: table with the columns of :data:`~microg_da.data.annotations.DETECTION_COLUMNS`.
        ground_truth: table with the columns of :data:`~microg_da.data.annotations.ANNOTATION_COLUMNS`; the
            person id is not needed.
        protocol: ``"published"`` or ``"corrected"``.
        taxonomy: the classes to score; rows with other action ids are dropped and counted.
        scores: ``"logit"`` or ``"probability"``; None for the kind that the file of the detections declares, else
            logits. A warning is logged if logits look like probabilities.

    Raises:
        InputError: for an unknown protocol or taxonomy, a missing column, an invalid value (boxes in
            pixels, text instead of numbers), probabilities outside [0, 1], or tables without a common keyframe.
    """
    protocol = get_protocol(protocol)
    taxonomy = get_taxonomy(taxonomy)
    kind = score_kind(detections, scores)
    found = evaluate_part(detections, ground_truth, protocol=protocol, taxonomy=taxonomy, scores=kind)
    require_common_keyframes(detections, ground_truth)
    warn_if_unclear(detections, kind)
    return found


def evaluate_part(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    *,
    protocol: str | Protocol = "corrected",
    taxonomy: str | Path | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
) -> Scores:
    """Evaluate a part of larger tables, which may have no keyframe with detections."""
    protocol = get_protocol(protocol)
    taxonomy = get_taxonomy(taxonomy)
    scores = score_kind(detections, scores)
    outcomes, num_ignored = prepare(detections, ground_truth, protocol, taxonomy, scores)
    return summarise(outcomes, protocol, taxonomy, scores, num_ignored)


def get_protocol(name: str | Protocol) -> Protocol:
    """A protocol by name; an unknown one raises :class:`InputError`."""
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def prepare(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, protocol: Protocol, taxonomy: Taxonomy, scores: ScoreKind
) -> tuple[Outcomes, int]:
    """Check and align both tables; also return the number of rows with an action id outside the taxonomy."""
    detections = checked_detections(detections, scores)
    known = checked_ground_truth(ground_truth)
    num_rows = len(detections) + len(known)
    detections = detections[detections["action_id"].isin(taxonomy.ids)]
    known = known[known["action_id"].isin(taxonomy.ids)]
    num_ignored = num_rows - len(detections) - len(known)
    outcomes = Outcomes.from_tables(detections, known, taxonomy, protocol.truth, protocol.drop_duplicates)
    if SOURCE_VIDEO in ground_truth:
        videos = source_videos_of(outcomes.keyframes, ground_truth)
        outcomes = replace(outcomes, keyframes=outcomes.keyframes.assign(**{SOURCE_VIDEO: videos}))
    return outcomes, num_ignored


def summarise(
    outcomes: Outcomes, protocol: Protocol, taxonomy: Taxonomy, scores: ScoreKind, num_ignored: int = 0
) -> Scores:
    """Turn aligned outcomes into :class:`Scores`."""
    support = outcomes.support
    known = support > 0
    ap = classwise.average_precision(outcomes.scores, outcomes.matched, support)
    predicted = outcomes.scores >= protocol.threshold(scores)
    f1, recall = classwise.f1_and_recall(predicted, outcomes.truth)
    auroc = classwise.auroc(outcomes.scores, outcomes.truth)
    if not protocol.all_classes:
        f1, recall = np.where(known, f1, np.nan), np.where(known, recall, np.nan)
    per_class = pd.DataFrame(
        {
            "action_id": taxonomy.ids,
            "name": taxonomy.names,
            "group": taxonomy.groups,
            "ap": ap,
            "f1": f1,
            "recall": recall,
            "auroc": auroc,
            "support": support,
        }
    )
    bounds = {
        order: mean(classwise.average_precision(outcomes.scores, outcomes.matched, support, order))
        for order in ("worst", "best")
    }
    accuracy = clip_accuracy(outcomes, scores)
    return Scores(
        map=mean(ap),
        f1_macro=mean(f1),
        recall_macro=mean(recall),
        auroc_macro=mean(auroc),
        map_min_support=mean(ap[support >= MIN_SUPPORT]),
        map_worst_ties=bounds["worst"],
        map_best_ties=bounds["best"],
        num_keyframes=outcomes.num_keyframes,
        num_keyframes_without_detections=outcomes.num_keyframes - outcomes.num_keyframes_with_detections,
        num_keyframes_without_ground_truth=len(outcomes.keyframes) - outcomes.num_keyframes,
        num_boxes=outcomes.num_boxes,
        num_classes_with_ground_truth=int(known.sum()),
        num_classes_min_support=int((support >= MIN_SUPPORT).sum()),
        num_tied_scores=classwise.count_ties(outcomes.scores),
        protocol=protocol.name,
        score_kind=scores,
        num_detections=int(np.isfinite(outcomes.scores).sum()),
        num_ignored=num_ignored,
        num_duplicates=outcomes.num_duplicates,
        per_class=per_class,
        top1=accuracy.top1 if accuracy else float("nan"),
        num_clips=accuracy.num_clips if accuracy else 0,
    )


def mean(values: np.ndarray) -> float:
    """Return the mean of the defined values; NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
