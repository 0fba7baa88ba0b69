"""Augmentation of batches of frames and boxes: zoom, flip and roll in one resampling, and colour.

Transforms of torchvision draw one set of parameters per call, so each clip would need several resamplings. They fill
rotated corners with a colour from which a network could infer the angle. Here each clip has one affine map of positions
and one of colours, and corners are filled from the picture.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from microg_da.config import AugmentConfig
from microg_da.errors import InputError
from microg_da.transforms.affine import GREY, clip_boxes, linear_map, move_boxes, resample
from microg_da.transforms.rotation import draw_roll, roll_map, spin_through
from microg_da.transforms.stored_frames import is_stored
from microg_da.types import AnyBatch

LUMINANCE = (0.299, 0.587, 0.114)


def augment_training_batch(
    batch: AnyBatch, config: AugmentConfig, turn: Tensor | None = None, generator: torch.Generator | None = None
) -> AnyBatch:
    """Augment a batch of a training step like :func:`augment_batch`, without zoom if decoding has applied it.

    Clips of a feature store were augmented before encoding and do not change.

    Raises:
        InputError: if ``turn`` is given for clips of a feature store.
    """
    if is_stored(batch.frames):
        if turn is not None:
            raise InputError(
                "data.feature_store: the store has no clips at the angles of a method. Set data.feature_store=null."
            )
        return batch
    config = replace(config, scale=[1.0, 1.0]) if batch.zoomed else config
    return augment_batch(batch, config, generator, turn)


def augment_batch(
    batch: AnyBatch, config: AugmentConfig, generator: torch.Generator | None = None, turn: Tensor | None = None
) -> AnyBatch:
    """Zoom, flip, roll and recolour each clip of a batch, with the same parameters for all frames of a clip.

    Args:
        batch: frames ``(B, 3, T, H, W)`` uint8.
        config: the strength of each augmentation.
        generator: a CPU random generator; None for the default generator of torch.
        turn: ``(B,)`` degrees by which each clip is first turned clockwise, in the same resampling; None for no turn.

    Returns:
        The batch with uint8 frames of the same shape and with mapped boxes, clipped to the image. With
        ``min_visibility``, people who are not visible enough are removed with their labels.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(batch), generator=generator) * (high - low) + low

    zoom = torch.exp(uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    flip = uniform(0, 1) < config.flip
    matrix = linear_map(zoom, flip, torch.deg2rad(draw_roll(len(batch), config, generator)))
    if turn is not None:
        matrix = matrix @ roll_map(turn.cpu()).to(matrix)
    colour = colour_map(*(uniform(1 - config.colour, 1 + config.colour) for _ in range(3)))
    length, *size = batch.frames.shape[2:]
    # Boxes belong to the keyframe, which a spin does not turn.
    each_frame = matrix
    if config.rotation_spin:
        spin = spin_through(length, uniform(-config.rotation_spin, config.rotation_spin))
        each_frame = roll_map(spin).to(matrix) @ matrix[:, None]
    frames = resample(batch.frames, each_frame, colour, config.rotation_fill)
    moved = move_boxes(batch.boxes, batch.clip_index, matrix, size, config.rotation_box, clip=False)
    boxes = clip_boxes(moved, size)
    batch = replace(batch, frames=frames, boxes=boxes)
    if config.min_visibility:
        batch = batch.take_people(_areas(boxes) >= config.min_visibility * _areas(moved))
    return batch


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def colour_map(brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Return ``(B, 3, 4)`` affine maps of colour: saturation, then contrast, then brightness.

    Args:
        brightness: ``(B,)`` factor on all values.
        contrast: ``(B,)`` factor on the distance from mid-grey.
        saturation: ``(B,)`` factor on the distance of a pixel from its own luminance.
    """
    saturation, contrast, brightness = (gain.view(-1, 1, 1) for gain in (saturation, contrast, brightness))
    mix = saturation * torch.eye(3) + (1 - saturation) * torch.tensor(LUMINANCE).expand(3, 3)
    offset = (1 - contrast) * GREY * torch.ones(1, 3, 1)
    return brightness * torch.cat([contrast * mix, offset], dim=2)
