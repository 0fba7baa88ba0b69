"""Multi-kernel maximum mean discrepancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from microg_da.adaptation.base import DomainAdaptation, Losses, Task
from microg_da.adaptation.feature_queue import DomainQueues
from microg_da.adaptation.losses import nothing
from microg_da.models.detector import ActionDetector
from microg_da.types import Prediction


@dataclass
class MMDArguments:
    """Settings of :class:`MMD`.

    Attributes:
        weight: of the discrepancy, which is at most 2.
        kernels: how many Gaussian kernels are averaged; from each to the next the squared bandwidth doubles, and the
            middle one has the median of the squared distances.
        queue: people of each domain that are compared besides those of the step; 0 for none.
        normalise: whether features are divided by their length.
    """

    weight: float = 0.25
    kernels: int = 5
    queue: int = 128
    normalise: bool = True


class MMD(DomainAdaptation):
    """RoI features whose means agree between the domains in the space of several Gaussian kernels.

    The distributions of people are compared, whatever their labels, so a person with several is nothing special.
    The estimator is the unbiased one: with a few tens of people the biased one's excess, ``(1/K_s + 1/K_t)`` times
    one minus the mean kernel, is as large as the discrepancy, and would be minimised by moving all features
    together. It may therefore be slightly negative, and it needs two people of each domain: with fewer it is 0.

    Long et al., "Learning transferable features with deep adaptation networks", ICML 2015; Gretton et al., "A kernel
    two-sample test", JMLR 13, 2012.

    Deviations from the paper:

    - One layer, the RoI features, is compared, where the paper compares several; its kernels have equal weights.
    - The estimate is quadratic in the number of people, where the paper's is linear, and features are normalised and
      compared with a queue of people met lately.
    """

    Arguments: ClassVar[type] = MMDArguments
    arguments: MMDArguments

    def __init__(self, arguments: MMDArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.queues = DomainQueues(arguments.queue, task.feature_dim, arguments.normalise)

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """The squared discrepancy between the domains' features."""
        features = self.queues.extend(source.features, target.features)
        return {"mmd": self.arguments.weight * multi_kernel_mmd(*features, self.arguments.kernels)}

    def after_training(self, detector: ActionDetector) -> None:
        """Forget the people met."""
        self.queues.clear()


def multi_kernel_mmd(source: Tensor, target: Tensor, kernels: int = 5) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy, averaged over Gaussian kernels.

    A kernel is ``exp(-d² / s)``; s is the median of d² over all pairs of different people times 2^i, i around 0. The
    bandwidths carry no gradient.

    Args:
        source: ``(K_s, D)``; 0 is returned for fewer than two people.
        target: ``(K_t, D)``, likewise.
        kernels: how many values of i.
    """
    count = len(source)
    if min(count, len(target)) < 2:
        return nothing(source, target)
    similarity = _mean_gaussian_kernel(torch.cat([source, target]).float(), kernels)
    within = [_mean_of_pairs(block) for block in (similarity[:count, :count], similarity[count:, count:])]
    return within[0] + within[1] - 2.0 * similarity[:count, count:].mean()


def _mean_gaussian_kernel(points: Tensor, kernels: int) -> Tensor:
    # Not by x² - 2xy + y², whose rounding errors would be the distances of people who look alike.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    upper = torch.triu_indices(len(points), len(points), offset=1, device=points.device)
    median = distances.detach()[upper[0], upper[1]].median()
    scales = 2.0 ** (torch.arange(kernels, device=points.device) - (kernels - 1) / 2)
    bandwidths = (median * scales).clamp(min=torch.finfo(points.dtype).eps)
    return torch.exp(-distances / bandwidths[:, None, None]).mean(dim=0)


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    """Mean over pairs of different people; of a person with themselves the kernel is 1 whatever the features."""
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
