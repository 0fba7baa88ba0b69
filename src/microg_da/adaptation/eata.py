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
"""The share of the mean answer that remains after a batch."""


@dataclass
class EATAArguments(OnlineArguments):
    """Settings of :class:`EATA`, which steps by SGD with momentum 0.9, besides those of all online methods.

    Attributes:
        margin: people of a higher entropy are left out; a fraction of that of an answer that knows the class rates
            alone.
        similarity: people whose answer is more similar than this to the mean answer so far are left out; a multiple of
            the mean similarity of source people to their mean answer.
        fisher_weight: of the pull back to the tested weights.
        source_batches: how many source batches are looked at for class rates, similarity and Fisher information.
    """

    lr: float = 2.5e-4
    margin: float = 0.4
    similarity: float = 1.3
    fisher_weight: float = 2000.0
    source_batches: int = 16


class EATA(Online):
    """Entropy minimised over people whose answer is sure and not a repetition, near the weights that are tested.

    Scales and shifts of batch norm follow, on the batch's statistics. A person of entropy ``H`` below the margin
    ``H0`` weighs ``exp(H0 - H)``; a person whose answer is too similar to the moving average of answers weighs
    nothing. The Fisher information of each parameter on source clips, by the model's own decisions, weighs the squared
    distance from where it began.

    Deviations: entropies are sums over classes of Bernoulli entropies, and the margin is a fraction of that of the
    source's class rates, as in :class:`~microg_da.adaptation.sar.SAR`. The paper's bound of the cosine, 0.4 with ten
    classes and 0.05 with a thousand, is 1.3 and 1.6 times the cosine of a sure answer with the mean of balanced ones;
    multi-label answers share their frequent classes, so the bound here is a multiple of what is usual on the source.
    The loss is the mean over the selected people, as in the authors' program. Where the program adds the squared
    distance to the loss, here a proximal step on it follows the optimiser's: the same to first order in the learning
    rate, and stable however large the Fisher information is.

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
        # How many parameters there are is known once a detector has been seen.
        self.register_buffer("fisher", torch.zeros(0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if (saved := state_dict.get(f"{prefix}fisher")) is not None:
            self.fisher = self.fisher.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Take class rates, similarities and Fisher information of source clips; the detector comes back as it was.

        Raises:
            InputError: if there are no people in them, or the detector has no batch normalisation.
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
                    said, squares = fisher_information(detector, batch, parameters, self.support)
                    logits.append(said)
                    fisher += squares
        finally:
            before.restore(detector)
        if not logits:
            raise InputError("adaptation 'eata' found no people in the source clips to estimate class rates from.")
        probabilities = torch.cat(logits).sigmoid()
        rates = probabilities.mean(dim=0)
        self.uninformed.copy_(bernoulli_entropy(torch.logit(rates, eps=1e-6)).sum())
        self.usual_similarity.copy_(F.cosine_similarity(probabilities, rates[None], dim=1).mean())
        self.fisher = fisher / len(logits)

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Batch-norm layers, frozen ones too, on the batch's statistics."""
        layers = batch_norm_layers(detector, "eata")
        use_batch_statistics(layers)
        return affine_parameters(layers)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """SGD with momentum, as in the paper."""
        return SGD(parameters, lr=self.arguments.lr, momentum=0.9)

    def start_test(self, detector: ActionDetector) -> None:
        """Remember where the parameters begin."""
        super().start_test(detector)
        self._anchor = nn.utils.parameters_to_vector(self._chosen).detach().clone()

    def forget(self) -> None:
        """Reset the mean answer."""
        self._mean_answer: Tensor | None = None

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction:
        """One step; none if no person is selected."""
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
        """``(K,)`` whose answers are sure and new; the mean answer moves towards theirs.

        Args:
            logits: ``(K, C')`` of the classes that take part, without gradient.
            bound: cosine with the mean answer above which an answer is a repetition.
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
    """Mean over ``K ≥ 1`` people of ``exp(margin - H) H``, the weight without gradient.

    Args:
        logits: ``(K, C)``.
        margin: in nats.
    """
    entropy = person_entropy(logits)
    return (torch.exp(margin - entropy.detach()) * entropy).mean()


def fisher_information(
    detector: ActionDetector, batch: ClipBatch, parameters: Sequence[nn.Parameter], support: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared gradients of the cross-entropy with the detector's own decisions, and the logits they were taken of.

    Args:
        detector: as it is adapted.
        batch: with people.
        parameters: P numbers in all.
        support: ``(C,)`` bool, the ``C'`` classes that take part.

    Returns:
        Logits ``(K, C')`` without gradient, and ``(P,)``.
    """
    with torch.enable_grad(), torch.autocast(batch.frames.device.type, enabled=False):
        logits = detect(detector, batch).logits.float()[:, support]
        loss = F.binary_cross_entropy_with_logits(logits, (logits.detach() > 0).float(), reduction="sum") / len(logits)
        gradients = torch.autograd.grad(loss, list(parameters))
    return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients]).square()
