"""Checks of tables before scoring, for commands and for Python."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from microg_da.data.annotations import ANNOTATION_COLUMNS, DETECTION_COLUMNS, KEYFRAME
from microg_da.data.score_kinds import ScoreKind, check_kind
from microg_da.data.table_checks import Place, check_table
from microg_da.errors import InputError
from microg_da.evaluation.outcomes import number_keyframes

_log = logging.getLogger(__name__)


def checked_detections(table: pd.DataFrame, scores: ScoreKind) -> pd.DataFrame:
    """The columns of detections, every value checked.

    Raises:
        InputError: for a missing column, an invalid value, or probabilities outside [0, 1].
    """
    checked = _checked(table, DETECTION_COLUMNS, "detections")
    check_kind(scores)
    values = checked["score"].to_numpy(np.float64)
    if scores == "probability" and len(values) and (values.min() < 0 or values.max() > 1):
        raise InputError(
            f"{_name(table, 'detections')}: scores range from {values.min():.4g} to {values.max():.4g}, which are not "
            "probabilities; use scores=logit"
        )
    return checked


def checked_ground_truth(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of ground truth without the person, every value checked.

    Raises:
        InputError: for a missing column or an invalid value.
    """
    return _checked(table, ANNOTATION_COLUMNS[:-1], "ground truth")


def score_kind(detections: pd.DataFrame, asked: ScoreKind | None) -> ScoreKind:
    """Return the kind of a table's scores: as requested, else as the table's file declares, else logits.

    Raises:
        InputError: for an unknown kind, or if the file declares another kind than the requested one.
    """
    declared: ScoreKind | None = detections.attrs.get("scores")
    if asked is not None:
        check_kind(asked)
    if asked and declared and asked != declared:
        raise InputError(
            f"{_name(detections, 'detections')}: the file says that each score is a {declared}, but scores={asked} was "
            f"given. Leave the option out to use what the file says."
        )
    return asked or declared or "logit"


def warn_if_unclear(detections: pd.DataFrame, scores: ScoreKind) -> None:
    """Warn if scores look like probabilities but are read as logits, and the file does not declare the kind."""
    if scores != "logit" or "scores" in detections.attrs or "score" not in detections or detections.empty:
        return
    values = pd.to_numeric(detections["score"], errors="coerce")
    if values.between(0, 1).all():
        _log.warning(
            "%s: every score lies in [0, 1], but the scores are read as logits, so that every score above 0 counts as "
            "a prediction under the corrected protocol. If they are probabilities, use scores=probability "
            "(--scores probability).",
            _name(detections, "detections"),
        )


def require_common_keyframes(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> None:
    """Check that tables have a common keyframe; empty tables pass.

    Raises:
        InputError: with a keyframe of each.
    """
    if detections.empty or ground_truth.empty:
        return
    codes, _, num_keyframes = number_keyframes(ground_truth, detections)
    if (codes[len(ground_truth) :] < num_keyframes).any():
        return
    # A common video shows that the stamps differ.
    shared = detections["video_id"].isin(set(ground_truth["video_id"])).to_numpy()
    found = detections[shared].iloc[0] if shared.any() else detections.iloc[0]
    same = ground_truth[ground_truth["video_id"] == found["video_id"]]
    true = (same if len(same) else ground_truth).iloc[0]
    what = "frame_stamp differs for the same video_id" if shared.any() else "they have no common video_id"
    raise InputError(
        f"{_name(detections, 'detections')} and {_name(ground_truth, 'ground truth')} have no keyframe in common: "
        f"the first names {_keyframe(found)}, the second {_keyframe(true)}; {what}. "
        f"Give files of the same clips, with frame_stamp in the same unit."
    )


def _keyframe(row: pd.Series) -> str:
    return f"video_id {row[KEYFRAME[0]]!r} at frame_stamp {row[KEYFRAME[1]]}"


def _name(table: pd.DataFrame, otherwise: str) -> str:
    return str(table.attrs.get("path") or f"the {otherwise}")


def _checked(table: pd.DataFrame, columns: list[str], what: str) -> pd.DataFrame:
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"the {what} table has no column {missing[0]!r}; expected: {', '.join(columns)}")
    chosen = table[columns]
    check_table(chosen, Place(_name(table, f"{what} table")))
    return chosen
