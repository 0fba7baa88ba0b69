"""X3D: a tiny 2-D network expanded along every axis (Feichtenhofer, CVPR 2020), built by pytorchvideo."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from microg_da.models.backbone import Backbone
from microg_da.models.convolutions import arrange_for_cpu

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.models.x3d import create_x3d


class X3D(Backbone):
    """Stem and four stages of inverted bottlenecks with squeeze-and-excitation; stride 32.

    Args:
        depth_factor: expansion of the number of blocks: 2.2 is X3D-S, 5.0 is X3D-L.

    As in the benchmark, the feature map has the 192 channels of res5, without conv5 of the classifier.
    """

    channels = (192,)
    memory_format = torch.channels_last_3d
    published_names = "x3d"
    stride = 32

    def __init__(self, depth_factor: float) -> None:
        super().__init__()
        network = create_x3d(depth_factor=depth_factor, inner_act=nn.SiLU)
        self.blocks = network.blocks[:-1]
        self.stages = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        # PySlowFast normalises the shortcut of every strided block; pytorchvideo only if the channels also change.
        self.blocks[1].res_blocks[0].branch1_norm = nn.BatchNorm3d(24)
        arrange_for_cpu(self)
        self.to(memory_format=self.memory_format)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, 192, T, H/32, W/32)``."""
        for block in self.blocks:
            frames = block(frames)
        return (frames,)


def x3d_s() -> X3D:
    """X3D-S."""
    return X3D(2.2)


def x3d_l() -> X3D:
    """X3D-L."""
    return X3D(5.0)
