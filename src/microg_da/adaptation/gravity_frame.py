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
from microg_da.adaptation.person_crops import CropSettings, turned_view
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
from microg_da.types import ClipBatch, Prediction

ESTIMATORS = ("polar", "backbone")


@dataclass
class UpSettings(CropSettings, UpLearning):
    """Settings of the estimation of up, in addition to those of its training and of crops.

    Attributes:
        estimator: ``polar``, a separate small network (:class:`~microg_da.models.roll_estimator.RollEstimator`), or
            ``backbone``, a head on the backbone of the source model
            (:class:`~microg_da.models.backbone_roll_estimator.BackboneRollEstimator`), which is better if the backbone
            has pretrained weights.
        bins: R, the number of angles of the density.
        width: width of the polar estimator.
        max_rolls: largest number of candidate rolls of a clip that the detector evaluates. ``neighbour_angle`` adds
            two views.
        min_mass: smallest probability mass around a further candidate roll, for any person of the clip.
        gate_angle: in degrees. Rolls nearer to 0 are set to 0, so that nearly upright clips are not turned.
        neighbour_angle: in degrees. The prediction at the best roll is averaged with those at ± this angle, unless the
            roll is 0. 0 disables the two additional views.
        temperature: weight of the detector's confidence against the estimator's, in nats of entropy of the C sigmoids.
    """

    estimator: str = "polar"
    bins: int = 24
    width: int = 16
    max_rolls: int = 2
    min_mass: float = 0.02
    gate_angle: float = 15.0
    neighbour_angle: float = 10.0
    temperature: float = 1.0


def _check(settings: UpSettings) -> None:
    """Check the settings; errors name the argument."""
    least = {
        "steps": 1,
        "target_steps": 0,
        "target_rounds": 1,
        "batch_size": 1,
        "crops": 1,
        "frames_per_clip": 1,
        "bins": 8,
        "width": 4,
        "max_rolls": 1,
        "gate_angle": 0,
        "neighbour_angle": 0,
        "min_mass": 0,
    }
    for name, bound in least.items():
        if not getattr(settings, name) >= bound:
            raise InputError(f"{name}={getattr(settings, name)}: expected a number of at least {bound}.")
    for name in ("lr", "temperature", "concentration"):
        if not getattr(settings, name) > 0:
            raise InputError(f"{name}={getattr(settings, name)}: expected a number above 0.")
    settings.check()
    if settings.estimator not in ESTIMATORS:
        raise unknown_name("estimator", settings.estimator, ESTIMATORS, "adaptation.args.estimator")
    if settings.width % 4:
        raise InputError(f"width={settings.width}: expected a multiple of 4.")


class UpFinder(nn.Module):
    """Estimates up: an estimator proposes a few rolls of each clip, and a detector chooses among them.

    Args:
        settings: settings of estimation and training.
    """

    def __init__(self, settings: UpSettings) -> None:
        super().__init__()
        _check(settings)
        self.settings = settings
        self.estimator: UpEstimator = RollEstimator(settings.bins, width=settings.width)
        self.estimator.requires_grad_(False).eval()

    def built_for(self, detector: ActionDetector) -> None:
        """Create the estimator, whose layers depend on the detector."""
        if self.settings.estimator == "backbone":
            self.estimator = BackboneRollEstimator(detector.backbone, self.settings.bins)
            self.estimator.requires_grad_(False).eval()

    def take_weights(self, detector: ActionDetector) -> None:
        """Copy the backbone's weights to an estimator that contains a copy of the backbone."""
        if isinstance(self.estimator, BackboneRollEstimator):
            self.estimator.take_weights(detector.backbone)

    def learn(self, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Train the estimator with :func:`~microg_da.adaptation.up.learn_up`, seeded by torch's global generator."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        learn_up(self.estimator, source, target, self.settings, generator)

    @torch.no_grad()
    def densities(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Return log-densities ``(K, R)`` of up, pooled over people who agree, and a mask ``(K,)`` of these people."""
        own = self.estimator.log_density(batch.frames, batch.boxes, batch.clip_index)
        return pool_agreeing(own, batch.clip_index, len(batch))

    @torch.no_grad()
    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """Estimate each person's up and actions.

        The posterior of a roll is proportional to the estimator's density times ``exp(-H / temperature)``, where H is
        the entropy of the detector's predictions under the roll. Predictions are averaged with the posterior as
        weights. Up is the maximum of the posterior.
        """
        log_density, agree = self.densities(batch)
        if not batch.num_boxes:
            return Found(log_density.new_zeros(0), log_density, detect(detector, batch), len(batch))
        rolls = candidate_rolls(
            log_density,
            batch.clip_index,
            len(batch),
            max_rolls=self.settings.max_rolls,
            min_mass=self.settings.min_mass,
            gate_angle=self.settings.gate_angle,
        )
        seen = [self._predict_view(detector, batch, view) for view in rolls.T if not bool(view.isnan().all())]
        logits = torch.stack([view.logits for view in seen])
        log_prior = torch.stack([mass_at(log_density, view[batch.clip_index]).log() for view in rolls.T[: len(seen)]])
        log_prior[torch.stack([~view.people for view in seen])] = -math.inf
        log_posterior = log_prior + self._confidence(logits, agree, batch)
        weights = log_posterior.softmax(dim=0)
        degrees = rolls[batch.clip_index].gather(1, log_posterior.argmax(dim=0)[:, None])[:, 0]
        if self.settings.neighbour_angle:
            around, weights = self._around(detector, batch, rolls, weights)
            seen += around
        passes = sum(view.passes for view in seen)
        return Found(torch.remainder(degrees, 360), log_density, _combine(seen, weights), passes)

    def _predict_view(self, detector: ActionDetector, batch: ClipBatch, rolls: Tensor) -> _View:
        """Predict people after undoing the roll ``(B,)`` of each clip; clips whose roll is NaN are skipped."""
        part, people = take_clips(batch, ~rolls.isnan())
        turned = turned_view(part, -rolls[~rolls.isnan()].cpu(), self.settings)
        logits, features = (_among(values.float(), people) for values in detect(detector, turned))
        return _View(logits, features, people, len(turned))

    def _around(
        self, detector: ActionDetector, batch: ClipBatch, rolls: Tensor, weights: Tensor
    ) -> tuple[list[_View], Tensor]:
        """Return two more views of each clip that is not upright, at ± ``neighbour_angle`` around the best roll.

        Returns:
            The views, and the weights ``(V + 2, K)`` of all views; the weight of the best roll is split among the
            three.
        """
        shares = weights.new_zeros(len(weights), len(batch)).index_add_(1, batch.clip_index, weights)
        best = shares.argmax(dim=0)
        roll = rolls.gather(1, best[:, None])[:, 0]
        roll = torch.where(roll == 0, math.nan, roll)
        if bool(roll.isnan().all()):
            return [], weights
        views = [self._predict_view(detector, batch, roll + sign * self.settings.neighbour_angle) for sign in (-1, 1)]
        shared = torch.zeros_like(weights).scatter_(0, best[batch.clip_index][None], 1.0).bool() & views[0].people
        third = torch.where(shared, weights / 3, 0.0).sum(dim=0)
        weights = torch.where(shared, weights / 3, weights)
        return views, torch.cat([weights, third[None], third[None]])

    def _confidence(self, logits: Tensor, agree: Tensor, batch: ClipBatch) -> Tensor:
        """Return the confidence ``(V, K)`` of the detector in each view, shared by people with the same up."""
        entropy = (F.softplus(logits) - torch.sigmoid(logits) * logits).sum(dim=2)
        shared = entropy.new_zeros(len(entropy), len(batch))
        shared.index_add_(1, batch.clip_index[agree], entropy[:, agree])
        entropy = torch.where(agree, shared[:, batch.clip_index], entropy)
        return -entropy / self.settings.temperature


class _View(NamedTuple):
    """Predictions of the detector under one roll of each clip.

    Attributes:
        logits: ``(K, C)``, 0 for people who were not evaluated.
        features: ``(K, D)``, likewise.
        people: ``(K,)`` bool, the people who were evaluated.
        passes: number of evaluated clips or crops.
    """

    logits: Tensor
    features: Tensor
    people: Tensor
    passes: int


def _among(values: Tensor, people: Tensor) -> Tensor:
    """Scatter rows of some people into rows for all people."""
    full = values.new_zeros(len(people), values.shape[1])
    full[people] = values
    return full


def _combine(views: list[_View], weights: Tensor) -> Prediction:
    """Return the mean of probabilities and of features with weights ``(V, K)``."""
    logits, features = (torch.stack([getattr(view, name) for view in views]) for name in ("logits", "features"))
    return Prediction(combine_views(logits, weights, "confident"), (weights[..., None] * features).sum(dim=0))


@dataclass
class GravityFrameArguments(UpSettings):
    """Settings of :class:`GravityFrame`, in addition to those of :class:`UpSettings`.

    Attributes:
        adabn: whether to recompute the batch-norm statistics on target clips turned upright.
            :class:`~microg_da.adaptation.adabn.AdaBN` uses clips as filmed.
    """

    adabn: bool = False


class GravityFrame(UpMethod):
    """Test-time method: estimates up and turns each clip until its people are upright for the detector.

    In microgravity, up is a property of the body and not of the room, so that a person can have any roll in the image.
    A detector trained on Earth expects upright people. ``roll_tta`` averages eight rolls, most of which are not
    upright. Here a small network that is trained on people proposes a few rolls, and the confidence of the detector
    chooses among them, usually between a roll and its opposite. Upright clips are not turned and cost one pass.

    Kaba et al., "Equivariance with learned canonicalization functions", ICML 2023, and Mondal et al., "Equivariant
    adaptation of large pretrained models", NeurIPS 2023, put a learned canonicalisation before a network. Training on
    upright people corresponds to the prior regularisation of the second paper. FOCAL (Singhal et al., arXiv 2507.10375)
    uses the confidence of the network to score transforms. MEMO (Zhang et al., NeurIPS 2022) uses entropy over views,
    which it averages; here one view is chosen.
    """

    Arguments: ClassVar[type] = GravityFrameArguments
    arguments: GravityFrameArguments
    needs_encoder = "estimates up from pixels and rolls clips by any angle"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: GravityFrameArguments, task: Task) -> None:
        super().__init__(arguments, task)
        self.finder = UpFinder(arguments)

    def built_for(self, detector: ActionDetector) -> None:
        """Create the estimator of the settings."""
        self.finder.built_for(detector)

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """Train the estimator for a fraction of its steps, whose number does not depend on the clips."""
        settings = self.finder.settings
        numbers = (settings.steps, settings.target_steps, settings.crops)
        steps, target_steps, crops = (-(-number // REHEARSED) for number in numbers)
        self.finder.settings = replace(settings, steps=steps, target_steps=target_steps, crops=crops)
        try:
            yield REHEARSED
        finally:
            self.finder.settings = settings

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Train the estimator of up; with ``adabn``, then compute statistics on turned target clips."""
        self.finder.take_weights(detector)
        self.finder.learn(source, target)
        if self.arguments.adabn:
            # Up is found with a copy of the detector, since the statistics of the detector change during the pass.
            before = copy.deepcopy(detector)
            turned = (turned_view(batch, self.turns(before, batch), self.arguments) for batch in target)
            reestimate_batch_norm(detector, turned)

    def turns(self, detector: ActionDetector, batch: ClipBatch) -> Tensor:
        """Return the degrees ``(B,)`` that turn each clip upright, as found with a detector."""
        return upright_turns(batch, self.find(detector, batch).degrees)

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the detector has batch normalisation if ``adabn`` is set."""
        if self.arguments.adabn:
            layers_with_statistics(detector)

    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """See :meth:`UpFinder.find`."""
        return self.finder.find(detector, batch)
