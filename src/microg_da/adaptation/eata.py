"""Efficient anti-forgetting test-time adaptation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from microg_da.adaptation.base import Task, detect
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.adaptation.online import (
    Online,
    OnlineArguments,
    Snapshot,
    affine_parameters,
    batch_norm_layers,
    person_entropy,
    use_batch_statistics,
)
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

MEMORY = 0.9
"""The decay of the mean prediction in each batch."""


@dataclass
class EATAArguments(OnlineArguments):
    """Settings of :class:`EATA` with SGD and momentum 0.9, in addition to those of all online methods.

    Attributes:
        margin: largest entropy of selected people, as a fraction of the entropy of a prediction of the class rates.
        similarity: largest similarity of selected people to the mean prediction so far, as a multiple of the mean
            similarity of source people to their mean prediction.
        fisher_weight: weight of the Fisher penalty on the distance from the initial weights.
        source_batches: number of source batches for class rates, similarity and Fisher information.
    """

    lr: float = 2.5e-4
    margin: float = 0.4
    similarity: float = 1.3
    fisher_weight: float = 2000.0
    source_batches: int = 16


class EATA(Online):
    """Minimises the entropy of reliable and non-redundant people, with a Fisher penalty on changes of weights.

    The scales and shifts of batch normalisation are adapted, on the statistics of the batch. A person of entropy ``H``
    below the margin ``H0`` has the weight ``exp(H0 - H)``. A person whose prediction is too similar to the moving
    average of predictions has weight 0. The penalty is the squared distance of each parameter from its initial value,
    weighted by the Fisher information on source clips with the model's own decisions.

    Deviations: entropies are sums of Bernoulli entropies over classes, and the margin is a fraction of the entropy of
    the source's class rates, as in :class:`~microg_da.adaptation.sar.SAR`. The paper bounds the cosine by 0.4 for ten
    classes and by 0.05 for a thousand, which is 1.3 and 1.6 times the cosine of a confident prediction with the mean of
    balanced ones. Multi-label predictions share their frequent classes, so the bound is a multiple of the mean cosine
    on the source. The loss is averaged over the selected people, as in the authors' code. The code adds the penalty to
    the loss; here a proximal step on the penalty follows each optimiser step, which is equal to first order in the
    learning rate and stable for any Fisher information.

    Niu et al., "Efficient test-time model adaptation without forgetting", ICML 2022.
    """

    Arguments: ClassVar[type] = EATAArguments
    arguments: EATAArguments
    uninformed: Tensor
    usual_similarity: Tensor
    fisher: Tensor

    def __init__(self, arguments: EATAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.register_buffer("uninformed", torch.zeros(()))
        self.register_buffer("usual_similarity", torch.zeros(()))
        # The number of parameters is known once a detector is given.
        self.register_buffer("fisher", torch.zeros(0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if (saved := state_dict.get(f"{prefix}fisher")) is not None:
            self.fisher = self.fisher.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Compute class rates, similarities and Fisher information on source clips; the detector is restored.

        Raises:
            InputError: if the source clips contain no people, or the detector has no batch normalisation.
        """
        super().prepare(detector, source, target)
        before = Snapshot(detector)
        parameters = self.begin(detector)
        detector.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        fisher = torch.zeros(sum(parameter.numel() for parameter in parameters), device=parameters[0].device)
        logits = []
        try:
            for batch in islice(source, self.arguments.source_batches):
                if batch.num_boxes:
                    predicted, squares = fisher_information(detector, batch, parameters, self.support)
                    logits.append(predicted)
                    fisher += squares
        finally:
            before.restore(detector)
        if not logits:
            raise InputError("adaptation 'eata' needs people in source clips to estimate class rates, but found none.")
        probabilities = torch.cat(logits).sigmoid()
        rates = probabilities.mean(dim=0)
        self.uninformed.copy_(bernoulli_entropy(torch.logit(rates, eps=1e-6)).sum())
        self.usual_similarity.copy_(F.cosine_similarity(probabilities, rates[None], dim=1).mean())
        self.fisher = fisher / len(logits)

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return the parameters of all batch-norm layers, even frozen ones, and switch them to batch statistics."""
        layers = batch_norm_layers(detector, "eata")
        use_batch_statistics(layers)
        return affine_parameters(layers)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD with momentum, as in the paper."""
        return SGD(parameters, lr=self.arguments.lr, momentum=0.9)

    def start_test(self, detector: ActionDetector) -> None:
        """Store the initial parameters."""
        super().start_test(detector)
        self._anchor = nn.utils.parameters_to_vector(self._chosen).detach().clone()

    def forget(self) -> None:
        """Reset the mean prediction."""
        self._mean_answer: Tensor | None = None

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """Take one step, unless no person is selected."""
        prediction = detect(detector, batch)
        logits = self.supported(prediction.logits.float())
        bound = self.arguments.similarity * float(self.usual_similarity)
        chosen = self.select(logits.detach(), bound)
        if not chosen.any():
            return prediction
        optimizer.zero_grad()
        torch.autograd.backward(weighted_entropy(logits[chosen], self.arguments.margin * float(self.uninformed)))
        optimizer.step()
        self._pull_back()
        return prediction

    @torch.no_grad()
    def _pull_back(self) -> None:
        stiffness = 2 * self.arguments.lr * self.arguments.fisher_weight * self.fisher
        weights = nn.utils.parameters_to_vector(self._chosen)
        nn.utils.vector_to_parameters((weights + stiffness * self._anchor) / (1 + stiffness), self._chosen)

    def select(self, logits: Tensor, bound: float) -> Tensor:
        """Return a mask ``(K,)`` of reliable, non-redundant people, and update the mean prediction with theirs.

        Args:
            logits: ``(K, C')`` logits of the classes in the support, without gradient.
            bound: cosine with the mean prediction above which a prediction is redundant.
        """
        chosen = person_entropy(logits) < self.arguments.margin * self.uninformed
        answers = logits.sigmoid()
        if self._mean_answer is not None:
            chosen &= F.cosine_similarity(answers, self._mean_answer[None], dim=1) < bound
        if chosen.any():
            mean = answers[chosen].mean(dim=0)
            known = self._mean_answer
            self._mean_answer = mean if known is None else MEMORY * known + (1 - MEMORY) * mean
        return chosen


def weighted_entropy(logits: Tensor, margin: float) -> Tensor:
    """Return the mean of ``exp(margin - H) H`` over ``K ≥ 1`` people; the weight has no gradient.

    Args:
        logits: ``(K, C)``.
        margin: the largest entropy, in nats.
    """
    entropy = person_entropy(logits)
    return (torch.exp(margin - entropy.detach()) * entropy).mean()


def fisher_information(
    detector: ActionDetector, batch: ClipBatch, parameters: Sequence[nn.Parameter], support: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits, and squared gradients of the cross-entropy with the detector's own decisions.

    Args:
        detector: the adapted detector.
        batch: a batch with people.
        parameters: parameters with P values in total.
        support: ``(C,)`` bool, the ``C'`` classes in the support.

    Returns:
        Logits ``(K, C')`` without gradient, and squared gradients ``(P,)``.
    """
    with torch.enable_grad(), torch.autocast(batch.frames.device.type, enabled=False):
        logits = detect(detector, batch).logits.float()[:, support]
        loss = F.binary_cross_entropy_with_logits(logits, (logits.detach() > 0).float(), reduction="sum") / len(logits)
        gradients = torch.autograd.grad(loss, list(parameters))
    return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients]).square()
