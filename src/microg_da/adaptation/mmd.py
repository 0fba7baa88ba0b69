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
        weight: weight of the discrepancy, which is at most 2.
        kernels: number of averaged Gaussian kernels; the squared bandwidth doubles from each to the next, and that of
            the middle kernel is the median of the squared distances.
        queue: number of earlier people of each domain that are compared in addition to those of the step; 0 for none.
        normalise: whether features are divided by their norm.
    """

    weight: float = 0.25
    kernels: int = 5
    queue: int = 128
    normalise: bool = True


class MMD(DomainAdaptation):
    """Minimises the maximum mean discrepancy of RoI features with several Gaussian kernels.

    The distributions of people are compared independently of labels. The estimator is unbiased. With a few tens of
    people, the bias of the biased estimator, ``(1/K_s + 1/K_t)`` times one minus the mean kernel, is as large as the
    discrepancy, and minimising it would collapse all features. The unbiased estimate may be slightly negative. It needs
    two people of each domain, and is 0 with fewer.

    Long et al., "Learning transferable features with deep adaptation networks", ICML 2015; Gretton et al., "A kernel
    two-sample test", JMLR 13, 2012.

    Deviations from the paper:

    - One layer, the RoI features, is compared, and not several; kernels have equal weights.
    - The cost of the estimate is quadratic in the number of people, and not linear. Features are normalised, and a
      queue of recent people is included.
    """

    Arguments: ClassVar[type] = MMDArguments
    arguments: MMDArguments

    def __init__(self, arguments: MMDArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.queues = DomainQueues(arguments.queue, task.feature_dim, arguments.normalise)

    def losses(self, source: Prediction, target: Prediction, labels: Tensor, progress: float) -> Losses:
        """Return the squared discrepancy between the features of both domains."""
        features = self.queues.extend(source.features, target.features)
        return {"mmd": self.arguments.weight * multi_kernel_mmd(*features, self.arguments.kernels)}

    def after_training(self, detector: ActionDetector) -> None:
        """Clear the queues."""
        self.queues.clear()


def multi_kernel_mmd(source: Tensor, target: Tensor, kernels: int = 5) -> Tensor:
    """Return the unbiased estimate of the squared maximum mean discrepancy, averaged over Gaussian kernels.

    A kernel is ``exp(-d² / s)``, where s is the median of d² over pairs of different people times 2^i, i around 0. The
    bandwidths carry no gradient.

    Args:
        source: ``(K_s, D)``; the result is 0 for fewer than two people.
        target: ``(K_t, D)``, likewise.
        kernels: number of values of i.
    """
    count = len(source)
    if min(count, len(target)) < 2:
        return nothing(source, target)
    similarity = _mean_gaussian_kernel(torch.cat([source, target]).float(), kernels)
    within = [_mean_of_pairs(block) for block in (similarity[:count, :count], similarity[count:, count:])]
    return within[0] + within[1] - 2.0 * similarity[:count, count:].mean()


def _mean_gaussian_kernel(points: Tensor, kernels: int) -> Tensor:
    # x² - 2xy + y² would have rounding errors as large as the distances of similar people.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    upper = torch.triu_indices(len(points), len(points), offset=1, device=points.device)
    median = distances.detach()[upper[0], upper[1]].median()
    scales = 2.0 ** (torch.arange(kernels, device=points.device) - (kernels - 1) / 2)
    bandwidths = (median * scales).clamp(min=torch.finfo(points.dtype).eps)
    return torch.exp(-distances / bandwidths[:, None, None]).mean(dim=0)


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    """Return the mean over pairs of different people; the kernel of a person with itself is always 1."""
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
