"""Sinks, which accumulate the predictions of a pass over clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from torch import nn

from microg_da.evaluation.metric import DetectionMetrics
from microg_da.types import ClipBatch, Domain, Prediction
from microg_da.validation.mixing import MixedPeople


class Sink(Protocol):
    """Interface of objects that accumulate the predictions of a pass, batch by batch.

    :class:`ScoreSink`, :class:`ProbabilitySink`, :class:`~microg_da.inference.feature_sample.FeatureSample` and
    :class:`~microg_da.validation.observations.Observations` are sinks.
    """

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch. Labels in the batch are not read."""


@runtime_checkable
class ProbingSink(Sink, Protocol):
    """A sink that also requests predictions for clips that it makes."""

    def probe(self, batch: ClipBatch, prediction: Prediction, predict: Callable[[ClipBatch], Prediction]) -> None:
        """Process a batch after :meth:`update`; ``predict`` computes predictions for other clips."""


class ScoreSink(nn.Module):
    """Accumulates the predictions of one domain and scores them against the annotation table.

    Args:
        metrics: metrics for the annotation table.
        domain: the scored domain; batches of the other domain are ignored.
    """

    def __init__(self, metrics: DetectionMetrics, domain: Domain) -> None:
        super().__init__()
        self.metrics = metrics
        self.domain = domain

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch."""
        if batch.domain != self.domain:
            return
        # Only the keyframes of people are looked up, because the table has no row for a keyframe without people.
        keyframes = self.metrics.index_of(batch.keys[clip] for clip in batch.clip_index.tolist())
        self.metrics.update(keyframes.to(batch.table_boxes.device), batch.table_boxes, prediction.logits.float())


class ProbabilitySink:
    """Accumulates the class probabilities of each person, in the order of the pass.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self._parts = [np.empty((0, num_classes), np.float32)]

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch."""
        self._parts.append(prediction.logits.float().sigmoid().cpu().numpy())

    def probabilities(self) -> np.ndarray:
        """Return the probabilities of all people so far, ``(K, C)`` in [0, 1]."""
        return np.concatenate(self._parts)


class MixingSink(nn.Module):
    """Mixes pairs of people in target batches and accumulates the predictions, for the validator ``mixval``.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.mixed = MixedPeople(num_classes)

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Ignore the original people; only mixtures are used."""

    def probe(self, batch: ClipBatch, prediction: Prediction, predict: Callable[[ClipBatch], Prediction]) -> None:
        """Add the mixtures of a target batch; see :class:`ProbingSink`."""
        if batch.domain == "target":
            self.mixed.update(batch, prediction, predict)
