"""Marginal entropy minimisation at test time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from microg_da.adaptation.base import Knowledge
from microg_da.adaptation.online import Online, OnlineArguments, person_entropy
from microg_da.adaptation.roll_tta import combine_views
from microg_da.adaptation.view_steps import backward_through_views, rolled_views
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


@dataclass
class MEMOArguments(OnlineArguments):
    """Settings of :class:`MEMO` with SGD, in addition to those of all online methods.

    Attributes:
        rolls: number of evenly spaced camera rolls, including the unrolled clip.
        flips: whether each roll is also predicted mirrored.
    """

    lr: float = 2.5e-4
    episodic: bool = True
    rolls: int = 4
    flips: bool = True


class MEMO(Online):
    """Adapts all weights to minimise the entropy of predictions averaged over views, then resets them.

    The loss is the entropy of the mean probability over views, which is low only if views are consistent and confident.
    Each class is a separate Bernoulli variable: probabilities are averaged for each class, and the entropies are summed
    over classes and averaged over people. With one class this is the paper's loss for two outcomes.

    Deviations: views are rolls and flips, not AugMix; adaptation is reset after each batch, not after each image; batch
    normalisation keeps the source statistics, whereas the paper mixes in those of the image with weight 1/17.

    Zhang, Levine and Finn, "MEMO: Test time robustness via adaptation and augmentation", NeurIPS 2022.
    """

    Arguments: ClassVar[type] = MEMOArguments
    arguments: MEMOArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return all trainable parameters, with the detector in evaluation mode."""
        return trainable_parameters(detector, "memo")

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD without momentum, as in the authors' code for residual networks."""
        return SGD(parameters, lr=self.arguments.lr)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> None:
        """Take one step on the marginal entropy; the prediction is made afterwards, on the unrolled clip."""
        optimizer.zero_grad()
        views = rolled_views(batch, self.arguments.rolls, self.arguments.flips)
        backward_through_views(detector, views, lambda logits: marginal_entropy(self.supported(logits)))
        optimizer.step()


def marginal_entropy(logits: Tensor) -> Tensor:
    """Return the entropy (nats) of probabilities averaged over views: summed over classes, averaged over people.

    Args:
        logits: ``(R, K, C)`` of R views of K people.
    """
    weights = logits.new_full(logits.shape[:2], 1 / len(logits))
    return person_entropy(combine_views(logits, weights, "probabilities")).mean()


def trainable_parameters(detector: ActionDetector, method: str) -> list[nn.Parameter]:
    """Put the detector into evaluation mode, and return all trainable parameters.

    Raises:
        InputError: if there is none.
    """
    detector.eval()
    parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    if not parameters:
        raise InputError(
            f"adaptation {method!r} changes weights, but all of this model are frozen. Lower model.freeze, or choose "
            "another adaptation."
        )
    return parameters
