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
    """Settings of :class:`MEMO`, which steps by SGD, besides those of all online methods.

    Attributes:
        rolls: evenly spaced camera rolls that a clip is seen under, the clip as it is among them.
        flips: whether each of them is also seen mirrored.
    """

    lr: float = 2.5e-4
    episodic: bool = True
    rolls: int = 4
    flips: bool = True


class MEMO(Online):
    """All weights are changed so that a person's answer, averaged over views, becomes sure; then they go back.

    The loss is the entropy of the mean of the views' probabilities, which is low only where the views agree and are
    sure. Each class is a Bernoulli variable of its own: the marginal of each class is averaged, and the loss is the
    sum over classes of their entropies, mean over people. With one class it is the paper's loss for two answers.

    Deviations: the views are rolls and mirror images, not AugMix; the unit that is adapted to and forgotten is a
    batch, not one image; batch norm keeps the source's statistics, where the paper mixes those of one image in with
    weight 1/17.

    Zhang, Levine and Finn, "MEMO: Test time robustness via adaptation and augmentation", NeurIPS 2022.
    """

    Arguments: ClassVar[type] = MEMOArguments
    arguments: MEMOArguments
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """All parameters that training may change, the detector in evaluation mode."""
        return trainable_parameters(detector, "memo")

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Plain SGD, as in the authors' program for residual networks."""
        return SGD(parameters, lr=self.arguments.lr)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> None:
        """One step down the marginal entropy; the answer is asked for afterwards, on the clip as it is."""
        optimizer.zero_grad()
        views = rolled_views(batch, self.arguments.rolls, self.arguments.flips)
        backward_through_views(detector, views, lambda logits: marginal_entropy(self.supported(logits)))
        optimizer.step()


def marginal_entropy(logits: Tensor) -> Tensor:
    """Entropy (nats) of the mean over views of each class's probability: summed over classes, mean over people.

    Args:
        logits: ``(R, K, C)`` of R views of K people.
    """
    weights = logits.new_full(logits.shape[:2], 1 / len(logits))
    return person_entropy(combine_views(logits, weights, "probabilities")).mean()


def trainable_parameters(detector: ActionDetector, method: str) -> list[nn.Parameter]:
    """All parameters that training may change, after the detector was put into evaluation mode.

    Raises:
        InputError: if there is none.
    """
    detector.eval()
    parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    if not parameters:
        raise InputError(
            f"adaptation {method!r} changes weights, and all of this model's are frozen. Lower model.freeze, or choose "
            "another adaptation."
        )
    return parameters
