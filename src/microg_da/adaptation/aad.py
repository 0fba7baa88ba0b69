"""Attracting and dispersing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import Losses, Task, detect
from microg_da.adaptation.losses import nothing
from microg_da.adaptation.source_free import SmallLossAdaptation
from microg_da.errors import check_count
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, ClipKey, PersonKey

LEAST_RATE = 1e-3
"""The minimum distance of class rates from 0 and 1, since agreement is divided by their variance."""


@dataclass
class AaDArguments:
    """Settings of :class:`AaD`.

    Attributes:
        weight: weight of both terms together.
        neighbours: number of nearest people in feature space that attract each person.
        beta: exponent of the weight of dispersion, ``(1 + 10 progress) ** -beta``.
        lr: learning rate of the stage, in place of ``adaptation.lr``; null for that one. As in the authors' program the
            stage uses SGD with Nesterov momentum 0.9 and a weight decay of 1e-3. The rate is a tenth of theirs for
            pretrained layers, with which source mAP falls by 26 points on the embedded data.
    """

    weight: float = 1.0
    neighbours: int = 5
    beta: float = 1.0
    lr: float | None = 1e-4


class AaD(SmallLossAdaptation):
    """Source-free: attracts the predictions of neighbours in feature space and disperses those of a batch.

    A bank holds the latest features and probabilities of all target people. Each person is attracted to the predictions
    of the nearest people in the bank and dispersed from all other people in the batch. The paper measures agreement by
    the dot product of softmax vectors. With Bernoulli classes, a rare class would agree through its absence and would
    be dispersed towards one half. Agreement is therefore ``(p - r)(q - r) / 2 r (1 - r)``, the mean over classes, where
    r is the rate that the source model predicts for the class on the target. For r = 1/2 it equals the dot product of
    ``(p, 1 - p)`` and ``(q, 1 - q)`` minus one half. Classes outside the support are ignored.

    The loss is summed over neighbours and over the batch and averaged over people, as in the authors' code.

    Yang et al., "Attracting and dispersing: A simple approach for source-free domain adaptation", NeurIPS 2022.
    """

    Arguments: ClassVar[type] = AaDArguments
    arguments: AaDArguments
    rates: Tensor

    def __init__(self, arguments: AaDArguments, task: Task) -> None:
        super().__init__(arguments, task)
        check_count("adaptation.args.neighbours", arguments.neighbours)
        self.register_buffer("rates", torch.full((task.num_classes,), 0.5))
        self.bank = PeopleBank(task.feature_dim, task.num_classes)

    @torch.no_grad()
    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Fill the bank with the source model's predictions for all target people; source clips are not read."""
        self.bank = PeopleBank(self.task.feature_dim, self.task.num_classes)
        for batch in target:
            prediction = detect(detector, batch)
            self.bank.put(batch.people, prediction.features, prediction.logits.float().sigmoid())
        if len(self.bank):
            self.find_support(self.bank.answers)
            self.rates.copy_(self.bank.answers.mean(dim=0))

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """Return ``attract`` and ``disperse``, and update the bank."""
        prediction = detect(detector, target)
        answers = prediction.logits.float().sigmoid()
        rows = self.bank.put(target.people, prediction.features, answers)
        nearest = self.bank.neighbours(rows, self.arguments.neighbours)
        attract, disperse = attraction_and_dispersion(answers, nearest, self.rates * self.support)
        fading = (1 + 10 * progress) ** -self.arguments.beta
        return {"attract": self.arguments.weight * attract, "disperse": self.arguments.weight * fading * disperse}

    def after_training(self, detector: ActionDetector) -> None:
        """Clear the bank."""
        self.bank = PeopleBank(self.task.feature_dim, self.task.num_classes)

    def get_extra_state(self) -> BankState:
        """Return the bank, so that a resumed stage continues with it."""
        return self.bank.state()

    def set_extra_state(self, state: BankState) -> None:
        """Restore the bank."""
        self.bank = PeopleBank.from_state(state)


class BankState(TypedDict):
    """A :class:`PeopleBank` for checkpoints: ``(video_id, frame_stamp, index)`` of each person, and two tensors."""

    people: list[tuple[str, int, int]]
    features: Tensor
    answers: Tensor


class PeopleBank:
    """The latest normalised features and probabilities of people.

    Attributes:
        features: ``(N, D)``.
        answers: ``(N, C)`` probabilities.
    """

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        self.features = torch.zeros(0, feature_dim)
        self.answers = torch.zeros(0, num_classes)
        self._rows: dict[PersonKey, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @torch.no_grad()
    def put(self, people: Sequence[PersonKey], features: Tensor, answers: Tensor) -> Tensor:
        """Store the features and probabilities of people; existing entries are replaced.

        Args:
            people: K people.
            features: ``(K, D)``, not necessarily normalised.
            answers: ``(K, C)`` probabilities.

        Returns:
            ``(K,)`` the rows of the people in the bank.
        """
        rows = torch.tensor([self._rows.setdefault(person, len(self._rows)) for person in people], dtype=torch.int64)
        rows = rows.to(features.device)
        added = len(self._rows) - len(self.features)
        self.features, self.answers = (
            torch.cat([known.to(features.device), known.new_zeros(added, known.shape[1]).to(features.device)])
            for known in (self.features, self.answers)
        )
        self.features[rows] = F.normalize(features.float(), dim=1)
        self.answers[rows] = answers.float()
        return rows

    @torch.no_grad()
    def neighbours(self, rows: Tensor, count: int) -> Tensor:
        """Return the probabilities ``(K, n, C)`` of the other people nearest by cosine to each of ``rows`` (K,).

        ``n`` is ``count``, or the number of other people in the bank if that is smaller.
        """
        similarity = self.features[rows] @ self.features.T
        similarity[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        nearest = similarity.topk(min(count, max(len(self) - 1, 0)), dim=1).indices
        return self.answers[nearest]

    def state(self) -> BankState:
        """Return the bank as plain types and tensors."""
        people = [(*person.keyframe, person.place) for person in self._rows]
        return {"people": people, "features": self.features, "answers": self.answers}

    @classmethod
    def from_state(cls, state: BankState) -> PeopleBank:
        """Restore the result of :meth:`state`."""
        bank = cls(state["features"].shape[1], state["answers"].shape[1])
        people = [PersonKey(ClipKey(video_id, stamp), place) for video_id, stamp, place in state["people"]]
        bank._rows = {person: row for row, person in enumerate(people)}
        bank.features, bank.answers = state["features"], state["answers"]
        return bank


def attraction_and_dispersion(answers: Tensor, nearest: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
    """Return both terms as means over people; 0, with a zero gradient, without people or classes.

    Args:
        answers: ``(K, C)`` probabilities, with gradient.
        nearest: ``(K, n, C)`` probabilities of neighbours, without gradient.
        rates: ``(C,)`` class rates; classes of rate 0 are ignored.
    """
    taking_part = rates > 0
    if not (len(answers) and bool(taking_part.any())):
        return nothing(answers), nothing(answers)
    rates = rates[taking_part]
    scale = torch.sqrt(2 * (rates * (1 - rates)).clamp_min(LEAST_RATE))
    mine, theirs = ((part[..., taking_part] - rates) / scale for part in (answers, nearest))
    attract = -(mine[:, None] * theirs).mean(dim=2).sum(dim=1).mean()
    # The batch is compared with itself, with gradients through both sides, as in the paper.
    agreement = mine @ mine.T / mine.shape[1]
    disperse = (agreement.sum() - agreement.diagonal().sum()) / len(mine)
    return attract, disperse
