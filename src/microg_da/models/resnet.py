"""The 3-D ResNets of the benchmark (C2D, I3D, Slow), built by pytorchvideo."""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from microg_da.models.backbone import Backbone

with warnings.catch_warnings():
    # pytorchvideo scripts an activation at import, which torch now calls deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.layers.nonlocal_net import create_nonlocal
    from pytorchvideo.models.resnet import create_resnet

Kernels = tuple[tuple[int, ...], ...]
"""Temporal kernel sizes of the first convolution of the blocks of res2…res5, repeated along each stage."""


class ResNet3d(Backbone):
    """Stem and four residual stages; res5 keeps the resolution of res4 by dilation, so the stride is 16.

    Args:
        stem_kernel: temporal kernel size of the stem.
        kernels: temporal kernel sizes of the stages.
        temporal_pool: halve the frames after res2.
        nonlocal_blocks: for res2…res5, after which blocks a non-local block follows.
    """

    channels = (2048,)
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
            stage_conv_a_kernel_size=tuple(tuple((size, 1, 1) for size in sizes) for sizes in kernels),
            stage_conv_b_dilation=((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 2, 2)),
            stage_spatial_h_stride=(1, 2, 2, 1),
            stage_spatial_w_stride=(1, 2, 2, 1),
            head=None,
        )
        self.blocks = network.blocks
        self.stages = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        stages = [index for index, block in enumerate(self.blocks) if hasattr(block, "res_blocks")]
        for index, width, after in zip(stages, (256, 512, 1024, 2048), nonlocal_blocks, strict=True):
            if after:
                self.blocks[index] = NonLocalStage(self.blocks[index].res_blocks, width, after)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, 2048, T', H/16, W/16)``."""
        for block in self.blocks:
            frames = block(frames)
        return (frames,)


class NonLocalStage(nn.Module):
    """A residual stage with non-local blocks after some of its blocks (Wang et al., CVPR 2018).

    Args:
        res_blocks: the stage's blocks.
        width: channels that the blocks put out.
        after: indices of the blocks that a non-local block follows.
    """

    def __init__(self, res_blocks: nn.ModuleList, width: int, after: tuple[int, ...]) -> None:
        super().__init__()
        self.res_blocks = res_blocks
        self.nonlocal_blocks = nn.ModuleDict(
            {str(index): create_nonlocal(dim_in=width, dim_inner=width // 2, pool_size=(1, 2, 2)) for index in after}
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` → ``(B, width, T, H', W')``."""
        for index, block in enumerate(self.res_blocks):
            x = block(x)
            if str(index) in self.nonlocal_blocks:
                x = self.nonlocal_blocks[str(index)](x)
        return x


def slow_r50() -> ResNet3d:
    """The slow pathway of SlowFast alone (Feichtenhofer et al., ICCV 2019), ResNet-50."""
    return ResNet3d(1, ((1,), (1,), (3,), (3,)))
