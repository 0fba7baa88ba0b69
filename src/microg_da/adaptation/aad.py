"""Attracting and dispersing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import Losses, SourceFreeAdaptation, Task, detect
from microg_da.adaptation.losses import nothing
from microg_da.adaptation.source_free import for_small_losses
from microg_da.config import TrainingConfig
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, ClipKey, PersonKey

LEAST_RATE = 1e-3
"""Class rates are kept this far from 0 and 1 where agreement is divided by their variance."""


@dataclass
class AaDArguments:
    """Settings of :class:`AaD`.

    Attributes:
        weight: of both terms together.
        neighbours: how many nearest people in feature space attract each person.
        beta: the weight of dispersion falls as ``(1 + 10 progress) ** -beta``.
        lr: learning rate of the stage, in place of ``adaptation.lr``; null for that one. As in the authors' program the
            stage uses SGD with Nesterov momentum 0.9 and a weight decay of 1e-3, at their rate for pretrained layers.
    """

    weight: float = 1.0
    neighbours: int = 5
    beta: float = 1.0
    lr: float | None = 1e-3


class AaD(SourceFreeAdaptation):
    """Without source clips: the answers of neighbours in feature space agree, those of a batch disperse.

    Features and answers of all target people are kept in a bank, each as of when the person was met last. A person is
    attracted to the answers of the nearest in the bank, and dispersed from all other people in the batch. The paper
    measures agreement by the dot product of softmax answers. Here each class has two answers, and a class that few
    people have would agree by "no" alone and be dispersed towards one half; so probabilities are measured from the
    class's rate, that of the source model on the target, over its variance: ``(p - r)(q - r) / 2 r (1 - r)``, mean
    over classes. At a rate of one half that is the dot product of ``(p, 1 - p)`` and ``(q, 1 - q)``, less one half.
    Classes outside the support take no part.

    The loss is a sum over neighbours and over the batch and a mean over people, as in the authors' program.

    Yang et al., "Attracting and dispersing: A simple approach for source-free domain adaptation", NeurIPS 2022.
    """

    Arguments: ClassVar[type] = AaDArguments
    arguments: AaDArguments
    rates: Tensor

    def __init__(self, arguments: AaDArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if arguments.neighbours < 1:
            raise InputError(
                f"adaptation.args.neighbours={arguments.neighbours} is invalid: expected a whole number of at least 1."
            )
        self.register_buffer("rates", torch.full((task.num_classes,), 0.5))
        self.bank = PeopleBank(task.feature_dim, task.num_classes)

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """SGD at the method's own rate, after a warm-up of at most a tenth of the stage."""
        return for_small_losses(training, self.arguments.lr)

    @torch.no_grad()
    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Fill the bank with the source model's word on all target people; source clips are not opened."""
        self.bank = PeopleBank(self.task.feature_dim, self.task.num_classes)
        for batch in target:
            prediction = detect(detector, batch)
            self.bank.put(batch.people, prediction.features, prediction.logits.float().sigmoid())
        if len(self.bank):
            self.find_support(self.bank.answers)
            self.rates.copy_(self.bank.answers.mean(dim=0))

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """``attract`` and ``disperse``; the bank follows."""
        prediction = detect(detector, target)
        answers = prediction.logits.float().sigmoid()
        rows = self.bank.put(target.people, prediction.features, answers)
        nearest = self.bank.neighbours(rows, self.arguments.neighbours)
        attract, disperse = attraction_and_dispersion(answers, nearest, self.rates * self.support)
        fading = (1 + 10 * progress) ** -self.arguments.beta
        return {"attract": self.arguments.weight * attract, "disperse": self.arguments.weight * fading * disperse}

    def after_training(self, detector: ActionDetector) -> None:
        """Forget all people."""
        self.bank = PeopleBank(self.task.feature_dim, self.task.num_classes)

    def get_extra_state(self) -> BankState:
        """The bank, so that a resumed stage continues with it."""
        return self.bank.state()

    def set_extra_state(self, state: BankState) -> None:
        """Take up the bank."""
        self.bank = PeopleBank.from_state(state)


class BankState(TypedDict):
    """A :class:`PeopleBank` for checkpoints: ``(video_id, frame_stamp, place)`` of each person, and two tensors."""

    people: list[tuple[str, int, int]]
    features: Tensor
    answers: Tensor


class PeopleBank:
    """Features of length 1 and answers of people, each as of when the person was met last.

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
        """Write over what is known of people, or add them.

        Args:
            people: K of them.
            features: ``(K, D)``, of any length.
            answers: ``(K, C)`` probabilities.

        Returns:
            ``(K,)`` their rows.
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
        """``(K, n, C)`` the answers of the people nearest by cosine to each of ``rows`` (K,), itself left out.

        ``n`` is ``count``, or fewer where the bank has fewer.
        """
        similarity = self.features[rows] @ self.features.T
        similarity[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        nearest = similarity.topk(min(count, max(len(self) - 1, 0)), dim=1).indices
        return self.answers[nearest]

    def state(self) -> BankState:
        """Everything, in plain types and tensors."""
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
    """Both terms, means over people; 0 (with a gradient of 0) without people or classes.

    Args:
        answers: ``(K, C)`` probabilities, with gradient.
        nearest: ``(K, n, C)`` those of neighbours, held fixed.
        rates: ``(C,)`` of the classes; a class of rate 0 takes no part.
    """
    taking_part = rates > 0
    if not (len(answers) and bool(taking_part.any())):
        return nothing(answers), nothing(answers)
    rates = rates[taking_part]
    scale = torch.sqrt(2 * (rates * (1 - rates)).clamp_min(LEAST_RATE))
    mine, theirs = ((part[..., taking_part] - rates) / scale for part in (answers, nearest))
    attract = -(mine[:, None] * theirs).mean(dim=2).sum(dim=1).mean()
    # The batch is compared with itself as it is now, and gradients pass on both sides, as in the paper.
    agreement = mine @ mine.T / mine.shape[1]
    disperse = (agreement.sum() - agreement.diagonal().sum()) / len(mine)
    return attract, disperse
