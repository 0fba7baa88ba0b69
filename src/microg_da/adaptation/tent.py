"""Test-time entropy minimisation."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from microg_da.adaptation.base import detect
from microg_da.adaptation.online import (
    Online,
    affine_parameters,
    batch_norm_layers,
    person_entropy,
    use_batch_statistics,
)
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction


class Tent(Online):
    """Minimises entropy over batch-norm scales and shifts, with the statistics of the test batch.

    The loss is the sum of Bernoulli entropies over classes, averaged over people. If classes are rare, predicting no
    class for all people has the lowest entropy; see the detection of collapse in ``docs/selection.md``.

    Wang et al., "Tent: Fully test-time adaptation by entropy minimization", ICLR 2021.

    Deviations from the paper: Bernoulli entropies of the classes in the support, which is found on target training
    clips, replace the softmax entropy. Adam at 1e-3 is the paper's setting for small images.
    """

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return the parameters of all batch-norm layers, including frozen ones."""
        layers = batch_norm_layers(detector, "tent")
        use_batch_statistics(layers)
        return affine_parameters(layers)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """Take one step on the entropy."""
        prediction = detect(detector, batch)
        optimizer.zero_grad()
        torch.autograd.backward(person_entropy(self.supported(prediction.logits)).mean())
        optimizer.step()
        return prediction
