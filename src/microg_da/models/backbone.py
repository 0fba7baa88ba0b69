"""What every backbone is: frames in, one feature map per pathway out, and a stride that is told truthfully."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN, STD = 0.45, 0.225
"""The normalisation of every published detector, the same for the three colours (frames in [0, 1], RGB)."""


class Backbone(nn.Module):
    """Base class of all backbones.

    Attributes:
        channels: channels of each feature map; most backbones have one map, SlowFast has two (slow first).
        stride: input pixels per cell of the last feature maps, as the network really has it.
        stages: dotted names of the submodules that the frames pass through, input first. Freezing, layer-wise
            learning-rate decay and adapters work on them.
        memory_format: the layout in which the network is fastest.
        published_names: whose names published weights of this network have: ``"residual"``, ``"x3d"``, ``"mvit"``,
            ``"timm"``, or ``"none"``.
    """

    channels: tuple[int, ...]
    stride: float
    stages: tuple[str, ...]
    memory_format: torch.memory_format = torch.contiguous_format
    published_names: str = "none"

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Map normalised frames ``(B, 3, T, H, W)`` to feature maps ``(B, C, T', H', W')``."""
        raise NotImplementedError


def normalise(frames: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Frames as the network wants them: uint8 is normalised, floating point is taken as normalised already.

    Args:
        frames: ``(B, 3, T, H, W)``.
        memory_format: the layout of the result.
    """
    frames = frames.contiguous(memory_format=memory_format)
    if frames.is_floating_point():
        return frames
    return frames.float().mul_(1 / (255 * STD)).sub_(MEAN / STD)
