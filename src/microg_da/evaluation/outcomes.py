"""Comparison of detections with the ground truth: dense arrays from which every metric is computed.

Rows are boxes, columns the classes of a taxonomy. Nothing here loops over detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.taxonomy import Taxonomy

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Outcomes:
    """Scores of R boxes for C classes, and the ground truth.

    A row is a detected box. Under per-box truth, a person whom no detected box covers is also a row, without scores.
    Rows are in the order of first occurrence in the detections.

    Attributes:
        scores: (R, C) float64, as in the file; −inf without a score.
        matched: (R, C) bool, whether mAP counts the detection as a true positive.
        truth: (R, C) bool, whether F1, recall and AUROC count the row as positive.
        row_keyframe: (R,) index into ``keyframes``.
        label_keyframe: (M,) index into ``keyframes`` of each label of the ground truth.
        label_class: (M,) class index of each label of the ground truth.
        keyframes: ``video_id, frame_stamp``, first those of the ground truth, then those only in detections.
        num_keyframes: number of keyframes in the ground truth.
        num_boxes: number of distinct boxes in the ground truth.
        num_duplicates: rows of both tables that repeat an earlier one, dropped or not.
    """

    scores: np.ndarray
    matched: np.ndarray
    truth: np.ndarray
    row_keyframe: np.ndarray
    label_keyframe: np.ndarray
    label_class: np.ndarray
    keyframes: pd.DataFrame
    num_keyframes: int
    num_boxes: int
    num_duplicates: int

    @classmethod
    def from_tables(
        cls,
        detections: pd.DataFrame,
        ground_truth: pd.DataFrame,
        taxonomy: Taxonomy,
        truth: str,
        drop_duplicates: bool = False,
    ) -> Outcomes:
        """Align a table of detections with ground truth.

        Args:
            detections: table with the columns of :data:`~microg_da.data.annotations.DETECTION_COLUMNS`; action ids
                must be of the taxonomy.
            ground_truth: table of annotations, likewise.
            taxonomy: the classes of the columns.
            truth: ``"frame"``: a box is positive for every action of any person in its keyframe; ``"box"``: for the
                actions of the one person it covers.
            drop_duplicates: whether only the first of repeated rows counts.
        """
        keyframe, keyframes, num_keyframes = number_keyframes(ground_truth, detections)
        column = np.searchsorted(taxonomy.ids, detections["action_id"])
        entry_keyframe = keyframe[len(ground_truth) :]
        entry_box = _group(entry_keyframe, *(detections[name] for name in BOX))
        rows = _rows(
            detections[BOX].to_numpy(np.float64),
            entry_keyframe,
            entry_box,
            column,
            detections["score"].to_numpy(np.float64),
            len(taxonomy),
            drop_duplicates,
        )
        labels = _labels(ground_truth, keyframe[: len(ground_truth)], taxonomy)
        return _outcomes(rows, labels, keyframes, num_keyframes, truth, drop_duplicates)

    @classmethod
    def from_arrays(
        cls,
        keyframes: pd.DataFrame,
        keyframe: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        ground_truth: pd.DataFrame,
        taxonomy: Taxonomy,
        truth: str,
        drop_duplicates: bool = False,
    ) -> Outcomes:
        """Align dense scores with ground truth, with the result of :meth:`from_tables` for the same table.

        The table has, for each box in turn, a row for each class with a score.

        Args:
            keyframes: ``video_id, frame_stamp``, each keyframe once.
            keyframe: (K,) index into ``keyframes`` of each box.
            boxes: (K, 4) ``x1 y1 x2 y2``.
            scores: (K, C) float; −inf without a score.
            ground_truth: as in :meth:`from_tables`.
            taxonomy: the classes of the columns.
            truth: as in :meth:`from_tables`.
            drop_duplicates: as in :meth:`from_tables`.
        """
        scored = np.isfinite(scores)
        named = scored.any(axis=1)
        if not named.all():
            keyframe, boxes, scores, scored = keyframe[named], boxes[named], scores[named], scored[named]
        codes, all_keyframes, num_keyframes = number_keyframes(ground_truth, keyframes.iloc[pd.unique(keyframe)])
        number = np.empty(len(keyframes), dtype=np.int64)
        number[pd.unique(keyframe)] = codes[len(ground_truth) :]
        row_keyframe = number[keyframe]
        box = _group(row_keyframe, *boxes.T)
        if box.max(initial=-1) + 1 == len(box):
            rows = _Rows(boxes.astype(np.float64), row_keyframe, scores.astype(np.float64), num_duplicates=0)
        else:
            row, column = np.nonzero(scored)
            rows = _rows(
                boxes[row], row_keyframe[row], box[row], column, scores[row, column], len(taxonomy), drop_duplicates
            )
        labels = _labels(ground_truth, codes[: len(ground_truth)], taxonomy)
        return _outcomes(rows, labels, all_keyframes, num_keyframes, truth, drop_duplicates)

    @property
    def support(self) -> np.ndarray:
        """(C,) labels of each class in the ground truth."""
        return np.bincount(self.label_class, minlength=self.scores.shape[1])

    @property
    def num_keyframes_with_detections(self) -> int:
        """The number of ground-truth keyframes with detections."""
        named = self.row_keyframe[np.isfinite(self.scores).any(axis=1)]
        return len(np.unique(named[named < self.num_keyframes]))


class _Rows(NamedTuple):
    """R rows of detections: (R, 4) boxes, (R,) keyframe, (R, C) scores, and the number of repeated detections."""

    boxes: np.ndarray
    keyframe: np.ndarray
    scores: np.ndarray
    num_duplicates: int


class _Labels(NamedTuple):
    """M labels: (M,) keyframe and (M,) class of each, and the people who have them."""

    keyframe: np.ndarray
    column: np.ndarray
    people: _People


def _labels(ground_truth: pd.DataFrame, keyframe: np.ndarray, taxonomy: Taxonomy) -> _Labels:
    column = np.searchsorted(taxonomy.ids, ground_truth["action_id"])
    return _Labels(keyframe, column, _people(ground_truth, keyframe, column, len(taxonomy)))


def _outcomes(
    rows: _Rows, labels: _Labels, keyframes: pd.DataFrame, num_keyframes: int, truth: str, drop_duplicates: bool
) -> Outcomes:
    boxes, row_keyframe, scores, num_duplicates = rows
    label_keyframe, label_class, people = labels
    num_classes = scores.shape[1]
    if drop_duplicates:
        label_keyframe, label_class = label_keyframe[~people.again], label_class[~people.again]
    pairs = overlaps(boxes, row_keyframe, people.boxes, people.keyframe)
    matched = _match_for_ap(scores, people.labels, *pairs)
    if truth == "frame":
        in_frame = np.zeros((len(keyframes), num_classes), dtype=bool)
        in_frame[label_keyframe, label_class] = True
        positive = in_frame[row_keyframe]
    else:
        person = assign(*pairs, len(boxes))
        missed = np.setdiff1d(np.arange(len(people.boxes)), person)
        no_people = np.zeros((1, num_classes), dtype=bool)
        positive = np.concatenate([people.labels, no_people])[np.concatenate([person, missed])]
        scores = np.concatenate([scores, np.full((len(missed), num_classes), -np.inf)])
        matched = np.concatenate([matched, np.zeros((len(missed), num_classes), dtype=bool)])
        row_keyframe = np.concatenate([row_keyframe, people.keyframe[missed]])
    return Outcomes(
        scores=scores,
        matched=matched,
        truth=positive,
        row_keyframe=row_keyframe,
        label_keyframe=label_keyframe,
        label_class=label_class,
        keyframes=keyframes,
        num_keyframes=num_keyframes,
        num_boxes=len(people.boxes),
        num_duplicates=int(people.again.sum()) + num_duplicates,
    )


def truth_of_boxes(boxes: pd.DataFrame, ground_truth: pd.DataFrame, taxonomy: Taxonomy) -> np.ndarray:
    """Return (R, C) bool actions of the person that each box covers, matched one to one as under per-box truth.

    Args:
        boxes: ``video_id, frame_stamp, x1, y1, x2, y2``, each box once.
        ground_truth: table of annotations.
        taxonomy: the classes of the columns.
    """
    ground_truth = ground_truth[ground_truth["action_id"].isin(taxonomy.ids)]
    keyframe = number_keyframes(ground_truth, boxes)[0]
    column = np.searchsorted(taxonomy.ids, ground_truth["action_id"])
    people = _people(ground_truth, keyframe[: len(ground_truth)], column, len(taxonomy))
    pairs = overlaps(boxes[BOX].to_numpy(np.float64), keyframe[len(ground_truth) :], people.boxes, people.keyframe)
    no_people = np.zeros((1, len(taxonomy)), dtype=bool)
    labels: np.ndarray = np.concatenate([people.labels, no_people])[assign(*pairs, len(boxes))]
    return labels


class _People(NamedTuple):
    """P distinct boxes of the ground truth: (P, 4) boxes, (P,) keyframe, (P, C) bool labels.

    ``again`` (M,) bool marks labels that repeat an earlier one.
    """

    boxes: np.ndarray
    keyframe: np.ndarray
    labels: np.ndarray
    again: np.ndarray


def _people(ground_truth: pd.DataFrame, keyframe: np.ndarray, column: np.ndarray, num_classes: int) -> _People:
    person = _group(keyframe, *(ground_truth[name] for name in BOX))
    first = _first_of(person)
    labels = np.zeros((len(first), num_classes), dtype=bool)
    labels[person, column] = True
    again = _occurrence(person * num_classes + column) > 0
    return _People(ground_truth[BOX].to_numpy(np.float64)[first], keyframe[first], labels, again)


def _rows(
    boxes: np.ndarray,
    keyframe: np.ndarray,
    box: np.ndarray,
    column: np.ndarray,
    scores: np.ndarray,
    num_classes: int,
    drop_duplicates: bool,
) -> _Rows:
    """Return the rows of N detections of one class each. A box with two scores gives two rows, or one if deduplicated.

    Args:
        boxes: (N, 4).
        keyframe: (N,).
        box: (N,) numbers of distinct boxes of distinct keyframes, in order of appearance.
        column: (N,) classes.
        scores: (N,).
        num_classes: C.
        drop_duplicates: whether only the first score of a box and class counts.
    """
    row = box
    occurrence = _occurrence(row * num_classes + column)
    again = occurrence > 0
    if again.any() and not drop_duplicates:
        row = _group(row, occurrence)
    first = _first_of(row)
    dense = np.full((len(first), num_classes), -np.inf)
    kept = ~again if drop_duplicates else slice(None)
    dense[row[kept], column[kept]] = scores[kept]
    return _Rows(boxes[first].astype(np.float64), keyframe[first], dense, int(again.sum()))


def number_keyframes(first: pd.DataFrame, second: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame, int]:
    """Number the keyframes of both tables in order of appearance; also return the number in the first table."""
    both = pd.concat([first[KEYFRAME], second[KEYFRAME]], ignore_index=True)
    codes = _group(both["video_id"], both["frame_stamp"])
    num_first = int(codes[: len(first)].max(initial=-1)) + 1
    return codes, both.iloc[_first_of(codes)].reset_index(drop=True), num_first


def _group(*columns: np.ndarray | pd.Series) -> np.ndarray:
    """Number the distinct rows of some columns in order of appearance."""
    codes = pd.factorize(columns[0])[0].astype(np.int64)
    for column in columns[1:]:
        more, values = pd.factorize(column)
        codes = pd.factorize(codes * max(len(values), 1) + more)[0]
    return codes


def _occurrence(keys: np.ndarray) -> np.ndarray:
    """Return the number of earlier occurrences of each key."""
    if len(keys) == 0 or np.bincount(keys).max() == 1:
        return np.zeros(len(keys), dtype=np.int64)
    return pd.Series(keys).groupby(keys).cumcount().to_numpy()


def overlaps(
    boxes: np.ndarray, box_keyframe: np.ndarray, persons: np.ndarray, person_keyframe: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a box and a person of one keyframe whose IoU reaches the threshold, highest IoU first."""
    left = pd.DataFrame({"keyframe": box_keyframe, "row": np.arange(len(boxes))})
    right = pd.DataFrame({"keyframe": person_keyframe, "person": np.arange(len(persons))})
    pairs = left.merge(right, on="keyframe")
    rows, people = pairs["row"].to_numpy(), pairs["person"].to_numpy()
    iou = paired_iou(boxes[rows], persons[people])
    order = np.lexsort((people, rows, -iou))
    order = order[iou[order] >= IOU_THRESHOLD]
    return rows[order], people[order]


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of N pairs of boxes ``x1 y1 x2 y2``; 0 for a pair without any area."""
    corner = np.maximum(a[:, :2], b[:, :2])
    size = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - corner, 0, None)
    intersection = size.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - intersection
    iou: np.ndarray = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou


def _match_for_ap(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray, people: np.ndarray) -> np.ndarray:
    """PASCAL VOC's greedy matching, for all classes at once.

    A detection is assigned to the person with the class whom it overlaps most. Among the detections assigned to one
    person, that with the highest score is the true positive (for ties, the earliest row).
    """
    pair, column = np.nonzero(labels[people] & np.isfinite(scores[rows]))
    row, person = rows[pair], people[pair]
    num_classes = scores.shape[1]
    best_person = _first_of(row * num_classes + column)
    row, person, column = row[best_person], person[best_person], column[best_person]
    by_score = np.lexsort((row, -scores[row, column]))
    row, person, column = row[by_score], person[by_score], column[by_score]
    winner = _first_of(person * num_classes + column)
    matched = np.zeros(scores.shape, dtype=bool)
    matched[row[winner], column[winner]] = True
    return matched


def _first_of(keys: np.ndarray) -> np.ndarray:
    """Index of the first occurrence of each distinct key, in the order of the keys."""
    return np.unique(keys, return_index=True)[1]


def assign(rows: np.ndarray, people: np.ndarray, num_rows: int) -> np.ndarray:
    """Match boxes and persons one to one, greedily by IoU; return (num_rows,) the person of each box, or −1.

    Pairs that are the best for both box and person are matched together; a few rounds match all.
    """
    person = np.full(num_rows, -1)
    while len(rows):
        settled = np.intersect1d(_first_of(rows), _first_of(people))
        person[rows[settled]] = people[settled]
        waiting = ~np.isin(rows, rows[settled]) & ~np.isin(people, people[settled])
        rows, people = rows[waiting], people[waiting]
    return person
