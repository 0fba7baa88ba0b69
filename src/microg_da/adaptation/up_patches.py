"""Training crops for an estimator of up: people of one domain over pieces of the other, rotated by known angles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import limit_clips
from microg_da.errors import InputError
from microg_da.models.backbone import denormalise
from microg_da.models.person_patches import LEAST_RADIUS, MARGIN, PATCH, look_at, person_patches, square_patches
from microg_da.models.up_estimator import Lens
from microg_da.types import ClipBatch

PIECES = 2
"""Random pieces of each target frame that serve as backgrounds."""
PIECE_RADII = (0.08, 0.42)
"""Half the side of a piece, in parts of the frame's shorter side."""
SOFTNESS = 0.15
"""Half the width of an ellipse's rim, in parts of its half axes."""
RIM = (0.8, 1.1)
"""Half axes of the pasted ellipse, in parts of those of the box."""
HIDDEN = (-0.5, 0.5)
"""Radius of the disc that hides a part of a person, in parts of half the longer side. One in two hides nothing."""
GREY_SHARE, NEGATIVE_SHARE = 0.15, 0.3
"""How many crops lose their colours, and how many become negatives."""


@dataclass
class PeoplePatches:
    """Training data of an estimator.

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


@torch.no_grad()
def collect_patches(
    source: Iterable[ClipBatch],
    target: Iterable[ClipBatch],
    generator: torch.Generator,
    *,
    looks: int,
    max_clips: int | None = None,
    size: int = PATCH,
) -> PeoplePatches:
    """Look at both domains once.

    Args:
        source: clips in which people are upright.
        target: clips whose pieces are backgrounds.
        generator: a CPU generator, of the places of the pieces.
        looks: frames of each clip.
        max_clips: of each domain; None for all.
        size: side of a patch in pixels.

    Raises:
        InputError: if there are no people in the source clips, or no target clip.
    """
    people, half, backgrounds = [], [], []
    for batch in limit_clips(source, max_clips):
        for frame in look_at(batch.frames.shape[2], looks):
            frames = denormalise(batch.frames[:, :, frame])
            people.append(as_bytes(person_patches(frames, batch.boxes, batch.clip_index, size)))
            half.append(half_extents(batch.boxes))
    for batch in limit_clips(target, max_clips):
        seen = (denormalise(batch.frames[:, :, frame]) for frame in look_at(batch.frames.shape[2], looks))
        backgrounds += [as_bytes(_pieces(frames, generator, size)) for frames in seen]
    if not sum(map(len, people)):
        raise InputError("up is learned from people in source clips, but these clips have none. Check data.source.")
    if not backgrounds:
        raise InputError("up is learned on backgrounds of target clips, but there is no target clip.")
    extents = torch.cat(half)
    return PeoplePatches(torch.cat(people), torch.zeros_like(extents[:, 0]), extents, torch.cat(backgrounds))


def compose(
    patches: PeoplePatches, count: int, lens: Lens, generator: torch.Generator, *, keep_colours: bool = False
) -> tuple[Tensor, Tensor]:
    """Crops of random people over random backgrounds, turned at random.

    Args:
        patches: people and backgrounds.
        count: N.
        lens: how the circle around a person is sampled.
        generator: a CPU generator.
        keep_colours: change brightness and tint only; see :func:`relight` and :func:`recolour`.

    Returns:
        Crops ``(N, 3, a, b)`` in 0…255, and ``(N,)`` the degrees by which each person's up is turned clockwise.
    """
    draw = _Draws(count, generator, patches.people.device)
    person, background = draw.indices(len(patches.people)), draw.indices(len(patches.backgrounds))
    half, turn = patches.half[person], draw.uniform(0, 360)
    centre = 0.07 * draw.normal(2) * half
    radius = _longer_half(half, turn) * draw.uniform(-0.15, 0.2).exp()
    points = centre[:, None, None] + radius[:, None, None, None] * lens.grid(-turn)
    crops = _sample(patches.people[person], points)
    behind = draw.uniform(0.7, 1.0)[:, None, None, None] * lens.grid(-draw.uniform(0, 360))
    opacity = _ellipse(points, half * draw.uniform(*RIM, 1))
    opacity = opacity * (1 - _disc(points, half, draw.normal(2), draw.uniform(*HIDDEN)))
    crops = opacity * crops + (1 - opacity) * _sample(patches.backgrounds[background], behind)
    mirrored = draw.uniform(0, 1) < 0.5
    crops = torch.where(mirrored.view(-1, 1, 1, 1), lens.mirror(crops), crops)
    degrees = patches.up[person] + turn
    crops = (relight if keep_colours else recolour)(crops, draw)
    return crops, torch.where(mirrored, -degrees, degrees)


class _Draws:
    """Random numbers for N crops, drawn on the CPU and moved to a device."""

    def __init__(self, count: int, generator: torch.Generator, device: torch.device) -> None:
        self.count = count
        self.generator = generator
        self.device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """``(N, *shape)``."""
        return (torch.rand(self.count, *shape, generator=self.generator) * (high - low) + low).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """``(N, *shape)``."""
        return torch.randn(self.count, *shape, generator=self.generator).to(self.device)

    def indices(self, below: int) -> Tensor:
        """``(N,)``."""
        return torch.randint(below, (self.count,), generator=self.generator).to(self.device)


def recolour(crops: Tensor, draw: _Draws) -> Tensor:
    """Other gains, offsets and gamma, colours in another order, some negatives, some grey, and noise.

    Clothes do not tell up from down: what is dark below on Earth may be white in orbit.
    """
    order = draw.uniform(0, 1, 3).argsort(dim=1)
    crops = crops.gather(1, order[:, :, None, None].expand_as(crops))
    crops = 255 * (crops / 255).clamp(1e-3, 1) ** (0.3 * draw.normal(1, 1, 1)).exp()
    crops = torch.where(draw.uniform(0, 1, 1, 1, 1) < GREY_SHARE, crops.mean(dim=1, keepdim=True), crops)
    crops = torch.where(draw.uniform(0, 1, 1, 1, 1) < NEGATIVE_SHARE, 255 - crops, crops)
    crops = crops * (0.25 * draw.normal(3, 1, 1)).exp() + 15 * draw.normal(3, 1, 1)
    return crops + draw.uniform(0, 12, 1, 1, 1) * draw.normal(*crops.shape[1:])


def relight(crops: Tensor, draw: _Draws) -> Tensor:
    """Other brightness and tint. Learnt features expect natural colours."""
    return crops * (0.2 * draw.normal(1, 1, 1)).exp() + 15 * draw.normal(3, 1, 1)


def _sample(patches: Tensor, points: Tensor) -> Tensor:
    return F.grid_sample(patches.float(), points, padding_mode="reflection", align_corners=False)


def _ellipse(points: Tensor, half: Tensor) -> Tensor:
    """Opacity ``(N, 1, a, b)`` of ellipses with half axes ``(N, 2)``, with a soft rim."""
    distance: Tensor = torch.linalg.vector_norm(points / half[:, None, None], dim=-1)
    return ((1 + SOFTNESS - distance) / (2 * SOFTNESS)).clamp(0, 1)[:, None]


def _disc(points: Tensor, half: Tensor, where: Tensor, radius: Tensor) -> Tensor:
    """The area that a disc near the person hides, ``(N, 1, a, b)``; none where its radius is not above 0."""
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


def half_extents(boxes: Tensor) -> Tensor:
    """Half width and half height ``(K, 2)`` of boxes, in halves of the side of the person's patch."""
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=LEAST_RADIUS)
    return half / (MARGIN * half.amax(dim=1, keepdim=True))


def _pieces(frames: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """``PIECES`` random squares of each frame ``(B, 3, H, W)``."""
    count, _, height, width = frames.shape
    picture = torch.arange(count).repeat(PIECES)
    low, high = (part * min(height, width) for part in PIECE_RADII)
    half = torch.rand(len(picture), generator=generator) * (high - low) + low
    centre = torch.rand(len(picture), 2, generator=generator) * torch.tensor([float(width), float(height)])
    device = frames.device
    return square_patches(frames, centre.to(device), half.to(device), picture.to(device), size)


def as_bytes(patches: Tensor) -> Tensor:
    """Patches in 0…255 as uint8."""
    return patches.round().clamp(0, 255).to(torch.uint8)
