"""The protocols as a torchmetrics metric, for use inside training and across processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.score_kinds import ScoreKind
from microg_da.errors import InputError
from microg_da.evaluation.checks import checked_detections, checked_ground_truth
from microg_da.evaluation.outcomes import Outcomes
from microg_da.evaluation.protocols import Scores, get_protocol, summarise
from microg_da.taxonomy import Taxonomy, get_taxonomy


class DetectionMetrics(Metric):
    """Frame-level mAP, macro F1, recall and AUROC of detections against a table of annotations.

    The state consists of the detections, so that the result does not depend on the number of processes: the order of
    keyframes does not matter, and boxes that a distributed sampler repeats count once.

    Example:
        >>> import pandas as pd, torch
        >>> from microg_da import DetectionMetrics
        >>> truth = pd.DataFrame(
        ...     [("film_1", 46, 0.1, 0.1, 0.5, 0.9, 12, 0), ("film_2", 46, 0.2, 0.1, 0.6, 0.9, 80, 0)],
        ...     columns=["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"],
        ... )
        >>> metric = DetectionMetrics(truth, "microg50", scores="probability")
        >>> scores = torch.full((2, 50), 0.01)
        >>> scores[0, metric.taxonomy.ids.index(12)] = 0.9
        >>> boxes = torch.tensor([[0.1, 0.1, 0.5, 0.8], [0.2, 0.1, 0.6, 0.9]])
        >>> metric.update([("film_1", 46), ("film_2", 46)], boxes, scores)
        >>> metric.compute()["map"]  # the one action is found, the other is as likely for both people
        0.75
        >>> metric.scores().f1_macro
        0.5

    Args:
        ground_truth: annotation table of all keyframes. Keyframes without an update count as missed.
        taxonomy: the classes, in the order of the logits.
        protocol: ``"published"`` or ``"corrected"``.
        scores: the kind of the scores passed to :meth:`update`.
        kwargs: arguments of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    keyframe_index: list[Tensor]
    boxes: list[Tensor]
    logits: list[Tensor]

    def __init__(
        self,
        ground_truth: pd.DataFrame,
        taxonomy: str | Path | Taxonomy = "microg50",
        protocol: str = "corrected",
        scores: ScoreKind = "logit",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ground_truth = ground_truth
        self.taxonomy = get_taxonomy(taxonomy)
        self.protocol = get_protocol(protocol)
        self.score_kind: ScoreKind = scores
        self.keyframes = ground_truth[KEYFRAME].drop_duplicates().sort_values(KEYFRAME).reset_index(drop=True)
        self._numbers = {key: i for i, key in enumerate(self.keyframes.itertuples(index=False, name=None))}
        for name in ("keyframe_index", "boxes", "logits"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def index_of(self, keys: Iterable[tuple[str, float]]) -> Tensor:
        """(N,) int64 positions of keyframes ``(video_id, frame_stamp)`` in :attr:`keyframes`.

        Raises:
            InputError: if the ground truth has no such keyframe.
        """
        try:
            return torch.tensor([self._numbers[tuple(key)] for key in keys], dtype=torch.int64)
        except KeyError as error:
            raise InputError(f"keyframe {error.args[0]} is not in the ground truth of the metric") from None

    def update(self, keyframes: Tensor | Sequence[tuple[str, float]], boxes: Tensor, logits: Tensor) -> None:
        """Add the boxes of some keyframes.

        Args:
            keyframes: the keyframe of each box: ``K`` pairs ``(video_id, frame_stamp)``, or (K,) int of
                :meth:`index_of`.
            boxes: (K, 4) boxes of the table, in [0, 1] of the original image.
            logits: (K, C) scores of every class; probabilities with ``scores="probability"``.

        Raises:
            InputError: if the ground truth has no such keyframe.
            ValueError: if the shapes do not match.
        """
        keyframe_index = keyframes if isinstance(keyframes, Tensor) else self.index_of(keyframes).to(boxes.device)
        if not len(keyframe_index) == len(boxes) == len(logits) or logits.shape[1:] != (len(self.taxonomy),):
            raise ValueError(
                f"expected (K,), (K, 4) and (K, {len(self.taxonomy)}), got "
                f"{tuple(keyframe_index.shape)}, {tuple(boxes.shape)} and {tuple(logits.shape)}"
            )
        self.keyframe_index.append(keyframe_index.detach())
        self.boxes.append(boxes.detach())
        self.logits.append(logits.detach().float())

    def compute(self) -> dict[str, object]:
        """Return :meth:`microg_da.evaluation.Scores.as_dict` over all updates."""
        return self._scores().as_dict()

    def scores(self) -> Scores:
        """The same as :meth:`compute`, as :class:`~microg_da.evaluation.Scores`."""
        with self.sync_context(should_sync=self._to_sync and not self._is_synced):
            return self._scores()

    def detections(self) -> pd.DataFrame:
        """Return a sorted table of the detections of all updates and processes, each box once."""
        with self.sync_context(should_sync=self._to_sync and not self._is_synced):
            return self._detections()

    def _scores(self) -> Scores:
        index, boxes, logits = self._distinct()
        if not _possible(boxes, logits, self.score_kind):
            checked_detections(self._detections(), self.score_kind)  # names the row
        truth = checked_ground_truth(self.ground_truth)
        truth = truth[truth["action_id"].isin(self.taxonomy.ids)]
        outcomes = Outcomes.from_arrays(
            self.keyframes,
            index,
            boxes,
            logits,
            truth,
            self.taxonomy,
            self.protocol.truth,
            self.protocol.drop_duplicates,
        )
        num_ignored = len(self.ground_truth) - len(truth)
        return summarise(outcomes, self.protocol, self.taxonomy, self.score_kind, num_ignored)

    def _detections(self) -> pd.DataFrame:
        columns = len(self.taxonomy)
        index, boxes, logits = self._distinct()
        frames = self.keyframes.iloc[np.repeat(index, columns)].reset_index(drop=True)
        frames[BOX] = np.repeat(boxes, columns, axis=0)
        frames["action_id"] = np.tile(self.taxonomy.ids, len(index))
        frames["score"] = logits.ravel()
        frames.attrs["scores"] = self.score_kind
        return frames

    def _distinct(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K,) keyframe indices, (K, 4) boxes and (K, C) logits: each box once, sorted."""
        index = _array(self.keyframe_index).astype(np.int64)
        # float32 boxes are rounded to decimals, so that they equal those of the table.
        boxes = _array(self.boxes, 4).astype(np.float64).round(6)
        logits = _array(self.logits, len(self.taxonomy)).astype(np.float64)
        order = np.lexsort((*boxes.T[::-1], index))
        key = np.column_stack([index, boxes])[order]
        first = np.ones(len(key), dtype=bool)
        first[1:] = (key[1:] != key[:-1]).any(axis=1)
        order = order[first]
        return index[order], boxes[order], logits[order]


def _possible(boxes: np.ndarray, scores: np.ndarray, kind: ScoreKind) -> bool:
    """Return whether a table of these detections passes :func:`~microg_da.evaluation.checks.checked_detections`."""
    low, high = (0, 1) if kind == "probability" else (-np.inf, np.inf)
    inside = bool(((boxes >= 0) & (boxes <= 1)).all() and (boxes[:, :2] < boxes[:, 2:]).all())
    return inside and bool((np.isfinite(scores) & (scores >= low) & (scores <= high)).all())


def _array(state: list[Tensor] | Tensor, *width: int) -> np.ndarray:
    return dim_zero_cat(state).cpu().numpy() if len(state) else np.zeros((0, *width))
