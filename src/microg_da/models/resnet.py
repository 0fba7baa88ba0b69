"""The 3-D ResNets of the benchmark (C2D, I3D, Slow), built by pytorchvideo."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from microg_da.errors import InputError
from microg_da.models.backbone import Backbone
from microg_da.models.convolutions import arrange_for_cpu

with warnings.catch_warnings():
    # pytorchvideo scripts an activation at import, for which torch issues a deprecation warning.
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.layers.nonlocal_net import create_nonlocal
    from pytorchvideo.models.resnet import create_resnet

Kernels = Sequence[Sequence[int]]
"""Temporal kernel sizes of the first convolution of the blocks of res2…res5, repeated along each stage."""

WIDTHS = (256, 512, 1024, 2048)
"""Output channels of res2…res5."""

SPATIAL_STRIDES = (1, 2, 2, 1)
DILATIONS = ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 2, 2))
"""Res5 has dilation instead of stride, so that the stride is 16 and small people remain visible."""


class ResNet3d(Backbone):
    """Stem and four residual stages of a ResNet-50, stride 16.

    Args:
        stem_kernel: temporal kernel size of the stem.
        kernels: temporal kernel sizes of the stages.
        temporal_pool: halve the frames after res2.
        nonlocal_blocks: for res2…res5, the indices of the blocks before a non-local block.
    """

    channels = (2048,)
    memory_format = torch.channels_last_3d
    published_names = "residual"
    stride = 16

    def __init__(
        self,
        stem_kernel: int,
        kernels: Kernels,
        temporal_pool: bool = False,
        nonlocal_blocks: Kernels = ((), (), (), ()),
    ) -> None:
        super().__init__()
        network = create_resnet(
            model_depth=50,
            stem_conv_kernel_size=(stem_kernel, 7, 7),
            stage1_pool=nn.MaxPool3d if temporal_pool else None,
            stage_conv_a_kernel_size=temporal_kernels(kernels),
            stage_conv_b_dilation=DILATIONS,
            stage_spatial_h_stride=SPATIAL_STRIDES,
            stage_spatial_w_stride=SPATIAL_STRIDES,
            head=None,
        )
        self.blocks = network.blocks
        self.min_frames = 2 if temporal_pool else 1
        self.stages = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        residual = [index for index, block in enumerate(self.blocks) if hasattr(block, "res_blocks")]
        for index, width, after in zip(residual, WIDTHS, nonlocal_blocks, strict=True):
            if after:
                self.blocks[index] = NonLocalStage(self.blocks[index].res_blocks, width, after)
        arrange_for_cpu(self)
        self.to(memory_format=self.memory_format)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, 2048, T', H/16, W/16)``."""
        if frames.shape[2] < self.min_frames:
            raise InputError(
                f"model.num_frames: this network halves the frames after res2 and needs at least "
                f"{self.min_frames}, got {frames.shape[2]}"
            )
        for block in self.blocks:
            frames = block(frames)
        return (frames,)


class NonLocalStage(nn.Module):
    """A residual stage with non-local blocks after some of its blocks (Wang et al., CVPR 2018).

    Args:
        res_blocks: the stage's blocks.
        width: output channels of the blocks.
        after: indices of the blocks that a non-local block follows.
        pool: max-pooling of keys and values.
        instantiation: ``"softmax"`` or ``"dot_product"``.
    """

    def __init__(
        self,
        res_blocks: nn.ModuleList,
        width: int,
        after: Sequence[int],
        pool: tuple[int, int, int] = (1, 2, 2),
        instantiation: str = "softmax",
    ) -> None:
        super().__init__()
        self.res_blocks = res_blocks
        self.nonlocal_blocks = nn.ModuleDict()
        for index in after:
            block = create_nonlocal(dim_in=width, dim_inner=width // 2, pool_size=pool, instantiation=instantiation)
            # A new non-local block is initially the identity, so that it can be added to a trained network.
            nn.init.zeros_(block.norm.weight)
            self.nonlocal_blocks[str(index)] = block

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` → ``(B, width, T, H', W')``."""
        for index, block in enumerate(self.res_blocks):
            x = block(x)
            if str(index) in self.nonlocal_blocks:
                x = self.nonlocal_blocks[str(index)](x)
        return x


def temporal_kernels(kernels: Kernels) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """Return temporal sizes as 3-D kernel sizes for the builders of pytorchvideo."""
    return tuple(tuple((size, 1, 1) for size in sizes) for sizes in kernels)


_NONLOCAL = ((), (1, 3), (1, 3, 5), ())
_C2D: Kernels = ((1,), (1,), (1,), (1,))
_I3D: Kernels = ((3,), (3, 1), (3, 1), (1, 3))
_SLOW: Kernels = ((1,), (1,), (3,), (3,))


def c2d_r50() -> ResNet3d:
    """Build C2D (Wang et al., CVPR 2018), with spatial convolutions and one temporal pooling."""
    return ResNet3d(1, _C2D, temporal_pool=True)


def c2d_nln_r50() -> ResNet3d:
    """Build C2D with five non-local blocks (Wang et al., CVPR 2018)."""
    return ResNet3d(1, _C2D, temporal_pool=True, nonlocal_blocks=_NONLOCAL)


def i3d_r50() -> ResNet3d:
    """Build I3D: a ResNet with every other first convolution inflated in time (Carreira and Zisserman, CVPR 2017)."""
    return ResNet3d(5, _I3D, temporal_pool=True)


def i3d_nln_r50() -> ResNet3d:
    """Build I3D with five non-local blocks (Wang et al., CVPR 2018)."""
    return ResNet3d(5, _I3D, temporal_pool=True, nonlocal_blocks=_NONLOCAL)


def slow_r50() -> ResNet3d:
    """Build the slow pathway of SlowFast (Feichtenhofer et al., ICCV 2019)."""
    return ResNet3d(1, _SLOW)
