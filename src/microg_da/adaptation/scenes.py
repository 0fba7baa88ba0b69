"""Source people in front of target scenes, so that a detector cannot rely on the scene."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from microg_da.adaptation.views import blend, most_of_each_clip
from microg_da.types import ClipBatch, LabelledClipBatch

AXES = 1.15
"""Half axes of a pasted ellipse, as multiples of half the sides of the person's box."""
RIM = 0.3
"""Width of the fading rim of an ellipse, as a fraction of its half axes."""


def change_scenes(batch: LabelledClipBatch, scenes: ClipBatch, chosen: Tensor) -> LabelledClipBatch:
    """Replace the scenes of some clips by other clips.

    In all frames, the pixels in an ellipse around each person's box are kept. The rest of the clip is replaced by the
    clip of ``scenes`` with the same index, modulo the size of ``scenes``. Boxes and labels do not change.

    Args:
        batch: clips with frames ``(B, 3, T, H, W)``.
        scenes: clips with frames of the same size.
        chosen: ``(B,)`` bool, the clips that get another scene. Clips without people do not change.
    """
    if not len(scenes):
        return batch
    opacity = ellipses(batch)
    chosen = chosen.to(opacity.device) & (opacity.amax(dim=(1, 2)) > 0)
    opacity = torch.where(chosen[:, None, None], opacity, 1.0)
    places = torch.arange(len(batch), device=opacity.device) % len(scenes)
    return replace(batch, frames=blend(scenes.frames[places].to(batch.frames.dtype), batch.frames, opacity))


def ellipses(batch: ClipBatch) -> Tensor:
    """Return the opacity ``(B, H, W)``: 1 near the centre of a box, falling to 0 over the rim of its ellipse."""
    height, width = batch.frames.shape[-2:]
    distances = []
    for axis, size in ((0, width), (1, height)):
        low, high = batch.boxes[:, axis, None], batch.boxes[:, axis + 2, None]
        pixels = torch.arange(size, device=low.device) + 0.5
        distances.append((pixels - (low + high) / 2) / (AXES / 2 * (high - low)).clamp(min=0.5))
    across, down = distances
    distance = torch.hypot(down[:, :, None], across[:, None, :])
    return most_of_each_clip(((1 - distance) / RIM).clamp(0, 1), batch)
