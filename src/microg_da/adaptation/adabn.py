"""Adaptive batch normalisation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from microg_da.adaptation.base import TrainingMethod, detect
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


@dataclass
class AdaBNArguments:
    """Settings of :class:`AdaBN`.

    Attributes:
        max_clips: largest number of target clips; None for all.
    """

    max_clips: int | None = None


class AdaBN(TrainingMethod):
    """Recomputes the running statistics of all batch-norm layers on unlabelled target clips; weights do not change.

    Li et al., "Adaptive Batch Normalization for practical domain adaptation", Pattern Recognition 80, 2018.
    """

    Arguments: ClassVar[type] = AdaBNArguments
    arguments: AdaBNArguments
    needs_encoder = "estimates the batch-norm statistics of the encoder"
    has_epochs: ClassVar[bool] = False

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the detector has batch normalisation."""
        layers_with_statistics(detector)

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Replace the source statistics by the cumulative average over target batches.

        Raises:
            InputError: if the detector has no batch-norm layer or the target has no clips.
        """
        reestimate_batch_norm(detector, target, self.arguments.max_clips)


@torch.no_grad()
def reestimate_batch_norm(detector: ActionDetector, clips: Iterable[ClipBatch], max_clips: int | None = None) -> None:
    """Set the running statistics of all batch-norm layers to those of ``clips``, with equal weight for each clip."""
    layers = layers_with_statistics(detector)
    was_training = {module: module.training for module in detector.modules()}
    momenta = [layer.momentum for layer in layers]
    detector.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    seen = 0
    try:
        for batch in clips:
            if max_clips is not None and seen >= max_clips:
                break
            seen += len(batch)
            for layer in layers:
                # The weight of this batch in the mean over all clips so far; a smaller last batch has less weight.
                layer.momentum = len(batch) / seen
            detect(detector, batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        _restore_modes(was_training)
    if not seen:
        raise InputError("adaptation 'adabn' needs target clips to compute statistics, but the target has none.")


def layers_with_statistics(detector: ActionDetector) -> list[_BatchNorm]:
    """Return the batch-norm layers with running statistics.

    Raises:
        InputError: if there are none.
    """
    layers = [module for module in detector.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        raise InputError(
            "adaptation 'adabn' needs batch normalisation, which this model does not have. Choose another method."
        )
    return layers


def _restore_modes(was_training: dict[nn.Module, bool]) -> None:
    for module, mode in was_training.items():
        module.training = mode
