"""Clips of single people: a square around each person, turned and enlarged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.errors import InputError
from microg_da.models.person_patches import LEAST_RADIUS, square_patches
from microg_da.transforms.affine import clip_boxes
from microg_da.transforms.rotation import roll_batch, roll_map
from microg_da.types import AnyBatch

CROP_SPREAD = 0.25
"""Largest logarithm of the random factor of the side of a crop in training."""


@dataclass
class CropSettings:
    """Settings of the crops that a detector sees instead of whole clips.

    Attributes:
        person_crop: the detector sees a square crop around each person instead of the whole clip. The value is the side
            of the square, in multiples of the longer side of the box. Null: whole clips. A crop removes most of the
            surroundings and enlarges small people. The detector processes one crop for each person, so the cost depends
            on the number of people.
        person_crop_size: side of the crops for the detector, in pixels.
    """

    person_crop: float | None = None
    person_crop_size: int = 160

    def check(self) -> None:
        """Check the settings.

        Raises:
            InputError: for a crop that is smaller than the person, or a side below 16 pixels.
        """
        if self.person_crop is not None and not self.person_crop >= 1:
            raise InputError(f"person_crop={self.person_crop}: expected null or a number of at least 1.")
        if self.person_crop_size < 16:
            raise InputError(f"person_crop_size={self.person_crop_size}: expected at least 16 pixels.")


def turned_view(batch: AnyBatch, turns: Tensor, settings: CropSettings) -> AnyBatch:
    """Return clips turned by ``(B,)`` degrees clockwise; with ``person_crop``, one turned crop for each person."""
    if settings.person_crop is None:
        return roll_batch(batch, turns)
    sides = torch.full((batch.num_boxes,), settings.person_crop)
    return person_crops(batch, turns[batch.clip_index.cpu()], sides, settings.person_crop_size)


def training_view(batch: AnyBatch, settings: CropSettings) -> AnyBatch:
    """Return a batch of a training step as the detector sees it: with ``person_crop``, crops of random size."""
    if settings.person_crop is None:
        return batch
    spread = (2 * torch.rand(batch.num_boxes) - 1) * CROP_SPREAD
    sides = settings.person_crop * spread.exp()
    return person_crops(batch, torch.zeros(batch.num_boxes), sides, settings.person_crop_size)


def person_crops(batch: AnyBatch, turns: Tensor, side: Tensor, size: int) -> AnyBatch:
    """Return one square clip for each person, with the person in the middle.

    The square is the same in all frames of the clip. Pixels outside the frame are reflections.

    Args:
        batch: frames ``(B, 3, T, H, W)``, uint8 or float, and ``K`` people.
        turns: ``(K,)`` degrees by which the square of each person is turned clockwise.
        side: ``(K,)`` side of the square, in multiples of the longer side of the person's box.
        size: side of the new frames, in pixels.

    Returns:
        Frames ``(K, 3, T, size, size)`` and the ``K`` people in the same order. A batch without people keeps its clips,
        which are resized.
    """
    if not batch.num_boxes:
        return _resized(batch, size)
    boxes = batch.boxes.float()
    turns, side = turns.to(boxes), side.to(boxes)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = half.amax(dim=1).clamp(min=LEAST_RADIUS) * side
    flat = batch.frames.flatten(1, 2)
    pixels = square_patches(
        flat, (boxes[:, :2] + boxes[:, 2:]) / 2, reach, batch.clip_index, size, turns, fine_side=size
    )
    frames = torch.unflatten(pixels, 1, batch.frames.shape[1:3])
    # Half extents of the turned and enlarged ellipse in the box.
    scaled = roll_map(turns).to(boxes) * (half * (size / 2 / reach)[:, None])[:, None, :]
    half = torch.linalg.vector_norm(scaled, dim=2)
    return replace(
        batch,
        frames=_in_type(frames, batch.frames),
        boxes=clip_boxes(torch.cat([size / 2 - half, size / 2 + half], dim=1), (size, size)),
        clip_index=torch.arange(len(boxes), device=boxes.device),
        keys=tuple(batch.keys[clip] for clip in batch.clip_index.tolist()),
    )


def _resized(batch: AnyBatch, size: int) -> AnyBatch:
    frames = batch.frames.transpose(1, 2)
    small = F.interpolate(frames.flatten(0, 1).float(), size=(size, size), mode="bilinear", antialias=True)
    small = torch.unflatten(small, 0, frames.shape[:2]).transpose(1, 2)
    return replace(batch, frames=_in_type(small, batch.frames))


def _in_type(pixels: Tensor, frames: Tensor) -> Tensor:
    """Convert float pixels to the type of the frames."""
    return pixels.to(frames.dtype) if frames.is_floating_point() else pixels.round().clamp(0, 255).to(frames.dtype)
