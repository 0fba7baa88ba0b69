"""Densities of up on the circle: mass around an angle, product over people, most likely angles.

Densities are log-probabilities ``(K, R)`` at R angles that are evenly spaced from 0, in degrees, clockwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

COVERED = 60.0
"""The smallest distance in degrees between candidate rolls of a clip."""
AGREES = 0.1
"""The smallest density of each person at the common mode, as a fraction of the uniform density."""
_CONCENTRATION = 12.0
"""Concentration of the von Mises window (about 17°) over which the mass around a roll is computed."""


def pool_agreeing(log_density: Tensor, clip_index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Multiply the densities of people who share an up.

    People of a clip agree if the density of each person at the mode of the product is at least a tenth of the uniform
    density. A person with an ambiguous up then follows the others. If people do not agree, they keep separate
    densities.

    Args:
        log_density: ``(K, R)``.
        clip_index: ``(K,)``.
        count: B.

    Returns:
        Densities ``(K, R)``, and ``(K,)`` bool: whether the density of a person is that of the clip.
    """
    if not len(log_density):
        return log_density, clip_index.bool()
    bins = log_density.shape[1]
    pooled = log_density.new_zeros(count, bins).index_add_(0, clip_index, log_density).log_softmax(dim=1)[clip_index]
    mode = pooled.argmax(dim=1, keepdim=True)
    fits = log_density.gather(1, mode)[:, 0] >= math.log(AGREES / bins)
    strangers = torch.zeros(count, dtype=torch.int64, device=fits.device).index_add_(0, clip_index, (~fits).long())
    agree = strangers[clip_index] == 0
    return torch.where(agree[:, None], pooled, log_density), agree


def candidate_rolls(
    log_density: Tensor, clip_index: Tensor, count: int, *, max_rolls: int, min_mass: float, gate_angle: float
) -> Tensor:
    """Return candidate rolls ``(B, max_rolls)`` of each clip in degrees, padded with NaN.

    The search is greedy: the most probable roll for all people of the clip, then the most probable roll outside the
    neighbourhood of earlier rolls, as long as any person has enough mass there.

    Args:
        log_density: ``(K, R)``.
        clip_index: ``(K,)``.
        count: B.
        max_rolls: largest number of rolls of a clip.
        min_mass: smallest mass around a further roll, for any person of the clip.
        gate_angle: in degrees; rolls nearer to 0 are set to 0.
    """
    bins = log_density.shape[1]
    left = log_density.exp()
    angles = torch.arange(bins, device=left.device) * (360 / bins)
    rolls = left.new_full((count, max_rolls), math.nan)
    window = _window(bins, left)
    for view in range(max_rolls):
        mass = (left[:, :, None] * window).sum(dim=1)  # a matrix product would lose precision under autocast
        together = left.new_zeros(count, bins).index_add_(0, clip_index, mass)
        best = together.argmax(dim=1)
        here = mass.gather(1, best[clip_index, None])[:, 0]
        most = left.new_zeros(count).scatter_reduce(0, clip_index, here, "amax")
        # The first roll is always a candidate. After the first rejected roll, all others are rejected.
        wanted = (most >= min_mass) & ~rolls[:, view - 1].isnan() if view else torch.ones_like(most, dtype=torch.bool)
        roll = _refine(together, best)
        roll = torch.where((torch.remainder(roll + 180, 360) - 180).abs() <= gate_angle, 0.0, roll)
        rolls[:, view] = torch.where(wanted, roll, math.nan)
        distance = (torch.remainder(angles[None] - angles[best][:, None] + 180, 360) - 180).abs()
        left = left.masked_fill((distance <= COVERED)[clip_index], 0.0)
    return rolls


def mass_at(log_density: Tensor, degrees: Tensor) -> Tensor:
    """Return the mass ``(K,)`` of densities ``(K, R)`` in a window around one angle per person."""
    bins = log_density.shape[1]
    angles = torch.arange(bins, device=log_density.device) * (360 / bins)
    weights = (_CONCENTRATION * ((torch.deg2rad(angles - degrees[:, None])).cos() - 1)).exp()
    return (log_density.exp() * weights).sum(dim=1).clamp(min=1e-12)


def _window(bins: int, like: Tensor) -> Tensor:
    angles = torch.arange(bins, device=like.device, dtype=like.dtype) * (2 * math.pi / bins)
    return (_CONCENTRATION * ((angles - angles[:, None]).cos() - 1)).exp()


def _refine(heights: Tensor, best: Tensor) -> Tensor:
    """Return the vertex in degrees of the parabola through the largest bin and its neighbours."""
    bins = heights.shape[1]
    before, here, after = (heights.gather(1, torch.remainder(best + step, bins)[:, None])[:, 0] for step in (-1, 0, 1))
    curvature = before - 2 * here + after
    offset = torch.where(curvature < 0, (before - after) / (2 * curvature.clamp(max=-1e-12)), 0.0)
    return (best + offset.clamp(-0.5, 0.5)) * (360 / bins)
