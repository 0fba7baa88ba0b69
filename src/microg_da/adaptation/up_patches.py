"""Training crops for an up estimator: people of one domain over patches of the other, turned by known angles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.base import limit_clips
from microg_da.errors import InputError
from microg_da.models.backbone import denormalise
from microg_da.models.person_patches import LEAST_RADIUS, MARGIN, PATCH, middle_frames, person_patches, square_patches
from microg_da.models.up_estimator import Lens
from microg_da.types import ClipBatch

PIECES = 2
"""The number of random patches of each target frame for backgrounds."""
PIECE_RADII = (0.08, 0.42)
"""Half the side of a background patch, as a fraction of the shorter side of the frame."""
SOFTNESS = 0.15
"""Half the width of the soft edge of an ellipse, as a fraction of its half axes."""
RIM = (0.8, 1.1)
"""Half axes of the pasted ellipse, as a fraction of those of the box."""
HIDDEN = (-0.5, 0.5)
"""Radius of the occluding disc, as a fraction of half the longer side. Half of the crops have no disc."""
GREY_SHARE, NEGATIVE_SHARE = 0.15, 0.3
"""The fractions of crops that become grey and that are inverted."""


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
    frames_per_clip: int,
    max_clips: int | None = None,
    size: int = PATCH,
) -> PeoplePatches:
    """Collect patches of people and backgrounds in one pass over both domains.

    Args:
        source: clips in which people are upright.
        target: clips for backgrounds.
        generator: a CPU generator for the positions of background patches.
        frames_per_clip: frames of each clip.
        max_clips: largest number of clips of each domain; None for all.
        size: side of a patch in pixels.

    Raises:
        InputError: if the source clips contain no people, or the target has no clips.
    """
    people, half, backgrounds = [], [], []
    for batch in limit_clips(source, max_clips):
        for frame in middle_frames(batch.frames.shape[2], frames_per_clip):
            frames = denormalise(batch.frames[:, :, frame])
            people.append(as_bytes(person_patches(frames, batch.boxes, batch.clip_index, size)))
            half.append(half_extents(batch.boxes))
    for batch in limit_clips(target, max_clips):
        numbers = middle_frames(batch.frames.shape[2], frames_per_clip)
        seen = (denormalise(batch.frames[:, :, number]) for number in numbers)
        backgrounds += [as_bytes(_pieces(frames, generator, size)) for frames in seen]
    if not sum(map(len, people)):
        raise InputError(
            "the up estimator is trained on people in source clips, but these contain none. Check data.source."
        )
    if not backgrounds:
        raise InputError(
            "the up estimator needs target clips for backgrounds, but the target has none. Check data.target."
        )
    extents = torch.cat(half)
    return PeoplePatches(torch.cat(people), torch.zeros_like(extents[:, 0]), extents, torch.cat(backgrounds))


def compose(
    patches: PeoplePatches, count: int, lens: Lens, generator: torch.Generator, *, keep_colours: bool = False
) -> tuple[Tensor, Tensor]:
    """Crops of random people over random backgrounds, turned at random.

    Args:
        patches: people and backgrounds.
        count: N.
        lens: the sampling of the circle around a person.
        generator: a CPU generator.
        keep_colours: change only brightness and tint; see :func:`relight` and :func:`recolour`.

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
    """Change gains, offsets, gamma and the order of colours; make some crops inverted or grey; add noise.

    Brightness of clothes must not indicate up: trousers that are dark on Earth may be white in orbit.
    """
    order = draw.uniform(0, 1, 3).argsort(dim=1)
    crops = crops.gather(1, order[:, :, None, None].expand_as(crops))
    crops = 255 * (crops / 255).clamp(1e-3, 1) ** (0.3 * draw.normal(1, 1, 1)).exp()
    crops = torch.where(draw.uniform(0, 1, 1, 1, 1) < GREY_SHARE, crops.mean(dim=1, keepdim=True), crops)
    crops = torch.where(draw.uniform(0, 1, 1, 1, 1) < NEGATIVE_SHARE, 255 - crops, crops)
    crops = crops * (0.25 * draw.normal(3, 1, 1)).exp() + 15 * draw.normal(3, 1, 1)
    return crops + draw.uniform(0, 12, 1, 1, 1) * draw.normal(*crops.shape[1:])


def relight(crops: Tensor, draw: _Draws) -> Tensor:
    """Change brightness and tint only, since pretrained features expect natural colours."""
    return crops * (0.2 * draw.normal(1, 1, 1)).exp() + 15 * draw.normal(3, 1, 1)


def _sample(patches: Tensor, points: Tensor) -> Tensor:
    return F.grid_sample(patches.float(), points, padding_mode="reflection", align_corners=False)


def _ellipse(points: Tensor, half: Tensor) -> Tensor:
    """Return the opacity ``(N, 1, a, b)`` of ellipses with half axes ``(N, 2)`` and soft edges."""
    distance: Tensor = torch.linalg.vector_norm(points / half[:, None, None], dim=-1)
    return ((1 + SOFTNESS - distance) / (2 * SOFTNESS)).clamp(0, 1)[:, None]


def _disc(points: Tensor, half: Tensor, where: Tensor, radius: Tensor) -> Tensor:
    """Return the area ``(N, 1, a, b)`` that a disc near the person occludes; empty if the radius is not above 0."""
    middle = 0.6 * where * half
    radius = (radius * half.amax(dim=1))[:, None, None]
    distance: Tensor = torch.linalg.vector_norm(points - middle[:, None, None], dim=-1)
    return (distance < radius).to(points.dtype)[:, None]


def _longer_half(half: Tensor, turn: Tensor) -> Tensor:
    """Return half the longer side of the box around an ellipse ``(N, 2)`` turned by ``(N,)`` degrees."""
    cos, sin = torch.deg2rad(turn).cos(), torch.deg2rad(turn).sin()
    across = torch.hypot(half[:, 0] * cos, half[:, 1] * sin)
    down = torch.hypot(half[:, 0] * sin, half[:, 1] * cos)
    return torch.maximum(across, down)


def half_extents(boxes: Tensor) -> Tensor:
    """Return the half width and half height ``(K, 2)`` of boxes, in units of half the patch side."""
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=LEAST_RADIUS)
    return half / (MARGIN * half.amax(dim=1, keepdim=True))


def _pieces(frames: Tensor, generator: torch.Generator, size: int) -> Tensor:
    """Return ``PIECES`` random squares of each frame ``(B, 3, H, W)``."""
    count, _, height, width = frames.shape
    picture = torch.arange(count).repeat(PIECES)
    low, high = (part * min(height, width) for part in PIECE_RADII)
    half = torch.rand(len(picture), generator=generator) * (high - low) + low
    centre = torch.rand(len(picture), 2, generator=generator) * torch.tensor([float(width), float(height)])
    device = frames.device
    return square_patches(frames, centre.to(device), half.to(device), picture.to(device), size)


def as_bytes(patches: Tensor) -> Tensor:
    """Convert patches in 0…255 to uint8."""
    return patches.round().clamp(0, 255).to(torch.uint8)
