"""Residual (2+1)D networks that are small enough for quick training on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from microg_da.models.backbone import Backbone


class _SmallR2Plus1D(Backbone):
    """A stem with stride, and three residual stages of factorised convolutions.

    Args:
        stem: the stem, which halves time.
        width: channels of the stem and of the three stages.
        stem_stride: spatial stride of the stem; the network's stride is four times as much.
        again: whether blocks have a second spatial convolution after the temporal convolution.

    Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018.
    """

    memory_format = torch.channels_last_3d
    stages = ("stem", "res2", "res3", "res4")

    def __init__(self, stem: nn.Sequential, width: Sequence[int], stem_stride: int, *, again: bool) -> None:
        super().__init__()
        self.stem = stem
        self.res2 = _Block(width[0], width[1], stride=2, again=again)
        self.res3 = _Block(width[1], width[2], stride=2, time_stride=2, again=again)
        self.res4 = _Block(width[2], width[3], again=again)
        self.channels = (width[3],)
        self.stride = 4 * stem_stride
        self.to(memory_format=self.memory_format)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, C, ⌈T/4⌉, H/16, W/16)``."""
        return (self.res4(self.res3(self.res2(self.stem(frames)))),)


class R2Plus1DTiny(_SmallR2Plus1D):
    """A small network with a spatial, a temporal and a second spatial convolution in every block.

    The architecture is fast on two CPU cores (8 frames of 96 px, batch 16): early strides in space and time, one
    temporal convolution per block and channels-last memory are faster than wider stems, later strides or unfactorised
    kernels.

    Args:
        width: channels of the stem and of the three stages.
        stem_stride: spatial stride of the stem, 4 or 2; the network's stride is four times as much.
    """

    def __init__(self, width: Sequence[int] = (16, 48, 128, 128), stem_stride: int = 4) -> None:
        stem = nn.Sequential(
            *_convolution(3, width[0], kernel=(1, 7, 7), stride=(1, stem_stride, stem_stride)),
            nn.ReLU(inplace=True),
            *_convolution(width[0], width[0], kernel=(3, 1, 1), stride=(2, 1, 1)),
            nn.ReLU(inplace=True),
        )
        super().__init__(stem, width, stem_stride, again=True)


class R2Plus1DMicro(_SmallR2Plus1D):
    """A network on patches of pixels with one spatial convolution per block, 1.5 times as fast as `R2Plus1DTiny`.

    Args:
        width: channels of the stem and of the three stages.
        patch: side of the stem's patches, pixels; the network's stride is four times as much.

    Patches as in Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021.
    """

    def __init__(self, width: Sequence[int] = (24, 48, 128, 128), patch: int = 4) -> None:
        # Patches overlap in time, so that windows of any number of frames are possible.
        patches = nn.Conv3d(3, width[0], (3, patch, patch), (2, patch, patch), (1, 0, 0), bias=False)
        stem = nn.Sequential(patches, nn.BatchNorm3d(width[0]), nn.ReLU(inplace=True))
        super().__init__(stem, width, patch, again=False)


class _Block(nn.Module):
    """Residual block with a spatial, a temporal and, with ``again``, a second spatial convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, time_stride: int = 1, *, again: bool = True) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(inputs, outputs, kernel=(1, 3, 3), stride=(1, stride, stride)),
            nn.ReLU(inplace=True),
            *_convolution(outputs, outputs, kernel=(3, 1, 1), stride=(time_stride, 1, 1)),
            *((nn.ReLU(inplace=True), *_convolution(outputs, outputs, kernel=(1, 3, 3))) if again else ()),
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
    """Build a network with 0.65 M parameters and stride 16."""
    return R2Plus1DTiny(width, stem_stride)


def r2plus1d_micro(width: Sequence[int] = (24, 48, 128, 128), patch: int = 4) -> R2Plus1DMicro:
    """Build the network of ``ava2microg`` for the embedded data, with 0.34 M parameters and stride 16."""
    return R2Plus1DMicro(width, patch)
