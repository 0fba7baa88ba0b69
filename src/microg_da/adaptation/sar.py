"""Sharpness-aware and reliable entropy minimisation at test time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Optimizer

from microg_da.adaptation.base import Task, detect
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.adaptation.online import (
    Online,
    OnlineArguments,
    affine_parameters,
    person_entropy,
    source_logits,
    use_batch_statistics,
)
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

_NORMALISATION = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass
class SARArguments(OnlineArguments):
    """Settings of :class:`SAR` with SGD and momentum 0.9, in addition to those of all online methods.

    Entropies are fractions of the entropy of a prediction of the class rates. The default learning rate is the authors'
    value for residual networks and batches of 64.

    Attributes:
        margin: largest entropy of reliable people.
        radius: radius of sharpness-aware minimisation in parameter space.
        recovery: value of the moving average of the entropy below which the detector is reset.
        source_batches: number of source batches for the class rates.
    """

    lr: float = 2.5e-4
    margin: float = 0.4
    radius: float = 0.05
    recovery: float = 0.03
    source_batches: int = 16


class SAR(Online):
    """Minimises the entropy of reliable people with a sharpness-aware step, and resets the detector on collapse.

    The adapted parameters are scales and shifts of all normalisation layers except those of the last stage. An
    uninformative softmax is uniform, with entropy ln C. An uninformative multi-label prediction consists of the class
    rates, so that the sum of their Bernoulli entropies replaces ln C in both thresholds. The rates are those that the
    source model predicts on source clips.

    Niu et al., "Towards stable test-time adaptation in dynamic wild world", ICLR 2023.

    Deviations from the paper: the sum of Bernoulli entropies over the classes in the support replaces the softmax
    entropy, with thresholds as above; class rates are computed on source clips; the recovery threshold is a fraction of
    the uninformative entropy, 0.03, which is the constant 0.2 of the authors' code over ln 1000.
    """

    Arguments: ClassVar[type] = SARArguments
    arguments: SARArguments
    uninformed: Tensor

    def __init__(self, arguments: SARArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.register_buffer("uninformed", torch.zeros(()))
        self.recoveries = 0

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Compute class rates on source clips.

        Raises:
            InputError: if the source clips contain no people.
        """
        super().prepare(detector, source, target)
        logits = source_logits("sar", "class rates", detector, source, self.arguments.source_batches)
        rates = logits.sigmoid().mean(dim=0)
        self.uninformed.copy_(bernoulli_entropy(torch.logit(self.supported(rates), eps=1e-6)).sum())

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return the parameters of normalisation layers before the last stage, which is too sensitive to adapt."""
        last = f"backbone.{detector.backbone.stages[-1]}."
        named = [(name, module) for name, module in detector.named_modules() if isinstance(module, _NORMALISATION)]
        use_batch_statistics([layer for _, layer in named if isinstance(layer, _BatchNorm)])
        parameters = affine_parameters(layer for name, layer in named if not name.startswith(last))
        if not parameters:
            raise InputError(
                "adaptation 'sar' needs normalisation layers with scale and shift before the last stage, and this "
                "model has none. Choose another adaptation."
            )
        return parameters

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD with momentum, as in the paper."""
        return SGD(parameters, lr=self.arguments.lr, momentum=0.9)

    def forget(self) -> None:
        """Reset the moving average."""
        self._average: float | None = None

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """Take one sharpness-aware step, unless no person is reliable."""
        margin = self.arguments.margin * self.uninformed
        prediction = detect(detector, batch)
        entropy = person_entropy(self.supported(prediction.logits))
        reliable = entropy < margin
        if not reliable.any():
            return prediction
        optimizer.zero_grad()
        torch.autograd.backward(entropy[reliable].mean())
        moved = climb(self._chosen, self.arguments.radius)
        optimizer.zero_grad()
        second = person_entropy(self.supported(detect(detector, batch).logits))[reliable]
        still = second < margin
        if still.any():
            torch.autograd.backward(second[still].mean())
        descend(moved)
        if still.any():
            optimizer.step()
            self._watch(detector, float(second[still].detach().mean()))
        return prediction

    def _watch(self, detector: ActionDetector, entropy: float) -> None:
        """Reset the detector if the entropy has collapsed."""
        average = self._average
        self._average = entropy if average is None else 0.9 * average + 0.1 * entropy
        if self._average < self.arguments.recovery * float(self.uninformed):
            self.recoveries += 1
            self.recover(detector)


@torch.no_grad()
def climb(parameters: list[nn.Parameter], radius: float) -> list[tuple[nn.Parameter, Tensor]]:
    """Move parameters by ``radius`` along the gradient, as one vector.

    Returns:
        The parameters and their previous values, for :func:`descend`.
    """
    moving = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    before = [(parameter, parameter.clone()) for parameter, _ in moving]
    if not moving:
        return before
    length = torch.stack([gradient.norm() for _, gradient in moving]).norm()
    for parameter, gradient in moving:
        parameter.add_(gradient * (radius / (length + 1e-12)))
    return before


@torch.no_grad()
def descend(before: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Undo :func:`climb` exactly."""
    for parameter, value in before:
        parameter.copy_(value)
