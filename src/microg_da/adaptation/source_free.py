"""Common parts of source-free methods: a frozen classifier, class rates, pseudo-labels for each epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from microg_da.adaptation.base import (
    Losses,
    SourceFreeAdaptation,
    Task,
    detect,
    with_short_warmup,
)
from microg_da.adaptation.losses import bernoulli_entropy, multilabel_bce
from microg_da.adaptation.prototypes import Prototypes, prototype_labels
from microg_da.adaptation.round import Round, RoundState
from microg_da.config import TrainingConfig
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, PersonKey, Prediction

PROBABILITY_FLOOR = 1e-6
"""The minimum distance of probabilities from 0 and 1 before a logarithm."""


@dataclass
class SourceFreeArguments:
    """Settings of all source-free methods.

    Attributes:
        entropy_weight: weight of the entropy of predictions.
        prior_weight: weight of the divergence of the moving averages of class rates from those of the source model.
        pseudo_label_weight: weight of the cross-entropy with pseudo-labels; 0 for no pseudo-labels. SHOT uses 0.3. The
            default is 0, since labels by prototypes are less accurate than the model: on Earth clips (one seed,
            embedded data, rates of the model), 80% of labels are correct by prototypes and 87% by ranks of the model's
            probabilities; on randomly rolled clips, 32% and 38%.
        memory: decay of the moving averages of class rates in each batch.
        lr: learning rate of the stage, in place of ``adaptation.lr``; null for ``adaptation.lr``. The losses are small,
            and AdamW would scale them to full steps. The stage therefore uses SGD with Nesterov momentum 0.9 and a
            weight decay of 1e-3, at SHOT's learning rate for pretrained layers.
    """

    entropy_weight: float = 1.0
    prior_weight: float = 1.0
    pseudo_label_weight: float = 0.0
    memory: float = 0.95
    lr: float | None = 1e-3


class HasRate(Protocol):
    """Arguments with a learning rate."""

    lr: float | None


class SmallLossAdaptation(SourceFreeAdaptation):
    """Base class of source-free methods that train with SGD at ``lr`` of their arguments (None: that of the stage).

    AdamW rescales gradients of small losses to full steps, so the weight of a single loss would have no effect.
    """

    arguments: HasRate

    def stage_training(self, training: TrainingConfig) -> TrainingConfig:
        """Return SGD at the learning rate of the method, with a warm-up of at most a tenth of the stage."""
        rate = training.lr if self.arguments.lr is None else self.arguments.lr
        return replace(with_short_warmup(training), optimizer="sgd", lr=rate, momentum=0.9, weight_decay=1e-3)


class SourceFree(SmallLossAdaptation):
    """Base class of source-free methods that freeze the classifier of the source model.

    Before training, the source model predicts all target people. The mean of the predictions is the class prior, from
    which the support follows. At the start of each epoch all target people are labelled again.
    """

    Arguments: ClassVar[type] = SourceFreeArguments
    arguments: SourceFreeArguments

    def __init__(self, arguments: SourceFreeArguments, task: Task) -> None:
        super().__init__(arguments, task)
        if not 0 <= arguments.memory < 1:
            raise InputError(f"adaptation.args.memory={arguments.memory:g}: expected a fraction in [0, 1).")
        self.prototypes = Prototypes(task.num_classes, task.feature_dim, arguments.memory)
        self._round = self._empty_round()

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that layers other than the classifier, which the method freezes, are trained."""
        trained = {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
        if not trained - {"head.projection.weight", "head.projection.bias"}:
            raise InputError(
                f"{type(self).__name__} freezes the classifier and trains the layers before it, but model.freeze "
                "freezes all of these. Lower model.freeze, or choose another adaptation."
            )

    def before_training(
        self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]
    ) -> None:
        """Freeze the classifier; compute the class prior, the support and the first prototypes without source clips."""
        detector.head.projection.requires_grad_(False)
        prediction = predict_all(detector, target)
        if len(prediction.logits):
            probabilities = torch.sigmoid(prediction.logits)
            self.find_support(probabilities)
            self.start(prediction.features, probabilities)
        else:
            # Without people, the bias of the classifier is the best estimate.
            self.prototypes.rate.copy_(torch.sigmoid(detector.head.projection.bias.detach()))

    def start(self, features: Tensor, probabilities: Tensor) -> None:
        """Initialise from the source model's ``features`` (N, D) and ``probabilities`` (N, C) of target people."""
        self.prototypes.start(features, probabilities)

    def before_epoch(self, detector: ActionDetector, target: Iterable[ClipBatch], epoch: int) -> None:
        """Label all target people by the nearest prototypes, at the rates of the prior."""
        if not self.arguments.pseudo_label_weight:
            return
        seen = predict_people(detector, target)
        probabilities = torch.sigmoid(seen.prediction.logits)
        labels = prototype_labels(seen.prediction.features, probabilities, self.prototypes.rate)
        self._round = Round(seen.people, labels=(labels * self.support).cpu())

    def after_training(self, detector: ActionDetector) -> None:
        """Unfreeze the classifier, and clear the labels."""
        detector.head.projection.requires_grad_(True)
        self._round = self._empty_round()

    def training_losses(self, detector: ActionDetector, target: ClipBatch, progress: float) -> Losses:
        """Return the losses of one forward pass with the labels of this epoch."""
        return self.labelled_losses(detect(detector, target), self.labels_of(target), progress)

    def labelled_losses(self, target: Prediction, labels: Tensor | None, progress: float) -> Losses:
        """Return the losses of ``K_t`` target people; arguments as in :meth:`information_losses`."""
        raise NotImplementedError

    def labels_of(self, batch: ClipBatch) -> Tensor | None:
        """Return the pseudo-labels ``(K, C)`` of the people in a batch; None if there are no pseudo-labels.

        Raises:
            InputError: for a person without a pseudo-label of this epoch.
        """
        if not self.arguments.pseudo_label_weight:
            return None
        return self._round.of("labels", batch.people).to(batch.boxes.device)

    def information_losses(self, prediction: Prediction, labels: Tensor | None) -> tuple[Losses, Tensor]:
        """Return the losses of information maximisation and pseudo-labels, and update the class rates.

        Args:
            prediction: prediction for ``K`` target people.
            labels: ``(K, C)`` pseudo-labels of the people, or None.

        Returns:
            The losses ``entropy``, ``prior`` and, with labels, ``pseudo_label``; means over the classes in the support.
            Also the sums of the prototypes, with gradient.
        """
        arguments = self.arguments
        logits, features = prediction.logits.float(), prediction.features.float()
        sums = self.prototypes.update(features, torch.sigmoid(logits))
        rates = self.supported(self.prototypes.rate), self.supported(sums[0, :, -1])
        losses = {
            "entropy": arguments.entropy_weight * mean_or_zero(bernoulli_entropy(self.supported(logits))),
            "prior": arguments.prior_weight * bernoulli_divergence(*rates).mean() * (len(logits) > 0),
        }
        if labels is not None:
            pseudo = multilabel_bce(self.supported(logits), self.supported(labels))
            losses["pseudo_label"] = arguments.pseudo_label_weight * pseudo
        return losses, sums

    def get_extra_state(self) -> RoundState:
        """Return the labels of the epoch, so that a resumed stage continues with them."""
        return self._round.state()

    def set_extra_state(self, state: RoundState) -> None:
        """Restore the labels of the epoch."""
        self._round = Round.from_state(state)

    def _empty_round(self) -> Round:
        return Round([], labels=torch.zeros(0, self.task.num_classes))


class Seen(NamedTuple):
    """Predictions of a detector for all people of some clips.

    Attributes:
        people: the ``N`` people.
        prediction: logits ``(N, C)`` and features ``(N, D)``, float32.
    """

    people: list[PersonKey]
    prediction: Prediction


def predict_all(detector: ActionDetector, clips: Iterable[ClipBatch]) -> Prediction:
    """Return float32 predictions of a detector for all people of all clips."""
    return predict_people(detector, clips).prediction


@torch.no_grad()
def predict_people(detector: ActionDetector, clips: Iterable[ClipBatch]) -> Seen:
    """Return the result of :func:`predict_all` with the identities of the people."""
    device = detector.head.projection.weight.device
    people: list[PersonKey] = []
    logits = [torch.zeros(0, detector.num_classes, device=device)]
    features = [torch.zeros(0, detector.feature_dim, device=device)]
    for batch in clips:
        prediction = detect(detector, batch)
        people += batch.people
        logits.append(prediction.logits.float())
        features.append(prediction.features.float())
    return Seen(people, Prediction(torch.cat(logits), torch.cat(features)))


def bernoulli_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the elementwise Kullback–Leibler divergence KL(p ‖ q) of Bernoulli distributions, in nats.

    Args:
        p: probabilities, any shape.
        q: probabilities of the same shape.
    """
    p, q = (x.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR) for x in (p, q))
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def mean_or_zero(values: Tensor) -> Tensor:
    """Return the mean, or 0 with zero gradient for an empty tensor."""
    return values.mean() if values.numel() else values.sum()
