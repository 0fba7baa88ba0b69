"""Interface of backbones: frames in, one feature map per pathway out, and a stride that must be correct."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from microg_da.errors import InputError

Adapter = Callable[[Tensor], Tensor]
"""A small module parallel to a stage that maps a feature map to one of the same shape."""

Grid = tuple[int, int, int]
"""Tokens along time, height and width."""

StageOutput = Tensor | list[Tensor] | tuple[Tensor, Grid]
"""The output of a stage: a feature map ``(B, C, T, H, W)``, one for each pathway, or tokens and their grid."""

MEAN, STD = 0.45, 0.225
"""The normalisation of every published detector, the same for the three colours (frames in [0, 1], RGB)."""


class Backbone(nn.Module):
    """Base class of all backbones: frames in, one feature map for each pathway out.

    Example:
        >>> import torch
        >>> from microg_da import Backbone
        >>> class Patches(Backbone):
        ...     channels, stride, stages = (16,), 8, ("convolution",)
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.convolution = torch.nn.Conv3d(3, 16, (1, 8, 8), (1, 8, 8))
        ...     def forward(self, frames):
        ...         return (self.convolution(frames),)
        >>> [maps.shape for maps in Patches()(torch.zeros(1, 3, 2, 64, 96))]
        [torch.Size([1, 16, 2, 8, 12])]

    Attributes:
        channels: channels of each feature map; most backbones have one map, SlowFast has two (slow first).
        stride: input pixels per cell of the last feature maps, as the network really has it.
        stages: dotted names of the submodules that the frames pass through, input first. Freezing, layer-wise
            learning-rate decay and adapters work on them.
        memory_format: the layout in which the network is fastest.
        published_names: whose names published weights of this network have: ``"residual"``, ``"x3d"``, ``"mvit"``,
            ``"timm"``, ``"torchvision"``, ``"transformers"``, or ``"none"``.
        fresh: submodules that no published weights hold; they are new in every run.
        still_frames: how many copies of one picture make a clip that the network can see.
        frame_multiple: windows have a multiple of so many frames, which are read together.
    """

    channels: tuple[int, ...]
    stride: float
    stages: tuple[str, ...]
    memory_format: torch.memory_format = torch.contiguous_format
    published_names: str = "none"
    fresh: tuple[str, ...] = ()
    still_frames: int = 4
    frame_multiple: int = 1

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Map normalised frames ``(B, 3, T, H, W)`` to feature maps ``(B, C, T', H', W')``."""
        raise NotImplementedError

    def check_frames(self, num_frames: int) -> None:
        """Refuse a window that the network cannot read.

        Raises:
            InputError: if its number of frames is no multiple of ``frame_multiple``.
        """
        if num_frames % self.frame_multiple:
            raise InputError(
                f"model.num_frames={num_frames}: {type(self).__name__} reads {self.frame_multiple} frames together. "
                f"Choose a multiple of {self.frame_multiple}."
            )

    def adapt(self, output: StageOutput, adapters: Sequence[Adapter]) -> StageOutput:
        """Pass what a stage puts out through an adapter for each pathway.

        Args:
            output: one feature map ``(B, C, T, H, W)``, or a list of them, one for each pathway.
            adapters: at least as many as pathways; each maps ``(B, C, T, H, W)`` to the same shape.

        Raises:
            TypeError: for tokens; a backbone whose stages put out tokens overrides this method.
        """
        if isinstance(output, Tensor):
            return adapters[0](output)
        if isinstance(output, list):
            return [adapter(pathway) for adapter, pathway in zip(adapters, output, strict=False)]
        raise TypeError(f"{type(self).__name__} puts out {type(output).__name__} and does not say how to adapt it")


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


def denormalise(frames: Tensor) -> Tensor:
    """Frames in 0…255: normalised ones are scaled back, uint8 ones are returned as they are."""
    return (frames * STD + MEAN) * 255 if frames.is_floating_point() else frames
