"""Augmentation of whole batches: zoom, flip and roll in one resampling, frames and boxes together, and colour.

torchvision's transforms draw one set of parameters a call, so a batch would need several resamplings for each clip;
and they fill rotated corners with a colour from which a network could read the angle. Here each clip has one affine
map of the plane and one of colour, and corners are filled by reflection.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from microg_da.config import AugmentConfig
from microg_da.data.clips import ClipBatch
from microg_da.data.plane import GREY, move_boxes, plane_map, resample

LUMINANCE = (0.299, 0.587, 0.114)


def augment_batch(batch: ClipBatch, config: AugmentConfig, generator: torch.Generator | None = None) -> ClipBatch:
    """Zoom, flip, roll and recolour each clip of a batch; the same for all frames of a clip.

    Args:
        batch: frames ``(B, 3, T, H, W)`` uint8.
        config: how much of each.
        generator: a CPU generator to draw from; None for torch's own.

    Returns:
        The batch with uint8 frames of the same shape and boxes in their new places, clipped to the image.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(batch), generator=generator) * (high - low) + low

    zoom = torch.exp(uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    flip = uniform(0, 1) < config.flip
    roll = torch.deg2rad(uniform(-config.rotation, config.rotation))
    gains = (uniform(1 - config.colour, 1 + config.colour) for _ in range(3))
    plane, colour = plane_map(zoom, flip, roll), colour_map(*gains)
    frames = resample(batch.frames, plane, colour)
    return replace(batch, frames=frames, boxes=move_boxes(batch.boxes, batch.clip_index, plane, frames.shape[-2:]))


def colour_map(brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """``(B, 3, 4)`` affine maps of colour: saturation (distance from grey), then contrast, then brightness.

    Args:
        brightness: ``(B,)`` factor on all values.
        contrast: ``(B,)`` factor on the distance from mid-grey.
        saturation: ``(B,)`` factor on the distance of a pixel from its own luminance.
    """
    saturation, contrast, brightness = (gain.view(-1, 1, 1) for gain in (saturation, contrast, brightness))
    mix = saturation * torch.eye(3) + (1 - saturation) * torch.tensor(LUMINANCE).expand(3, 3)
    offset = (1 - contrast) * GREY * torch.ones(1, 3, 1)
    return brightness * torch.cat([contrast * mix, offset], dim=2)
