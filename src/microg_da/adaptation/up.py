"""Learning which way is up from Earth alone: people there are upright, so a turn by a known angle is a free label.

A network that sees whole Earth clips reads the angle from floors and walls, and does not transfer to orbit. This one
sees people only: an ellipse in each box is pasted over a random piece of an unlabelled target clip, and the composed
crop is turned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from microg_da.adaptation.up_density import mass_at, pool_agreeing
from microg_da.errors import InputError
from microg_da.models.roll_estimator import (
    LEAST_RADIUS,
    MARGIN,
    OVERSAMPLING,
    RollEstimator,
    circular_cross_entropy,
    look_at,
    mirror,
    person_patches,
    polar_crops,
    polar_grid,
    square_patches,
)
from microg_da.types import ClipBatch

PIECES = 2
"""Random pieces of each target frame that serve as backgrounds."""
PIECE_RADII = (0.08, 0.42)
"""Half the side of a piece, in parts of the frame's shorter side."""
SURE = 0.5
"""Target people are learnt from where so much of their density is around its mode."""
SOFTNESS = 0.15
"""Half the width of an ellipse's rim, in parts of its half axes."""
RIM = (0.8, 1.1)
"""Half axes of the pasted ellipse, in parts of those of the box."""
HIDDEN = (-0.5, 0.5)
"""Radius of the disc that hides a part of a person, in parts of half the longer side. One in two hides nothing."""
GREY_SHARE, NEGATIVE_SHARE = 0.15, 0.3
"""How many crops lose their colours, and how many become negatives."""


@dataclass
class UpLearning:
    """How an estimator is trained.

    Attributes:
        steps: of the optimiser, on source people.
        target_steps: of the optimiser after these, on source people and on target people whose up was estimated.
        batch_size: people a step.
        lr: the highest learning rate of a schedule with one cycle.
        weight_decay: of AdamW.
        concentration: of the von Mises target, see :func:`~microg_da.models.roll_estimator.circular_cross_entropy`.
        looks: frames of each clip that people and backgrounds are taken from.
        max_clips: of each domain that are looked at; None for all.
    """

    steps: int = 600
    target_steps: int = 300
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 0.02
    concentration: float = 30.0
    looks: int = 4
    max_clips: int | None = 2000


@dataclass
class PeoplePatches:
    """What an estimator learns from.

    Attributes:
        people: ``(N, 3, S, S)`` uint8, patches of upright people.
        up: ``(N,)`` degrees, clockwise from the top of the patch; 0 for upright people.
        half: ``(N, 2)`` half width and half height of each person's box; 1 is half the side of the patch.
        backgrounds: ``(M, 3, S, S)`` uint8, pieces of target frames.
    """

    people: Tensor
    up: Tensor
    half: Tensor
    backgrounds: Tensor


def learn_up(
    estimator: RollEstimator,
    source: Iterable[ClipBatch],
    target: Iterable[ClipBatch],
    settings: UpLearning,
    generator: torch.Generator,
) -> None:
    """Train an estimator on upright source people, then on target people whose up it has estimated.

    The second part is self-training: a flip is wrong in one way or another, while what most estimates say is right, so
    that a network that fits them all is better than they are. Labels are not read.

    Args:
        estimator: trained in place, and left in evaluation mode without gradients.
        source: clips in which people are upright.
        target: clips whose pieces are backgrounds, and whose people are learnt from in the second part.
        settings: how.
        generator: a CPU generator, of everything random.

    Raises:
        InputError: if there is nobody in the source clips, or no target clip.
    """
    upright = collect_patches(source, target, settings, generator)
    _train(estimator, [upright], settings.steps, settings, generator)
    if settings.target_steps:
        found = collect_estimated(estimator, target, settings)
        if len(found.people):
            both = [upright, replace(found, backgrounds=upright.backgrounds)]
            _train(estimator, both, settings.target_steps, settings, generator)


def _train(
    estimator: RollEstimator,
    kinds: list[PeoplePatches],
    steps: int,
    settings: UpLearning,
    generator: torch.Generator,
) -> None:
    """Steps of the optimiser on batches that hold equal shares of each kind of people."""
    estimator.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(estimator.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = _one_cycle(optimizer, settings.lr, steps)
    share = max(settings.batch_size // len(kinds), 1)
    device_type = next(estimator.parameters()).device.type
    with torch.enable_grad(), torch.autocast(device_type, enabled=False):
        for _ in range(steps):
            drawn = [compose(kind, share, estimator.radii, estimator.bins, generator) for kind in kinds]
            crops, degrees = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            loss = circular_cross_entropy(estimator(crops), degrees, settings.concentration)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    estimator.requires_grad_(False).eval()


def _one_cycle(optimizer: torch.optim.Optimizer, lr: float, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """Warm-up over a tenth of the steps. torch's schedule needs more than one step of warm-up and one of decay."""
    total = max(steps, 2)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total, pct_start=max(0.1, 1.5 / total))


@torch.no_grad()
def collect_estimated(estimator: RollEstimator, target: Iterable[ClipBatch], settings: UpLearning) -> PeoplePatches:
    """Target people and the up that an estimator is sure of, pooled over the people of a clip who agree."""
    people, up, half = [], [], []
    for batch in _first(target, settings.max_clips):
        own = estimator.log_density(batch.frames, batch.boxes, batch.clip_index)
        density, _ = pool_agreeing(own, batch.clip_index, len(batch))
        mode = density.argmax(dim=1) * (360 / estimator.bins)
        sure = mass_at(density, mode) >= SURE
        for frame in look_at(batch.frames.shape[2], settings.looks):
            patches = person_patches(_bytes(batch.frames[:, :, frame]), batch.boxes, batch.clip_index)
            people.append(_as_bytes(patches[sure]))
            up.append(mode[sure])
            half.append(_half_extents(batch.boxes[sure]))
    nothing = torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
    if not people:
        return PeoplePatches(nothing, torch.zeros(0), torch.zeros(0, 2), nothing)
    return PeoplePatches(torch.cat(people), torch.cat(up), torch.cat(half), nothing)


@torch.no_grad()
def collect_patches(
    source: Iterable[ClipBatch], target: Iterable[ClipBatch], settings: UpLearning, generator: torch.Generator
) -> PeoplePatches:
    """Look at both domains once; arguments and errors as :func:`learn_up`."""
    people, half, backgrounds = [], [], []
    for batch in _first(source, settings.max_clips):
        for frame in look_at(batch.frames.shape[2], settings.looks):
            people.append(_as_bytes(person_patches(_bytes(batch.frames[:, :, frame]), batch.boxes, batch.clip_index)))
            half.append(_half_extents(batch.boxes))
    for batch in _first(target, settings.max_clips):
        seen = (_bytes(batch.frames[:, :, frame]) for frame in look_at(batch.frames.shape[2], settings.looks))
        backgrounds += [_as_bytes(_pieces(frames, generator)) for frames in seen]
    if not sum(map(len, people)):
        raise InputError("up is learnt from people in source clips, and there is nobody in them. Check data.source.")
    if not backgrounds:
        raise InputError("up is learnt on backgrounds of target clips, and there is no target clip.")
    extents = torch.cat(half)
    return PeoplePatches(torch.cat(people), torch.zeros_like(extents[:, 0]), extents, torch.cat(backgrounds))


def compose(
    patches: PeoplePatches, count: int, radii: int, bins: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Polar crops of random people over random backgrounds, turned at random.

    Args:
        patches: people and backgrounds.
        count: N.
        radii: rings of a crop.
        bins: of the density; a crop has ``OVERSAMPLING`` times as many directions.
        generator: a CPU generator.

    Returns:
        Crops ``(N, 3, radii, directions)`` in 0…255, and ``(N,)`` the degrees by which each person's up is turned
        clockwise.
    """
    device = patches.people.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * (high - low) + low).to(device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).to(device)

    person, background = (
        torch.randint(len(pictures), (count,), generator=generator).to(device)
        for pictures in (patches.people, patches.backgrounds)
    )
    half, turn = patches.half[person], uniform(0, 360)
    centre = 0.07 * normal(2) * half
    radius = _longer_half(half, turn) * uniform(-0.15, 0.2).exp()
    directions = OVERSAMPLING * bins
    crops = polar_crops(patches.people[person], centre, radius, radii, directions, turn)
    behind = polar_crops(
        patches.backgrounds[background],
        torch.zeros_like(centre),
        uniform(0.7, 1.0),
        radii,
        directions,
        uniform(0, 360),
    )
    points = centre[:, None, None] + radius[:, None, None, None] * polar_grid(radii, directions, -turn)
    opacity = _ellipse(points, half * uniform(*RIM, 1)) * (1 - _disc(points, half, normal(2), uniform(*HIDDEN)))
    crops = opacity * crops + (1 - opacity) * behind
    mirrored = uniform(0, 1) < 0.5
    crops = torch.where(mirrored.view(-1, 1, 1, 1), mirror(crops), crops)
    degrees = patches.up[person] + turn
    return _recolour(crops, generator), torch.where(mirrored, -degrees, degrees)


def _recolour(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Other gains, offsets and gamma, colours in another order, some negatives, some grey, and noise.

    Clothes do not tell up from down: what is dark below on Earth may be white in orbit.
    """
    count, device = len(crops), crops.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * (high - low) + low).to(device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).to(device)

    order = uniform(0, 1, 3).argsort(dim=1)
    crops = crops.gather(1, order[:, :, None, None].expand_as(crops))
    crops = 255 * (crops / 255).clamp(1e-3, 1) ** (0.3 * normal(1, 1, 1)).exp()
    crops = torch.where(uniform(0, 1, 1, 1, 1) < GREY_SHARE, crops.mean(dim=1, keepdim=True), crops)
    crops = torch.where(uniform(0, 1, 1, 1, 1) < NEGATIVE_SHARE, 255 - crops, crops)
    crops = crops * (0.25 * normal(3, 1, 1)).exp() + 15 * normal(3, 1, 1)
    return crops + uniform(0, 12, 1, 1, 1) * normal(*crops.shape[1:])


def _ellipse(points: Tensor, half: Tensor) -> Tensor:
    """Opacity ``(N, 1, radii, directions)`` of ellipses with half axes ``(N, 2)``, with a soft rim."""
    distance: Tensor = torch.linalg.vector_norm(points / half[:, None, None], dim=-1)
    return ((1 + SOFTNESS - distance) / (2 * SOFTNESS)).clamp(0, 1)[:, None]


def _disc(points: Tensor, half: Tensor, where: Tensor, radius: Tensor) -> Tensor:
    """What a disc near the person hides, ``(N, 1, radii, directions)``; none where its radius is not above 0."""
    middle = 0.6 * where * half
    radius = (radius * half.amax(dim=1))[:, None, None]
    distance: Tensor = torch.linalg.vector_norm(points - middle[:, None, None], dim=-1)
    return (distance < radius).to(points.dtype)[:, None]


def _longer_half(half: Tensor, turn: Tensor) -> Tensor:
    """Half the longer side of the box around an ellipse ``(N, 2)`` that is turned by ``(N,)`` degrees."""
    cos, sin = torch.deg2rad(turn).cos(), torch.deg2rad(turn).sin()
    across = torch.hypot(half[:, 0] * cos, half[:, 1] * sin)
    down = torch.hypot(half[:, 0] * sin, half[:, 1] * cos)
    return torch.maximum(across, down)


def _half_extents(boxes: Tensor) -> Tensor:
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=LEAST_RADIUS)
    return half / (MARGIN * half.amax(dim=1, keepdim=True))


def _pieces(frames: Tensor, generator: torch.Generator) -> Tensor:
    """``PIECES`` random squares of each frame ``(B, 3, H, W)``."""
    count, _, height, width = frames.shape
    picture = torch.arange(count).repeat(PIECES)
    low, high = (part * min(height, width) for part in PIECE_RADII)
    half = torch.rand(len(picture), generator=generator) * (high - low) + low
    centre = torch.rand(len(picture), 2, generator=generator) * torch.tensor([float(width), float(height)])
    device = frames.device
    return square_patches(frames, centre.to(device), half.to(device), picture.to(device))


def _first(clips: Iterable[ClipBatch], most: int | None) -> Iterable[ClipBatch]:
    seen = 0
    for batch in clips:
        if most is not None and seen >= most:
            return
        seen += len(batch)
        yield batch


def _bytes(frames: Tensor) -> Tensor:
    """Frames in 0…255, also those that are normalised already."""
    from microg_da.models.backbone import MEAN, STD

    return (frames * STD + MEAN) * 255 if frames.is_floating_point() else frames


def _as_bytes(patches: Tensor) -> Tensor:
    return patches.round().clamp(0, 255).to(torch.uint8)
