"""Alignment of the detections of several models to the same rows: same keyframes, boxes and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.score_kinds import ScoreKind
from microg_da.errors import InputError
from microg_da.evaluation.checks import checked_detections, score_kind, warn_if_unclear
from microg_da.evaluation.outcomes import assign, number_keyframes, overlaps
from microg_da.taxonomy import Taxonomy

# The number of boxes with exactly equal score vectors from which these are not a coincidence.
MIN_CLASSES_FOR_BLINDNESS = 10
PROBABILITY_LIMIT = 1e-7


class BoxCounts(TypedDict):
    """The numbers of boxes that a model has, misses, has alone and did not see, and of its dropped rows."""

    boxes: int
    missing: int
    extra: int
    blind: int
    repeated_rows: int
    ignored_rows: int


@dataclass(frozen=True)
class Aligned:
    """Logits of M models for the same R boxes and C classes.

    Attributes:
        boxes: R rows of ``video_id, frame_stamp, x1, y1, x2, y2``; coordinates of the first model that has the box.
        logits: (M, R, C). Missing logits of a model are the mean over the other models; NaN if no model has one.
        seen: (R,) bool, whether any model saw the box; see :func:`align`.
        counts: for each model, the numbers of boxes that it has, misses, has alone and did not see (``blind``), and of
            its rows that are repeated or of other classes.
    """

    boxes: pd.DataFrame
    logits: np.ndarray
    seen: np.ndarray
    counts: list[BoxCounts]


def align(tables: Sequence[pd.DataFrame], taxonomy: Taxonomy, scores: ScoreKind | None = None) -> Aligned:
    """Align tables of detections by keyframe and box, one box to one by IoU ≥ 0.5, best pairs first.

    If several boxes have exactly the same vector of scores, the model did not see them, e.g. because they were outside
    a crop. These scores count as missing for boxes that another model saw.

    Args:
        tables: detections of each model, rows in any order.
        taxonomy: the classes; rows of other classes are dropped.
        scores: ``"logit"`` or ``"probability"``; None for the kind that the file of each table declares.

    Raises:
        InputError: for an invalid table, no tables, or no detections of the taxonomy's classes.
    """
    checked = [_logits(table, scores) for table in tables]
    kept = [table[table["action_id"].isin(taxonomy.ids)] for table in checked]
    unique = [table.drop_duplicates([*KEYFRAME, *BOX, "action_id"]) for table in kept]
    everything = pd.concat(unique, ignore_index=True) if unique else pd.DataFrame()
    if everything.empty:
        raise InputError("nothing to fuse: no detections of the taxonomy's classes")
    keyframe, _, _ = number_keyframes(everything, everything.iloc[:0])
    model = np.repeat(np.arange(len(tables)), [len(table) for table in unique])
    logits, first_of_box = _stack(everything, keyframe, model, taxonomy)
    spoken = ~np.isnan(logits).all(axis=2)
    blind = np.stack([_blind(values, present) for values, present in zip(logits, spoken, strict=True)])
    seen = (spoken & ~blind).any(axis=0)
    blind &= seen
    counts: list[BoxCounts] = [
        {
            "boxes": int(spoken[i].sum()),
            "missing": int((~spoken[i]).sum()),
            "extra": int((spoken[i] & (spoken.sum(axis=0) == 1)).sum()) if len(tables) > 1 else 0,
            "blind": int(blind[i].sum()),
            "repeated_rows": len(kept[i]) - len(unique[i]),
            "ignored_rows": len(tables[i]) - len(kept[i]),
        }
        for i in range(len(tables))
    ]
    logits[blind] = np.nan
    table = everything.iloc[first_of_box][[*KEYFRAME, *BOX]].reset_index(drop=True)
    return Aligned(table, _fill(logits), seen, counts)


def to_table(boxes: pd.DataFrame, scores: np.ndarray, taxonomy: Taxonomy) -> pd.DataFrame:
    """Return a table of detections from R boxes and (R, C) scores; NaN scores are dropped."""
    table = boxes.loc[boxes.index.repeat(len(taxonomy))].reset_index(drop=True)
    table["action_id"] = np.tile(taxonomy.ids, len(boxes))
    table["score"] = scores.ravel()
    return table[table["score"].notna()].reset_index(drop=True)


def _stack(
    everything: pd.DataFrame, keyframe: np.ndarray, model: np.ndarray, taxonomy: Taxonomy
) -> tuple[np.ndarray, np.ndarray]:
    """(M, R, C) logits with NaN, and (R,) the first row of each box."""
    row = everything.assign(keyframe=keyframe, model=model).groupby(["model", "keyframe", *BOX], sort=False).ngroup()
    first = np.unique(row, return_index=True)[1]
    coordinates = everything[BOX].to_numpy(np.float64)[first]
    row_keyframe, row_model = keyframe[first], model[first]
    reference = np.full(len(first), -1)
    boxes, frames, firsts = np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for i in range(model.max() + 1):
        mine = np.flatnonzero(row_model == i)
        found = assign(*overlaps(coordinates[mine], row_keyframe[mine], boxes, frames), len(mine))
        new = mine[found < 0]
        reference[mine[found >= 0]] = found[found >= 0]
        reference[new] = np.arange(len(boxes), len(boxes) + len(new))
        boxes = np.concatenate([boxes, coordinates[new]])
        frames = np.concatenate([frames, row_keyframe[new]])
        firsts = np.concatenate([firsts, first[new]])
    logits = np.full((model.max() + 1, len(boxes), len(taxonomy)), np.nan)
    column = np.searchsorted(taxonomy.ids, everything["action_id"])
    logits[model, reference[row], column] = everything["score"].to_numpy(np.float64)
    return logits, firsts


def _blind(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    repeated = pd.DataFrame(values).duplicated(keep=False).to_numpy()
    blind: np.ndarray = repeated & present & ((~np.isnan(values)).sum(axis=1) >= MIN_CLASSES_FOR_BLINDNESS)
    return blind


def _fill(logits: np.ndarray) -> np.ndarray:
    known = ~np.isnan(logits)
    total = np.where(known, logits, 0).sum(axis=0)
    mean = np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0))
    return np.where(known, logits, mean)


def _logits(table: pd.DataFrame, scores: ScoreKind | None) -> pd.DataFrame:
    """A table of detections, checked, with logits for scores."""
    kind = score_kind(table, scores)
    checked = checked_detections(table, kind)
    warn_if_unclear(table, kind)
    logits = checked.assign(score=_logit(checked["score"].to_numpy(np.float64))) if kind == "probability" else checked
    # The kind that the file declares does not apply to the converted scores.
    logits = logits.copy()
    logits.attrs = {}
    return logits


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, PROBABILITY_LIMIT, 1 - PROBABILITY_LIMIT)
    logits: np.ndarray = np.log(clipped) - np.log1p(-clipped)
    return logits
