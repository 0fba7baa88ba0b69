"""Source people in front of target scenes: a detector that sees them cannot rely on the place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from microg_da.adaptation.views import blend, most_of_each_clip
from microg_da.types import ClipBatch, LabelledClipBatch

AXES = 1.15
"""Half axes of a pasted ellipse, in half sides of the person's box."""
RIM = 0.3
"""Width of the rim over which an ellipse fades, in half axes."""


def change_scenes(batch: LabelledClipBatch, scenes: ClipBatch, chosen: Tensor) -> LabelledClipBatch:
    """Show the people of some clips in front of other clips.

    An ellipse around each person's box stays, in all frames. The rest of the clip is replaced by the clip of
    ``scenes`` at the same place in its batch, and by the first ones again if that batch is shorter. Boxes and labels
    stay.

    Args:
        batch: frames ``(B, 3, T, H, W)``.
        scenes: frames of the same size.
        chosen: ``(B,)`` bool, the clips that get another scene. Clips without people stay as they are.
    """
    if not len(scenes):
        return batch
    opacity = ellipses(batch)
    chosen = chosen.to(opacity.device) & (opacity.amax(dim=(1, 2)) > 0)
    opacity = torch.where(chosen[:, None, None], opacity, 1.0)
    places = torch.arange(len(batch), device=opacity.device) % len(scenes)
    return replace(batch, frames=blend(scenes.frames[places].to(batch.frames.dtype), batch.frames, opacity))


def ellipses(batch: ClipBatch) -> Tensor:
    """``(B, H, W)`` in [0, 1]: 1 near the middle of a box, falling to 0 over the rim of its ellipse."""
    height, width = batch.frames.shape[-2:]
    distances = []
    for axis, size in ((0, width), (1, height)):
        low, high = batch.boxes[:, axis, None], batch.boxes[:, axis + 2, None]
        pixels = torch.arange(size, device=low.device) + 0.5
        distances.append((pixels - (low + high) / 2) / (AXES / 2 * (high - low)).clamp(min=0.5))
    across, down = distances
    distance = torch.hypot(down[:, :, None], across[:, None, :])
    return most_of_each_clip(((1 - distance) / RIM).clamp(0, 1), batch)
