"""Smooth domain-adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from microg_da.adaptation.base import Losses, Task, forward_both, split_prediction
from microg_da.adaptation.cdan import CDAN, CDANArguments
from microg_da.adaptation.losses import multilabel_bce
from microg_da.data.batches import concatenate_batches
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, LabelledClipBatch, Prediction


@dataclass
class SDATArguments(CDANArguments):
    """Settings of :class:`SDAT`, in addition to those of :class:`~microg_da.adaptation.cdan.CDAN`.

    Attributes:
        radius: radius of sharpness-aware minimisation of the supervised loss, in parameter space.
    """

    radius: float = 0.05


class SDAT(CDAN):
    """CDAN with sharpness-aware minimisation of the supervised loss, but not of the domain loss.

    The weights are perturbed by ``radius`` along the gradient of the supervised loss. The gradient of both losses at
    the perturbed weights updates the original weights. The domain classifier is not perturbed. As in the authors' code,
    the domain loss is also computed at the perturbed weights, so that a step costs one additional forward and backward
    pass. Batch normalisation is updated in both passes.

    Deviation: the base method is the multi-label CDAN of this package. Each of several processes perturbs with the
    gradient of its own clips.

    Rangwani et al., "A closer look at smoothness in domain adversarial training", ICML 2022.
    """

    Arguments: ClassVar[type] = SDATArguments
    arguments: SDATArguments

    def __init__(self, arguments: SDATArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not arguments.radius > 0:
            raise InputError(f"adaptation.args.radius={arguments.radius} is invalid: expected a number above 0.")

    def training_losses(
        self, detector: ActionDetector, source: LabelledClipBatch, target: ClipBatch, progress: float
    ) -> Losses:
        """Return the supervised loss and the domain loss at the perturbed weights."""
        of_source, _ = forward_both(detector, source, target)
        moved = climbed(detector, multilabel_bce(of_source.logits, source.labels), self.arguments.radius)
        both = concatenate_batches(source, target)
        prediction = functional_call(detector, moved, (both.frames, both.boxes, both.clip_index))
        of_source, of_target = split_prediction(Prediction(*prediction), source.num_boxes)
        return {
            "supervised": multilabel_bce(of_source.logits, source.labels),
            **self.losses(of_source, of_target, source.labels, progress),
        }


def climbed(detector: ActionDetector, loss: Tensor, radius: float) -> dict[str, Tensor]:
    """Return trained parameters by name, perturbed by ``radius`` along the gradient of a loss, as one vector.

    Gradients with respect to the result flow to the parameters. Without a gradient there is no perturbation.
    """
    trained = {name: parameter for name, parameter in detector.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    lengths = [gradient.float().norm() for gradient in gradients if gradient is not None]
    scale = radius / (torch.stack(lengths).norm() + 1e-12) if lengths else 0.0
    return {
        name: parameter if gradient is None else parameter + scale * gradient
        for (name, parameter), gradient in zip(trained.items(), gradients, strict=True)
    }
