"""Training of an up estimator on Earth clips: people are upright, so that a known rotation is a label.

A network trained on whole Earth clips reads the angle from floors and walls, and does not transfer to orbit. This
estimator reads only people: an ellipse in each box is pasted over a random patch of an unlabelled target clip, and the
composed crop is turned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from microg_da.adaptation.base import limit_clips
from microg_da.adaptation.up_density import mass_at, pool_agreeing
from microg_da.adaptation.up_patches import PeoplePatches, as_bytes, collect_patches, compose, half_extents
from microg_da.models.backbone import denormalise
from microg_da.models.person_patches import middle_frames, person_patches
from microg_da.models.up_estimator import UpEstimator, circular_cross_entropy
from microg_da.types import ClipBatch

SURE = 0.5
"""The smallest probability mass around the mode for target people to be used in training."""
ENCODED_AT_ONCE = 256
"""The number of crops that are encoded at once, for estimators that store encoded crops."""


@dataclass
class UpLearning:
    """Settings of the training of an estimator.

    Attributes:
        steps: steps of the optimiser on source people.
        target_steps: steps in each later round, on source people and on target people whose up is estimated at the
            start of the round.
        target_rounds: number of rounds. Labels of each round contain fewer flips than those of the previous round.
        batch_size: people per step.
        lr: largest learning rate of a one-cycle schedule.
        weight_decay: weight decay of AdamW.
        concentration: κ of the von Mises target, see :func:`~microg_da.models.roll_estimator.circular_cross_entropy`.
        frames_per_clip: frames of each clip from which people and backgrounds are cut.
        max_clips: largest number of clips of each domain; None for all.
        crops: number of training crops of source people, and of target people over all rounds, for estimators that
            store encoded crops. Other estimators draw new crops in each step.
    """

    steps: int = 600
    target_steps: int = 200
    target_rounds: int = 3
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 0.02
    concentration: float = 30.0
    frames_per_clip: int = 4
    max_clips: int | None = 2000
    crops: int = 10_000


def learn_up(
    estimator: UpEstimator,
    source: Iterable[ClipBatch],
    target: Iterable[ClipBatch],
    settings: UpLearning,
    generator: torch.Generator,
) -> None:
    """Train an estimator on upright source people, then on target people with an estimated up.

    The second part is self-training: flips are errors without a pattern, and most estimates are correct, so that a
    network that fits all of them makes fewer flips. Labels are not read.

    Args:
        estimator: trained in place, and left in evaluation mode without gradients.
        source: clips in which people are upright.
        target: clips for backgrounds, and for people in the second part.
        settings: the settings of training.
        generator: a CPU generator for all random values.

    Raises:
        InputError: if the source clips contain no people, or the target has no clips.
    """
    upright = collect_patches(
        source,
        target,
        generator,
        frames_per_clip=settings.frames_per_clip,
        max_clips=settings.max_clips,
        size=estimator.patch,
    )
    of_source = _drawer(estimator, upright, settings.crops, generator)
    _train(estimator, [of_source], settings.steps, settings)
    for _ in range(settings.target_rounds if settings.target_steps else 0):
        found = replace(collect_estimated(estimator, target, settings), backgrounds=upright.backgrounds)
        if len(found.people):
            share = -(-settings.crops // settings.target_rounds)
            both = [of_source, _drawer(estimator, found, share, generator)]
            _train(estimator, both, settings.target_steps, settings)


Drawer = Callable[[int], tuple[Tensor, Tensor]]
"""A function that draws a number of encoded crops and the degrees of their up."""


def _drawer(estimator: UpEstimator, patches: PeoplePatches, crops: int, generator: torch.Generator) -> Drawer:
    def fresh(count: int) -> tuple[Tensor, Tensor]:
        composed, degrees = compose(patches, count, estimator.lens, generator, keep_colours=estimator.keeps_colours)
        return estimator.encode(composed), degrees

    if estimator.encoder_learns:
        return fresh
    drawn = [fresh(ENCODED_AT_ONCE) for _ in range(-(-crops // ENCODED_AT_ONCE))]
    encoded = torch.cat([part.half() for part, _ in drawn])
    degrees = torch.cat([part for _, part in drawn])

    def kept(count: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(encoded), (count,), generator=generator).to(encoded.device)
        return encoded[chosen], degrees[chosen]

    return kept


def _train(estimator: UpEstimator, kinds: list[Drawer], steps: int, settings: UpLearning) -> None:
    """Train on batches with equal numbers of each kind of people."""
    share = max(settings.batch_size // len(kinds), 1)

    def loss() -> Tensor:
        encoded, degrees = (torch.cat(parts) for parts in zip(*(draw(share) for draw in kinds), strict=True))
        return circular_cross_entropy(estimator.decode(encoded), degrees, settings.concentration)

    fit_briefly(estimator, loss, steps, settings.lr, settings.weight_decay)


def fit_briefly(network: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float, weight_decay: float) -> None:
    """Train with AdamW over one cycle of the learning rate, in float32.

    Args:
        network: trained in place, and left in evaluation mode without gradients.
        loss: draws a batch and returns its loss.
        steps: number of steps.
        lr: largest learning rate.
        weight_decay: weight decay of AdamW.
    """
    network.requires_grad_(True).train()
    learns = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr, weight_decay=weight_decay)
    schedule = _one_cycle(optimizer, lr, steps)
    with torch.enable_grad(), torch.autocast(learns[0].device.type, enabled=False):
        for _ in range(steps):
            value = loss()
            optimizer.zero_grad()
            torch.autograd.backward(value)
            optimizer.step()
            schedule.step()
    network.requires_grad_(False).eval()


def _one_cycle(optimizer: torch.optim.Optimizer, lr: float, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """Return the one-cycle schedule with a warm-up of a tenth of the steps, at least as many as torch needs."""
    total = max(steps, 2)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total, pct_start=max(0.1, 1.5 / total))


@torch.no_grad()
def collect_estimated(estimator: UpEstimator, target: Iterable[ClipBatch], settings: UpLearning) -> PeoplePatches:
    """Return target people with a confident estimate of up, pooled over people of a clip who agree."""
    people, up, half = [], [], []
    for batch in limit_clips(target, settings.max_clips):
        own = estimator.log_density(batch.frames, batch.boxes, batch.clip_index)
        density, _ = pool_agreeing(own, batch.clip_index, len(batch))
        mode = density.argmax(dim=1) * (360 / estimator.bins)
        sure = mass_at(density, mode) >= SURE
        for frame in middle_frames(batch.frames.shape[2], settings.frames_per_clip):
            patches = person_patches(
                denormalise(batch.frames[:, :, frame]), batch.boxes, batch.clip_index, estimator.patch
            )
            people.append(as_bytes(patches[sure]))
            up.append(mode[sure])
            half.append(half_extents(batch.boxes[sure]))
    nothing = torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
    if not people:
        return PeoplePatches(nothing, torch.zeros(0), torch.zeros(0, 2), nothing)
    return PeoplePatches(torch.cat(people), torch.cat(up), torch.cat(half), nothing)
