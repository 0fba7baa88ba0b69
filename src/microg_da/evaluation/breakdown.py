"""Scores on parts of the data: by footage, source video, number of people, size of the person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.score_kinds import ScoreKind
from microg_da.data.source_videos import source_videos_of
from microg_da.errors import InputError, unknown_name
from microg_da.evaluation.outcomes import overlaps
from microg_da.evaluation.protocols import Protocol, Scores, evaluate_part
from microg_da.taxonomy import Taxonomy

# Fraction of the image's area that a person covers; limits of small | medium | large.
SIZE_EDGES = (0.25, 0.5)
SIZES = ("small (< 1/4 of the image)", "medium (1/4 to 1/2)", "large (> 1/2)")
MANY_PERSONS = 3

BREAKDOWNS = {
    "class": "each class",
    "group": "person movement, object manipulation, person interaction",
    "footage": "real and simulated clips; needs MicroG-4M's actions.csv",
    "source-video": "source videos",
    "persons": "number of people in the keyframe",
    "box-size": "fraction of the image that the person covers",
}
ALIASES = {"domain": "footage", "source": "source-video"}
"""Other names of breakdowns."""


def partition(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, by: str, footage: dict[str, str] | None = None
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Divide both tables into named parts.

    Args:
        detections: table of detections.
        ground_truth: table of annotations.
        by: ``"footage"``, ``"source-video"``, ``"persons"`` or ``"box-size"``.
        footage: the footage of every ``video_id``, needed for ``"footage"``.

    Raises:
        InputError: if ``by`` is unknown, or the footage of a clip is.
    """
    by = ALIASES.get(by, by)
    if by not in _LABELS:
        raise unknown_name("breakdown", by, _LABELS)
    truth_part, detection_part = _LABELS[by](detections, ground_truth, footage)
    sizes = truth_part.value_counts()
    names = sizes.index if by in ("footage", "source-video") else sorted(sizes.index, key=_rank)
    return {
        name: (detections[(detection_part == name).to_numpy()], ground_truth[(truth_part == name).to_numpy()])
        for name in names
    }


def evaluate_parts(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    by: str,
    footage: dict[str, str] | None = None,
    *,
    protocol: str | Protocol = "corrected",
    taxonomy: str | Taxonomy = "microg50",
    scores: ScoreKind | None = None,
) -> dict[str, Scores]:
    """:func:`~microg_da.evaluation.protocols.evaluate_part` on each part of :func:`partition`."""
    parts = partition(detections, ground_truth, by, footage)
    return {
        name: evaluate_part(*tables, protocol=protocol, taxonomy=taxonomy, scores=scores)
        for name, tables in parts.items()
    }


def footage_of(actions: pd.DataFrame) -> dict[str, str]:
    """The footage of every clip, from the table that ``read_actions`` gives."""
    return dict(zip(actions["video_id"], actions["domain"], strict=True))


def _footage(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, footage: dict[str, str] | None
) -> tuple[pd.Series, pd.Series]:
    if footage is None:
        raise InputError("a breakdown by footage needs the footage of clips. Give --actions actions.csv.")
    unknown = set(ground_truth["video_id"]).difference(footage)
    if unknown:
        raise InputError(
            f"the footage of {len(unknown)} clips is unknown, e.g. {min(unknown)!r}. Add them to the file of --actions."
        )
    return ground_truth["video_id"].map(footage), detections["video_id"].map(footage)


def _source_video(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, _: dict[str, str] | None
) -> tuple[pd.Series, pd.Series]:
    return source_videos_of(ground_truth, ground_truth), source_videos_of(detections, ground_truth)


def _persons(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, _: dict[str, str] | None
) -> tuple[pd.Series, pd.Series]:
    boxes = ground_truth.drop_duplicates([*KEYFRAME, *BOX])
    count = boxes.groupby(KEYFRAME).size().rename("persons").reset_index()
    names = {n: str(n) for n in range(MANY_PERSONS)}

    def name(table: pd.DataFrame) -> pd.Series:
        persons = table[KEYFRAME].merge(count, on=KEYFRAME, how="left")["persons"].fillna(0)
        return persons.map(names).fillna(f"{MANY_PERSONS} or more")

    return name(ground_truth), name(detections)


def _box_size(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, _: dict[str, str] | None
) -> tuple[pd.Series, pd.Series]:
    """Return the size of the person that a detection covers, or of the detection if it covers no person."""
    own = pd.concat([ground_truth[[*KEYFRAME, *BOX]], detections[[*KEYFRAME, *BOX]]], ignore_index=True)
    boxes = own[BOX].to_numpy(np.float64)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    keyframe = own.groupby(KEYFRAME).ngroup().to_numpy()
    start = len(ground_truth)
    # Each person occurs once, since a row for each label would multiply the pairs.
    persons = np.flatnonzero(~ground_truth.duplicated([*KEYFRAME, *BOX]).to_numpy())
    row, person = overlaps(boxes[start:], keyframe[start:], boxes[persons], keyframe[persons])
    covered, first = np.unique(row, return_index=True)
    area[start + covered] = area[persons[person[first]]]
    names = pd.Series(np.array(SIZES)[np.searchsorted(SIZE_EDGES, area)])
    return names[:start], names[start:]


def _rank(name: str) -> tuple[int, str]:
    return (SIZES.index(name) if name in SIZES else 0, name)


_Labels = Callable[
    [pd.DataFrame, pd.DataFrame, "dict[str, str] | None"],
    "tuple[pd.Series, pd.Series]",
]
_LABELS: dict[str, _Labels] = {
    "footage": _footage,
    "source-video": _source_video,
    "persons": _persons,
    "box-size": _box_size,
}
