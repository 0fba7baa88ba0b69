"""Camera roll: rotation of frames and boxes about the centre of the picture.

In microgravity people are not upright, so the roll of clips varies. Corners are never black, because a network could
infer the angle from black corners.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from microg_da.config import AugmentConfig
from microg_da.errors import InputError
from microg_da.transforms.affine import cut_circle, move_boxes, resample
from microg_da.transforms.stored_frames import is_stored
from microg_da.types import AnyBatch


def roll_batch(batch: AnyBatch, degrees: Tensor | float, *, box: str = "ellipse", fill: str = "reflect") -> AnyBatch:
    """Turn every clip of a batch about its centre by a given angle.

    Labels and ``table_boxes`` remain those of the original clip, so that predictions on a rolled batch are scored like
    other predictions.

    Args:
        batch: frames ``(B, 3, T, H, W)``, uint8 or float, on any device.
        degrees: angles in degrees clockwise; one angle for all clips, or ``(B,)``.
        box: see :func:`~microg_da.transforms.affine.move_boxes`.
        fill: see :func:`~microg_da.transforms.affine.resample`.

    Returns:
        The batch with frames of the same shape and with mapped boxes, clipped to the image. Multiples of 90° reorder
        the pixels of square frames without interpolation. For other frames this holds for multiples of 180° only: a
        quarter turn keeps the shape of the frame, so it crops two sides and fills the other two.

    Raises:
        InputError: for an unknown ``box`` or ``fill``.
    """
    degrees = torch.as_tensor(degrees, dtype=torch.float64, device="cpu").expand(len(batch))
    size = batch.frames.shape[-2:]
    boxes = move_boxes(batch.boxes, batch.clip_index, roll_map(degrees), size, box)
    return replace(batch, frames=roll_frames(batch.frames, degrees, fill=fill), boxes=boxes)


def even_rolls(batch: AnyBatch, rolls: int) -> list[AnyBatch]:
    """Return a batch at ``rolls`` evenly spaced angles, the first of which is 0; see :func:`roll_batch`.

    For square frames and a multiple of four angles, only a quarter of the angles is resampled. The others are exact
    quarter turns.
    """
    height, width = batch.frames.shape[-2:]
    quarter = rolls // 4 if height == width and rolls % 4 == 0 else rolls
    views = [batch]
    for turn in range(1, rolls):
        if turn < quarter:
            views.append(roll_batch(batch, 360 * turn / rolls))
            continue
        degrees = torch.full((len(batch),), 360 * turn / rolls, dtype=torch.float64)
        # Boxes are computed from the original boxes, because boxes that are turned twice would be clipped twice.
        boxes = move_boxes(batch.boxes, batch.clip_index, roll_map(degrees), (height, width))
        frames = roll_frames(views[turn - quarter].frames, torch.full_like(degrees, 90))
        views.append(replace(batch, frames=frames, boxes=boxes))
    return views


def roll_frames(frames: Tensor, degrees: Tensor, *, fill: str = "reflect") -> Tensor:
    """Turn the frames ``(B, 3, T, H, W)`` of each clip by its angle of ``degrees`` ``(B,)``; see :func:`roll_batch`."""
    if is_stored(frames):
        if fill != "reflect":
            raise InputError(f"data.feature_store: fill={fill!r} is not available, because stored rolls use reflect.")
        return cast("Tensor", frames.rolled(degrees))
    height, width = frames.shape[-2:]
    exact = torch.remainder(degrees, 90 if height == width else 180) == 0
    turns = torch.where(exact, torch.remainder(-degrees / 90, 4), torch.nan)
    if bool(exact.all()) and len(set(turns.tolist())) == 1:
        return _quarter_turns(frames, int(turns[0]), fill)
    if not bool(exact.any()):
        return resample(frames, roll_map(degrees), fill=fill)
    out = torch.empty_like(frames)
    for quarter in range(4):
        if bool((chosen := turns == quarter).any()):
            chosen = chosen.to(frames.device)
            out[chosen] = _quarter_turns(frames[chosen], quarter, fill)
    if not bool(exact.all()):
        chosen = ~exact.to(frames.device)
        out[chosen] = resample(frames[chosen], roll_map(degrees[~exact]), fill=fill)
    return out


def roll_map(degrees: Tensor) -> Tensor:
    """Return ``(…, 2, 2)`` maps of the image plane that turn it clockwise, without rounding at multiples of 90°."""
    radians = torch.deg2rad(degrees.double())
    cos, sin = radians.cos(), radians.sin()
    quarter = torch.remainder(degrees, 90) == 0
    cos, sin = (torch.where(quarter, value.round(), value) for value in (cos, sin))
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


def draw_roll(count: int, config: AugmentConfig, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``(count,)`` random angles in degrees, by ``config.rotation_distribution``.

    Args:
        count: number of angles.
        config: the distribution and its parameters.
        generator: a CPU random generator; None for the default generator of torch.
    """
    if config.rotation_distribution == "von_mises":
        # The sampler of torch does not accept a generator, so numpy's generator is seeded by one draw.
        seed = int(torch.randint(2**62, (), generator=generator))
        mean = np.deg2rad(config.rotation_mean)
        radians = np.random.default_rng(seed).vonmises(mean, config.rotation_concentration, count)
        return torch.rad2deg(torch.from_numpy(radians).float())
    if config.rotation_distribution == "fixed":
        angles = torch.tensor(config.rotation_angles)
        return angles[torch.randint(len(angles), (count,), generator=generator)]
    low, high = -config.rotation, config.rotation
    return torch.rand(count, generator=generator) * (high - low) + low


def spin_through(length: int, spin: Tensor) -> Tensor:
    """Return the angle of every frame of a window with constant spin, relative to the keyframe ``length // 2``.

    Args:
        length: T, frames of the window.
        spin: ``(B,)`` degrees from the first frame to the last.

    Returns:
        ``(B, T)`` degrees.
    """
    places = torch.arange(length) - length // 2
    return spin[:, None] * places / max(length - 1, 1)


def _quarter_turns(frames: Tensor, turns: int, fill: str) -> Tensor:
    """Turn frames anticlockwise by quarter turns, as ``rot90`` does."""
    turned = torch.rot90(frames, turns, dims=(-2, -1))
    return cut_circle(turned) if fill == "circle" else turned
