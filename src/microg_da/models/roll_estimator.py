"""Estimator of a person's up: a density over angles, from a crop that is sampled in polar coordinates.

A rotation of the image about the crop's centre is a cyclic shift of the polar crop, and circular convolutions map a
shift of their input to a shift of their output. The network is therefore equivariant by construction: if a person is
turned by k · 360°/R, the density moves by k bins. It does not need training examples at every angle.

Angles are in degrees, clockwise as seen. 0 is the top of the picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.models.person_patches import MARGIN
from microg_da.models.up_estimator import UpEstimator

OVERSAMPLING = 2
"""Number of directions of a polar crop for each bin of the density."""


class PolarLens:
    """Rings and directions of a circle.

    Args:
        radii: number of rings.
        directions: number of directions, clockwise from the top.
    """

    def __init__(self, radii: int, directions: int) -> None:
        self.radii = radii
        self.directions = directions

    def grid(self, turn: Tensor) -> Tensor:
        """Return points ``(N, radii, directions, 2)``, see :func:`polar_grid`."""
        return polar_grid(self.radii, self.directions, turn)

    def mirror(self, crops: Tensor) -> Tensor:
        """See :func:`mirror`."""
        return mirror(crops)


class RollEstimator(UpEstimator):
    """A small network that maps polar crops of people to the log-density of their up over R angles.

    Args:
        bins: R, the number of angles, evenly spaced from 0.
        radii: number of rings of a crop, a multiple of 8.
        width: channels of the first layer. The last layers have four times as many.

    Polar sampling follows Esteves et al., "Polar Transformer Networks", ICLR 2018. A small equivariant network that
    turns the input of a larger one is the subject of Kaba et al., "Equivariance with learned canonicalization
    functions", ICML 2023.
    """

    def __init__(self, bins: int = 36, radii: int = 16, width: int = 16) -> None:
        super().__init__(bins)
        self.radii = radii
        self.lens = PolarLens(radii, OVERSAMPLING * bins)
        wide = 4 * width
        self.rings = nn.Sequential(
            _Wrapped2d(3, width, stride=(1, 1)),
            _Wrapped2d(width, 2 * width, stride=(2, OVERSAMPLING)),
            _Wrapped2d(2 * width, wide, stride=(2, 1)),
            _Wrapped2d(wide, wide, stride=(2, 1)),
        ).to(memory_format=torch.channels_last)
        # All rings of one direction become one vector. The following layers convolve around the circle.
        self.join = nn.Conv2d(wide, wide, (radii // 8, 1))
        self.around = nn.Sequential(*(_Around(wide, dilation) for dilation in (1, 2, 4)))
        self.score = nn.Conv1d(wide, 1, 1)

    def decode(self, encoded: Tensor) -> Tensor:
        """Return log-densities ``(N, R)`` of polar crops ``(N, 3, radii, 2 R)``, see :func:`polar_crops`."""
        crops = standardise(encoded).contiguous(memory_format=torch.channels_last)
        features = self.around(self.join(self.rings(crops)).squeeze(2))
        scores: Tensor = self.score(F.relu(features))
        return scores.squeeze(1).log_softmax(dim=1)

    def symmetric(self, crops: Tensor) -> Tensor:
        """Return the geometric mean of :meth:`forward` for the crop and for its mirror image, mirrored back."""
        both = self.forward(torch.cat([crops, mirror(crops)]))
        as_is, mirrored = both.chunk(2)
        return ((as_is + mirror(mirrored)) / 2).log_softmax(dim=1)

    def crops(self, patches: Tensor) -> Tensor:
        """Return the polar crops ``(K, 3, radii, 2 R)`` of people's patches ``(K, 3, S, S)``."""
        centre = patches.new_zeros(len(patches), 2, dtype=torch.float32)
        radius = torch.full_like(centre[:, 0], 1 / MARGIN)
        return polar_crops(patches, centre, radius, self.radii, OVERSAMPLING * self.bins)


class _Wrapped2d(nn.Module):
    """Convolution over rings and directions. Directions wrap around; the first and the last ring are repeated."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.norm = nn.GroupNorm(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        # This has half the cost of F.pad, whose circular mode copies slice by slice.
        x = torch.cat([x[..., -1:], x, x[..., :1]], dim=-1)
        x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], dim=-2)
        return F.relu(self.norm(self.convolution(x)))


class _Around(nn.Module):
    """Residual convolution around the circle."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.convolution = nn.Conv1d(width, width, 5, dilation=dilation, bias=False)
        self.norm = nn.GroupNorm(4, width)

    def forward(self, x: Tensor) -> Tensor:
        around: Tensor = self.norm(self.convolution(F.pad(F.relu(x), (self.reach, self.reach), mode="circular")))
        return x + around


def standardise(crops: Tensor) -> Tensor:
    """Scale each crop to mean 0 and standard deviation 1 over all pixels and colours."""
    flat = crops.flatten(1)
    shape = (-1, *[1] * (crops.dim() - 1))
    mean, deviation = flat.mean(dim=1).view(shape), flat.std(dim=1).clamp(min=1e-3).view(shape)
    return (crops - mean) / deviation


def mirror(around: Tensor) -> Tensor:
    """Mirror directions ``(…, N)`` as for a horizontally mirrored picture: angle a becomes −a."""
    return around.flip(-1).roll(1, -1)


def polar_grid(radii: int, directions: int, turn: Tensor) -> Tensor:
    """Return points ``(N, radii, directions, 2)`` in a circle of radius 1, with x to the right and y down.

    Args:
        radii: number of rings; the innermost is half a step from the centre.
        directions: number of directions, clockwise from the top.
        turn: ``(N,)`` degrees by which all directions are turned clockwise.
    """
    rings = (torch.arange(radii, device=turn.device) + 0.5) / radii
    angles = torch.arange(directions, device=turn.device) * (2 * math.pi / directions) + torch.deg2rad(turn)[:, None]
    unit = torch.stack([angles.sin(), -angles.cos()], dim=-1)
    return rings[None, :, None, None] * unit[:, None]


def polar_crops(
    patches: Tensor, centre: Tensor, radius: Tensor, radii: int, directions: int, turn: Tensor | None = None
) -> Tensor:
    """Sample circles of patches in polar coordinates ``(N, 3, radii, directions)`` with bilinear interpolation.

    Args:
        patches: ``(N, 3, S, S)``.
        centre: ``(N, 2)``; −1 and 1 are the borders of the patch.
        radius: ``(N,)`` in the same unit.
        radii: number of rings.
        directions: number of directions, clockwise from the top.
        turn: ``(N,)`` degrees by which the picture is turned clockwise before sampling; None for no turn.
    """
    turn = torch.zeros_like(radius) if turn is None else turn
    points = centre[:, None, None] + radius[:, None, None, None] * polar_grid(radii, directions, -turn)
    return F.grid_sample(patches.float(), points, padding_mode="reflection", align_corners=False)
