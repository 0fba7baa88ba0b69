"""Views of clips: parts of a batch, people still in the frame, people pasted into other clips."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align

from microg_da.types import ClipBatch


def first_clips(batch: ClipBatch, count: int) -> ClipBatch:
    """Return the first ``count`` clips of a batch and their people, without labels."""
    part = batch.without_labels().take_people(batch.clip_index < count)
    return replace(part, frames=batch.frames[:count], keys=batch.keys[:count])


def take_clips(batch: ClipBatch, chosen: Tensor) -> tuple[ClipBatch, Tensor]:
    """Return some clips of a batch, in order and without labels.

    Args:
        batch: the clips.
        chosen: ``(B,)`` bool, on the device of the batch.

    Returns:
        The clips, and a mask ``(K,)`` of the people in them.
    """
    people = chosen[batch.clip_index]
    part = batch.without_labels().take_people(people)
    keys = tuple(key for key, taken in zip(batch.keys, chosen.tolist(), strict=True) if taken)
    place = chosen.cumsum(0) - 1
    part = replace(part, frames=batch.frames[chosen], clip_index=place[part.clip_index], keys=keys)
    return part, people


def in_view(before: Tensor, after: Tensor, least: float = 0.5) -> Tensor:
    """Return 1 for each person who is still in the frame after a roll, else 0: ``(K,)``.

    A roll alone does not shrink the box of an ellipse, so that a loss of area is due to the border of the frame.

    Args:
        before: ``(K, 4)`` boxes xyxy before the roll.
        after: ``(K, 4)`` boxes after the roll, clipped to the frame.
        least: smallest remaining fraction of the area.
    """
    old, new = ((box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1) for box in (before, after))
    return ((new > 0) & (new >= least * old)).float()


class Pasted(NamedTuple):
    """Clips with people of other clips in them.

    Attributes:
        batch: the mixed clips with all visible people, without labels.
        origin: ``(K,)`` index of each person among the people of the background followed by those of the foreground.
    """

    batch: ClipBatch
    origin: Tensor


def paste_people(foreground: ClipBatch, background: ClipBatch, margin: float, max_covered: float) -> Pasted:
    """Paste all people of each foreground clip, at their position, into the background clip of the same index.

    The pasted window is the same in all frames: the box widened by a margin over which the window fades.

    Args:
        foreground: frames ``(B, 3, T, H, W)``.
        background: frames of the same shape and kind; a longer batch is cut to the shorter one.
        margin: width of the fading border, as a fraction of the box's sides.
        max_covered: largest covered fraction of a background person's box; other people are dropped.
    """
    count = min(len(foreground), len(background))
    numbers = [torch.arange(len(batch.boxes), device=batch.boxes.device) for batch in (background, foreground)]
    origin = torch.cat([
        numbers[0][background.clip_index < count],
        numbers[1][foreground.clip_index < count] + len(background.boxes),
    ])  # fmt: skip
    foreground, background = first_clips(foreground, count), first_clips(background, count)
    opacity = _opacity(foreground, margin)
    covered = _mean_inside(opacity, background)
    kept = torch.cat([covered <= max_covered, torch.ones_like(foreground.clip_index, dtype=torch.bool)])
    clip_index = torch.cat([background.clip_index, foreground.clip_index])
    order = torch.argsort(clip_index, stable=True)
    order = order[kept[order]]
    everyone = replace(
        background,
        frames=blend(background.frames, foreground.frames, opacity),
        boxes=torch.cat([background.boxes, foreground.boxes]),
        clip_index=clip_index,
        table_boxes=torch.cat([background.table_boxes, foreground.table_boxes]),
        domain="both",
        people=(*background.people, *foreground.people),
    )
    return Pasted(everyone.take_people(order), origin[order])


def _opacity(batch: ClipBatch, margin: float) -> Tensor:
    """Return the opacity ``(B, H, W)``: 1 inside boxes, falling to 0 over the margin around them."""
    height, width = batch.frames.shape[-2:]
    sides = []
    for axis, size in ((0, width), (1, height)):
        low, high = batch.boxes[:, axis, None], batch.boxes[:, axis + 2, None]
        border = (margin * (high - low)).clamp(min=1e-3)
        pixels = torch.arange(size, device=low.device) + 0.5
        outside = torch.maximum(low - pixels, pixels - high)
        sides.append((1 - outside / border).clamp(0, 1))
    windows = sides[1][:, :, None] * sides[0][:, None, :]
    return most_of_each_clip(windows, batch)


def most_of_each_clip(planes: Tensor, batch: ClipBatch) -> Tensor:
    """The largest value at each pixel ``(B, H, W)`` of the planes ``(K, H, W)`` of a clip's people, at least 0."""
    empty = planes.new_zeros(len(batch), *planes.shape[1:])
    return empty.scatter_reduce_(0, batch.clip_index[:, None, None].expand_as(planes), planes, "amax")


def _mean_inside(planes: Tensor, batch: ClipBatch) -> Tensor:
    """Return the mean ``(K,)`` of each person's plane inside the box."""
    regions = torch.cat([batch.clip_index[:, None].to(planes), batch.boxes.to(planes)], dim=1)
    means: Tensor = roi_align(planes[:, None], regions, output_size=1, aligned=True)
    return means.flatten()


def blend(below: Tensor, above: Tensor, opacity: Tensor) -> Tensor:
    """Frames over other frames ``(B, 3, T, H, W)`` with an opacity ``(B, H, W)``, in the type of those below."""
    weight = opacity[:, None, None].to(below.dtype if below.is_floating_point() else torch.float32)
    mixed = torch.lerp(below.to(weight.dtype), above.to(weight.dtype), weight)
    return mixed if below.is_floating_point() else mixed.round_().to(below.dtype)
