"""SlowFast: a slow pathway for appearance, a fast pathway for motion (Feichtenhofer et al., ICCV 2019)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from microg_da.errors import InputError
from microg_da.models.backbone import Backbone
from microg_da.models.convolutions import arrange_for_cpu
from microg_da.models.resnet import DILATIONS, SPATIAL_STRIDES, WIDTHS, Kernels, NonLocalStage, temporal_kernels

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.models.slowfast import create_slowfast

_SLOW: Kernels = ((1,), (1,), (3,), (3,))
_FAST: Kernels = ((3,), (3,), (3,), (3,))


class SlowFast(Backbone):
    """A network of two pathways with lateral connections from fast to slow.

    The network has two feature maps of stride 16, slow first.

    Args:
        depth: 50 or 101.
        alpha: the slow pathway reads about every ``alpha``-th frame: ``linspace(0, T − 1, T / alpha)``, truncated.
        fusion_kernel: temporal kernel size of the lateral convolutions.
        kernels: temporal kernel sizes of the stages, for the slow and the fast pathway.
        nonlocal_blocks: for res2…res5, the indices of the blocks of the slow pathway before a non-local block.
    """

    channels = (2048, 256)
    memory_format = torch.channels_last_3d
    published_names = "residual"
    stride = 16

    def __init__(
        self,
        depth: int = 50,
        alpha: int = 4,
        fusion_kernel: int = 7,
        kernels: tuple[Kernels, Kernels] = (_SLOW, _FAST),
        nonlocal_blocks: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.alpha = self.still_frames = alpha
        network = create_slowfast(
            model_depth=depth,
            slowfast_fusion_conv_kernel_size=(fusion_kernel, 1, 1),
            slowfast_fusion_conv_stride=(alpha, 1, 1),
            stage_conv_a_kernel_sizes=tuple(temporal_kernels(pathway) for pathway in kernels),
            stage_conv_b_dilations=(DILATIONS, DILATIONS),
            stage_spatial_strides=(SPATIAL_STRIDES, SPATIAL_STRIDES),
            head=None,
        )
        # The last block of the builder pools both pathways; a detector pools boxes instead.
        self.blocks = network.blocks[:-1]
        self.stages = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        for stage, after in (nonlocal_blocks or {}).items():
            pathways = self.blocks[stage].multipathway_blocks
            pathways[0] = NonLocalStage(
                pathways[0].res_blocks, WIDTHS[stage - 1], after, pool=(2, 2, 2), instantiation="dot_product"
            )
        arrange_for_cpu(self)
        self.to(memory_format=self.memory_format)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → slow ``(B, 2048, T/α, H/16, W/16)`` and fast ``(B, 256, T, H/16, W/16)``."""
        pathways = self.pathways(frames)
        for block in self.blocks:
            pathways = block(pathways)
        return tuple(pathways)

    def pathways(self, frames: Tensor) -> list[Tensor]:
        """Return the frames of each pathway.

        Raises:
            InputError: if the number of frames is not a multiple of ``alpha``.
        """
        T = frames.shape[2]
        if T == 0 or T % self.alpha:
            raise InputError(
                f"model.num_frames={T}: expected the frames of the fast pathway, a multiple of {self.alpha}"
            )
        slow = torch.linspace(0, T - 1, T // self.alpha).long().to(frames.device)
        return [frames.index_select(2, slow), frames]


def slowfast_r50(alpha: int = 4, fusion_kernel: int = 7) -> SlowFast:
    """Build SlowFast R50 as in the benchmark, for 8×8 and 4×16.

    The Kinetics 4×16 weights of the original authors need ``alpha=8, fusion_kernel=5``, so the benchmark did not load
    the fusion convolutions.
    """
    return SlowFast(50, alpha, fusion_kernel)


def slowfast_r101() -> SlowFast:
    """Build SlowFast R101 32×2 with non-local blocks, the most accurate network of the AVA zoo.

    Only the first 3, 4, 6, 3 blocks of its stages have temporal kernels.
    """
    slow: Kernels = ((1,), (1,), (3,) * 6 + (1,) * 17, (3,))
    fast: Kernels = ((3,), (3,), (3,) * 6 + (1,) * 17, (3,))
    return SlowFast(101, 4, 5, (slow, fast), nonlocal_blocks={3: (6, 13, 20)})
