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
    """Batch norm with the statistics of the test batch, and scales and shifts that make predictions surer.

    What is minimised is the mean over people of the Bernoulli entropies of their classes, summed. Where classes are
    rare, "no" to everything has the lowest entropy of all: watch the collapse guard of ``docs/selection.md``.

    Wang et al., "Tent: Fully test-time adaptation by entropy minimization", ICLR 2021.

    Deviations from the paper: Bernoulli entropies of the classes in the support, which some target training clips show,
    in place of the entropy of a softmax. Adam at 1e-3 is what the paper uses on small images.
    """

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Batch-norm layers, frozen ones too."""
        layers = batch_norm_layers(detector, "tent")
        use_batch_statistics(layers)
        return affine_parameters(layers)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """One step down the entropy."""
        prediction = detect(detector, batch)
        optimizer.zero_grad()
        torch.autograd.backward(person_entropy(self.supported(prediction.logits)).mean())
        optimizer.step()
        return prediction
