"""Sinks: what accumulates the predictions of a pass over clips."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import nn

from microg_da.evaluation.metric import DetectionMetrics
from microg_da.types import ClipBatch, Domain, Prediction


class Sink(Protocol):
    """Accumulates the predictions of a pass, batch by batch.

    :class:`ScoreSink`, :class:`ProbabilitySink`, :class:`~microg_da.inference.feature_sample.FeatureSample` and
    :class:`~microg_da.validation.observations.Observations` are sinks.
    """

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch; labels that it may carry are not read."""


class ScoreSink(nn.Module):
    """Accumulates the predictions of one domain for scores against its annotation table.

    Args:
        metrics: made with the annotation table.
        domain: batches of the other domain are left out.
    """

    def __init__(self, metrics: DetectionMetrics, domain: Domain) -> None:
        super().__init__()
        self.metrics = metrics
        self.domain = domain

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch."""
        if batch.domain != self.domain:
            return
        # Of people, not of clips: a table has no row of a keyframe without people.
        keyframes = self.metrics.index_of(batch.keys[clip] for clip in batch.clip_index.tolist())
        self.metrics.update(keyframes.to(batch.table_boxes.device), batch.table_boxes, prediction.logits.float())


class ProbabilitySink:
    """Keeps the probability of every class for everybody, in the order of the pass.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self._parts = [np.empty((0, num_classes), np.float32)]

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch."""
        self._parts.append(prediction.logits.float().sigmoid().cpu().numpy())

    def probabilities(self) -> np.ndarray:
        """``(K, C)`` in [0, 1], of all people so far."""
        return np.concatenate(self._parts)
