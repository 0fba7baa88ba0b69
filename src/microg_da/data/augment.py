"""Augmentation of whole batches: zoom, flip and roll in one resampling, frames and boxes together, and colour.

torchvision's transforms draw one set of parameters a call, so a batch would need several resamplings for each clip;
and they fill rotated corners with a colour from which a network could read the angle. Here each clip has one affine
map of the plane and one of colour, and corners are filled by reflection. On an accelerator all clips are resampled in
one call; on the CPU, where that call would cost more than the training step of a small network, OpenCV does it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.config import AugmentConfig
from microg_da.data.clips import ClipBatch

MID_GREY = 0.45 * 255
"""Contrast is the distance from this value: the mean that networks subtract."""

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


def plane_map(zoom: Tensor, flip: Tensor, roll: Tensor) -> Tensor:
    """``(B, 2, 2)`` maps of the image plane about its centre: zoom, then mirror, then turn.

    Args:
        zoom: ``(B,)``, above 1 enlarges.
        flip: ``(B,)`` bool, mirror left and right.
        roll: ``(B,)`` radians, clockwise as seen (y points down).
    """
    mirror = torch.where(flip, -1.0, 1.0)
    cos, sin = torch.cos(roll), torch.sin(roll)
    rows = [torch.stack([cos * mirror, -sin], dim=1), torch.stack([sin * mirror, cos], dim=1)]
    return torch.stack(rows, dim=1) * zoom.view(-1, 1, 1)


def colour_map(brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """``(B, 3, 4)`` affine maps of colour: saturation (distance from grey), then contrast, then brightness.

    Args:
        brightness: ``(B,)`` factor on all values.
        contrast: ``(B,)`` factor on the distance from mid-grey.
        saturation: ``(B,)`` factor on the distance of a pixel from its own luminance.
    """
    saturation, contrast, brightness = (gain.view(-1, 1, 1) for gain in (saturation, contrast, brightness))
    mix = saturation * torch.eye(3) + (1 - saturation) * torch.tensor(LUMINANCE).expand(3, 3)
    offset = (1 - contrast) * MID_GREY * torch.ones(1, 3, 1)
    return brightness * torch.cat([contrast * mix, offset], dim=2)


def move_boxes(boxes: Tensor, clip_index: Tensor, plane: Tensor, size: Sequence[int]) -> Tensor:
    """Boxes after their clips were mapped, clipped to the image.

    A moved box is the tightest axis-aligned box of the mapped ellipse that the old box encloses: it stays close to
    a body, where the box of the turned rectangle grows by up to half. At multiples of 90° both are exact.

    Args:
        boxes: ``(K, 4)`` pixels xyxy.
        clip_index: ``(K,)``.
        plane: ``(B, 2, 2)``, see :func:`plane_map`.
        size: height and width of the frames.
    """
    height, width = size
    centre = boxes.new_tensor([width / 2, height / 2])
    per_box = plane.to(boxes)[clip_index]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - centre
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = torch.einsum("kij,kj->ki", per_box, middle) + centre
    # Half extents of an ellipse with semi-axes `half` under a linear map: the row norms of map · diag(half).
    half = torch.linalg.vector_norm(per_box * half[:, None, :], dim=2)
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(torch.cat([middle - half, middle + half], dim=1).clamp(min=0), limits)


def resample(frames: Tensor, plane: Tensor, colour: Tensor) -> Tensor:
    """Recolour every pixel, then map the plane, bilinearly, reflecting at the border.

    Args:
        frames: ``(B, 3, T, H, W)`` uint8.
        plane: ``(B, 2, 2)``, see :func:`plane_map`.
        colour: ``(B, 3, 4)``, see :func:`colour_map`.
    """
    on_this_device = _resample_by_opencv if frames.device.type == "cpu" else _resample_by_torch
    return on_this_device(frames, plane, colour)


def _resample_by_opencv(frames: Tensor, plane: Tensor, colour: Tensor) -> Tensor:
    height, width = frames.shape[-2:]
    out = np.empty(frames.shape, dtype=np.uint8)
    # OpenCV counts from the middle of the first pixel.
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    pairs = zip(frames.numpy(), plane.double().numpy(), colour.double().numpy(), strict=True)
    for index, (clip, linear, mix) in enumerate(pairs):
        pixels = np.ascontiguousarray(clip.transpose(1, 2, 3, 0))
        pixels = cv2.transform(pixels.reshape(-1, width, 3), mix).reshape(pixels.shape)
        matrix = np.column_stack([linear, centre - linear @ centre])
        moved = [cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT) for frame in pixels]
        out[index] = np.stack(moved).transpose(3, 0, 1, 2)
    return torch.from_numpy(out)


def _resample_by_torch(frames: Tensor, plane: Tensor, colour: Tensor) -> Tensor:
    count, channels, length, height, width = frames.shape
    plane, colour = plane.to(frames.device), colour.to(frames.device)
    mixed = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], frames.reshape(count, channels, -1).float())
    flat = mixed.clamp_(0, 255).view(count, channels * length, height, width)
    # grid_sample counts from -1 to 1 in each direction, so that a map in pixels is conjugated by the half sizes.
    size = plane.new_tensor([width / 2, height / 2])
    inverse = torch.linalg.inv(plane) * size[None, None, :] / size[None, :, None]
    grid = F.affine_grid(F.pad(inverse, (0, 1)), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False)
    return moved.round_().to(torch.uint8).view(frames.shape)
