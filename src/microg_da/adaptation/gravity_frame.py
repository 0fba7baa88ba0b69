"""Detection in the gravity frame: every clip is rotated until its people are upright."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.adaptation.adabn import layers_with_statistics, reestimate_batch_norm
from microg_da.adaptation.base import Knowledge, Task, detect
from microg_da.adaptation.roll_tta import combine_views
from microg_da.adaptation.up import UpLearning, learn_up
from microg_da.adaptation.up_density import candidate_rolls, mass_at, pool_agreeing
from microg_da.adaptation.up_method import REHEARSED, Found, UpMethod, upright_turns
from microg_da.adaptation.views import take_clips
from microg_da.errors import InputError, unknown_name
from microg_da.models.backbone_roll_estimator import BackboneRollEstimator
from microg_da.models.detector import ActionDetector
from microg_da.models.roll_estimator import RollEstimator
from microg_da.models.up_estimator import UpEstimator
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipBatch, Prediction

ESTIMATORS = ("polar", "backbone")


@dataclass
class UpSettings(UpLearning):
    """How up is estimated, besides how its estimator is trained.

    Attributes:
        estimator: ``polar``, a small network of its own
            (:class:`~microg_da.models.roll_estimator.RollEstimator`), or ``backbone``, a head on the source model's
            backbone (:class:`~microg_da.models.backbone_roll_estimator.BackboneRollEstimator`), which is better where
            the backbone has pretrained weights.
        bins: R, angles of the density.
        width: of the polar estimator.
        views: the most rolls of a clip that the detector decides between. With ``spread`` it looks at two more.
        least: a further roll is looked at while the density of some person has at least this much mass around it.
        upright: degrees. A roll nearer to 0 than this is taken as 0: what is nearly upright stays as it was filmed.
        spread: degrees. The likeliest roll is averaged with the rolls so far on either side of it, unless it is 0. 0
            leaves these two views out.
        temperature: of the detector's confidence against the estimator's, in nats of entropy of the C sigmoids.
    """

    estimator: str = "polar"
    bins: int = 24
    width: int = 16
    views: int = 2
    least: float = 0.02
    upright: float = 15.0
    spread: float = 10.0
    temperature: float = 1.0


def _check(settings: UpSettings) -> None:
    """Refuse settings that cannot be; errors name the argument."""
    least = {
        "steps": 1,
        "target_steps": 0,
        "target_rounds": 1,
        "batch_size": 1,
        "crops": 1,
        "looks": 1,
        "bins": 8,
        "width": 4,
        "views": 1,
        "upright": 0,
        "spread": 0,
        "least": 0,
    }
    for name, bound in least.items():
        if not getattr(settings, name) >= bound:
            raise InputError(f"{name}={getattr(settings, name)}: expected a number of at least {bound}.")
    for name in ("lr", "temperature", "concentration"):
        if not getattr(settings, name) > 0:
            raise InputError(f"{name}={getattr(settings, name)}: expected a number above 0.")
    if settings.estimator not in ESTIMATORS:
        raise unknown_name("estimator", settings.estimator, ESTIMATORS, "adaptation.args.estimator")
    if settings.width % 4:
        raise InputError(f"width={settings.width}: expected a multiple of 4.")


class UpFinder(nn.Module):
    """An estimator of up and its use: few rolls of each clip, between which a detector decides.

    Args:
        settings: of estimation and training.
    """

    def __init__(self, settings: UpSettings) -> None:
        super().__init__()
        _check(settings)
        self.settings = settings
        self.estimator: UpEstimator = RollEstimator(settings.bins, width=settings.width)
        self.estimator.requires_grad_(False).eval()

    def built_for(self, detector: ActionDetector) -> None:
        """Make the estimator whose layers depend on the detector."""
        if self.settings.estimator == "backbone":
            self.estimator = BackboneRollEstimator(detector.backbone, self.settings.bins)
            self.estimator.requires_grad_(False).eval()

    def take_weights(self, detector: ActionDetector) -> None:
        """Give an estimator that has a copy of the backbone the backbone's weights."""
        if isinstance(self.estimator, BackboneRollEstimator):
            self.estimator.take_weights(detector.backbone)

    def learn(self, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Train the estimator, see :func:`~microg_da.adaptation.up.learn_up`; one draw from torch's own generator."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        learn_up(self.estimator, source, target, self.settings, generator)

    @torch.no_grad()
    def densities(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Log-densities ``(K, R)`` of each person's up, pooled where a clip's people agree, and who agrees ``(K,)``."""
        own = self.estimator.log_density(batch.frames, batch.boxes, batch.clip_index)
        return pool_agreeing(own, batch.clip_index, len(batch))

    @torch.no_grad()
    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """Estimate each person's up and actions.

        The posterior of a roll is the estimator's density there times ``exp(-H / temperature)``, H being the entropy
        of the detector's predictions under it. Predictions are averaged by the posterior; up is where it is largest.
        """
        log_density, agree = self.densities(batch)
        if not batch.num_boxes:
            return Found(log_density.new_zeros(0), log_density, detect(detector, batch), len(batch))
        views, least, upright = self.settings.views, self.settings.least, self.settings.upright
        rolls = candidate_rolls(log_density, batch.clip_index, len(batch), views=views, least=least, upright=upright)
        seen = [self._look(detector, batch, view) for view in rolls.T if not bool(view.isnan().all())]
        logits = torch.stack([look.logits for look in seen])
        log_prior = torch.stack([mass_at(log_density, view[batch.clip_index]).log() for view in rolls.T[: len(seen)]])
        log_prior[torch.stack([~look.people for look in seen])] = -math.inf
        log_posterior = log_prior + self._confidence(logits, agree, batch)
        weights = log_posterior.softmax(dim=0)
        degrees = rolls[batch.clip_index].gather(1, log_posterior.argmax(dim=0)[:, None])[:, 0]
        if self.settings.spread:
            around, weights = self._around(detector, batch, rolls, weights)
            seen += around
        passes = sum(look.passes for look in seen)
        return Found(torch.remainder(degrees, 360), log_density, _combine(seen, weights), passes)

    def _look(self, detector: ActionDetector, batch: ClipBatch, rolls: Tensor) -> _Look:
        """Predict people with each clip's roll ``(B,)`` undone; clips whose roll is NaN are left out."""
        part, people = take_clips(batch, ~rolls.isnan())
        prediction = detect(detector, roll_batch(part, -rolls[~rolls.isnan()].cpu()))
        logits, features = (_among(values.float(), people) for values in prediction)
        return _Look(logits, features, people, len(part))

    def _around(
        self, detector: ActionDetector, batch: ClipBatch, rolls: Tensor, weights: Tensor
    ) -> tuple[list[_Look], Tensor]:
        """Two more views of each clip that is not upright, on either side of its likeliest roll.

        Returns:
            The views, and the weights ``(V + 2, K)`` of all: that roll's is shared by the three.
        """
        shares = weights.new_zeros(len(weights), len(batch)).index_add_(1, batch.clip_index, weights)
        best = shares.argmax(dim=0)
        roll = rolls.gather(1, best[:, None])[:, 0]
        roll = torch.where(roll == 0, math.nan, roll)
        if bool(roll.isnan().all()):
            return [], weights
        looks = [self._look(detector, batch, roll + sign * self.settings.spread) for sign in (-1, 1)]
        shared = torch.zeros_like(weights).scatter_(0, best[batch.clip_index][None], 1.0).bool() & looks[0].people
        third = torch.where(shared, weights / 3, 0.0).sum(dim=0)
        weights = torch.where(shared, weights / 3, weights)
        return looks, torch.cat([weights, third[None], third[None]])

    def _confidence(self, logits: Tensor, agree: Tensor, batch: ClipBatch) -> Tensor:
        """``(V, K)`` how sure the detector is under each view; people who share an up share it."""
        entropy = (F.softplus(logits) - torch.sigmoid(logits) * logits).sum(dim=2)
        shared = entropy.new_zeros(len(entropy), len(batch))
        shared.index_add_(1, batch.clip_index[agree], entropy[:, agree])
        entropy = torch.where(agree, shared[:, batch.clip_index], entropy)
        return -entropy / self.settings.temperature


class _Look(NamedTuple):
    """Predictions of the detector under one roll of each clip.

    Attributes:
        logits: ``(K, C)``, 0 for those who were not seen.
        features: ``(K, D)``, likewise.
        people: ``(K,)`` who was seen.
        passes: clips.
    """

    logits: Tensor
    features: Tensor
    people: Tensor
    passes: int


def _among(values: Tensor, people: Tensor) -> Tensor:
    """Rows of some people among those of all."""
    full = values.new_zeros(len(people), values.shape[1])
    full[people] = values
    return full


def _combine(looks: list[_Look], weights: Tensor) -> Prediction:
    """The mean of probabilities and of features under weights ``(V, K)``."""
    logits, features = (torch.stack([getattr(look, name) for look in looks]) for name in ("logits", "features"))
    return Prediction(combine_views(logits, weights, "confident"), (weights[..., None] * features).sum(dim=0))


@dataclass
class GravityFrameArguments(UpSettings):
    """Settings of :class:`GravityFrame`, besides those of :class:`UpSettings`.

    Attributes:
        adabn: whether to re-estimate the batch-norm statistics on target clips that are turned upright, as
            :class:`~microg_da.adaptation.adabn.AdaBN` does on clips as filmed.
    """

    adabn: bool = False


class GravityFrame(UpMethod):
    """At test time: up is estimated, and the detector sees every clip turned until its people are upright.

    In microgravity up belongs to the body, not to the room, so that one clip has any roll. A detector that learned on
    Earth knows people upright. ``roll_tta`` shows it eight rolls, seven of which mislead it; here a small network that
    saw people only tells which few rolls are worth a look, and the detector's confidence decides between them, as a
    rule between one roll and its opposite. Clips that are upright stay as they were filmed and cost one look.

    Kaba et al., "Equivariance with learned canonicalization functions", ICML 2023, and Mondal et al., "Equivariant
    adaptation of large pretrained models", NeurIPS 2023, put a learned canonicalisation in front of a network; the
    second one's prior regularisation is what training on upright people amounts to. Confidence of the network itself as
    the measure of a transform is that of FOCAL (Singhal et al., arXiv 2507.10375), entropy over views that of MEMO
    (Zhang et al., NeurIPS 2022), which averages where we choose.
    """

    Arguments: ClassVar[type] = GravityFrameArguments
    arguments: GravityFrameArguments
    needs_encoder = "estimates up from pixels and rolls clips by any angle"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: GravityFrameArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.finder = UpFinder(arguments)

    def built_for(self, detector: ActionDetector) -> None:
        """Make the estimator that the settings ask for."""
        self.finder.built_for(detector)

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """Trains the estimator for a fraction of its steps. Their number does not depend on the clips."""
        settings = self.finder.settings
        numbers = (settings.steps, settings.target_steps, settings.crops)
        steps, target_steps, crops = (-(-number // REHEARSED) for number in numbers)
        self.finder.settings = replace(settings, steps=steps, target_steps=target_steps, crops=crops)
        try:
            yield REHEARSED
        finally:
            self.finder.settings = settings

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Train the estimator of up; then take the statistics of turned target clips, if that was asked for."""
        self.finder.take_weights(detector)
        self.finder.learn(source, target)
        if self.arguments.adabn:
            # Up is found by the detector as it was: its statistics change in the course of the pass.
            before = copy.deepcopy(detector)
            reestimate_batch_norm(detector, (roll_batch(batch, self.turns(before, batch)) for batch in target))

    def turns(self, detector: ActionDetector, batch: ClipBatch) -> Tensor:
        """Degrees ``(B,)`` that turn each clip upright, by what a detector finds."""
        return upright_turns(batch, self.find(detector, batch).degrees)

    def check_detector(self, detector: ActionDetector) -> None:
        """With ``adabn`` the detector has batch normalisation."""
        if self.arguments.adabn:
            layers_with_statistics(detector)

    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """See :meth:`UpFinder.find`."""
        return self.finder.find(detector, batch)
