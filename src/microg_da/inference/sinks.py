"""Sinks: objects that accumulate the predictions of a pass over clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from torch import nn

from microg_da.evaluation.metric import DetectionMetrics
from microg_da.types import ClipBatch, Domain, Prediction
from microg_da.validation.mixing import MixedPeople


class Sink(Protocol):
    """Accumulates the predictions of a pass, batch by batch.

    :class:`ScoreSink`, :class:`ProbabilitySink`, :class:`~microg_da.inference.feature_sample.FeatureSample` and
    :class:`~microg_da.validation.observations.Observations` are sinks.
    """

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch; labels that it may carry are not read."""


@runtime_checkable
class ProbingSink(Sink, Protocol):
    """A sink that also asks for the answers to clips of its own making."""

    def probe(self, batch: ClipBatch, prediction: Prediction, predict: Callable[[ClipBatch], Prediction]) -> None:
        """Called after :meth:`update`; ``predict`` gave ``prediction``."""


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
    """Keeps the probability of every class for each person, in the order of the pass.

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


class MixingSink(nn.Module):
    """Mixes the people of target batches two and two, and keeps the answers, for the validator ``mixval``.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.mixed = MixedPeople(num_classes)

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """The people as they are say nothing by themselves."""

    def probe(self, batch: ClipBatch, prediction: Prediction, predict: Callable[[ClipBatch], Prediction]) -> None:
        """Add the mixtures of a target batch; see :class:`ProbingSink`."""
        if batch.domain == "target":
            self.mixed.update(batch, prediction, predict)
