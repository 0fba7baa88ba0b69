"""A residual (2+1)D network small enough to train on two CPU cores while one waits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from microg_da.models.backbone import Backbone


class R2Plus1DTiny(Backbone):
    """Three residual stages of factorised convolutions on a stem that strides at once.

    The shape was chosen by measurement on two CPU cores (8 frames of 96 px, batch 16): striding early in space and
    time, one temporal convolution a block and channels-last memory train more clips a second than wider stems,
    later strides or unfactorised kernels do.

    Args:
        width: channels of the stem and of the three stages.
        stem_stride: spatial stride of the stem, 4 or 2; the network's stride is four times as much.

    Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018.
    """

    memory_format = torch.channels_last_3d

    def __init__(self, width: Sequence[int] = (16, 48, 128, 128), stem_stride: int = 4) -> None:
        super().__init__()
        stem, *wide = width
        self.stem = nn.Sequential(
            *_convolution(3, stem, kernel=(1, 7, 7), stride=(1, stem_stride, stem_stride)),
            nn.ReLU(inplace=True),
            *_convolution(stem, stem, kernel=(3, 1, 1), stride=(2, 1, 1)),
            nn.ReLU(inplace=True),
        )
        self.res2 = _Block(stem, wide[0], stride=2)
        self.res3 = _Block(wide[0], wide[1], stride=2, time_stride=2)
        self.res4 = _Block(wide[1], wide[2])
        self.channels = (wide[2],)
        self.stride = 4 * stem_stride
        self.stages = ("stem", "res2", "res3", "res4")
        self.to(memory_format=self.memory_format)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, C, ⌈T/4⌉, H/16, W/16)``."""
        return (self.res4(self.res3(self.res2(self.stem(frames)))),)


class _Block(nn.Module):
    """Residual block: along space, along time, along space."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, time_stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(inputs, outputs, kernel=(1, 3, 3), stride=(1, stride, stride)),
            nn.ReLU(inplace=True),
            *_convolution(outputs, outputs, kernel=(3, 1, 1), stride=(time_stride, 1, 1)),
            nn.ReLU(inplace=True),
            *_convolution(outputs, outputs, kernel=(1, 3, 3)),
        )
        same = inputs == outputs and stride == time_stride == 1
        strides = (time_stride, stride, stride)
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, (1, 1, 1), strides))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.branch(x))


def _convolution(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm3d(outputs)


def r2plus1d_tiny(width: Sequence[int] = (16, 48, 128, 128), stem_stride: int = 4) -> R2Plus1DTiny:
    """The default network of the embedded data: 0.65 M parameters, stride 16."""
    return R2Plus1DTiny(width, stem_stride)
