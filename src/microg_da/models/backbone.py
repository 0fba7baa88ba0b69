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
        stride: the actual number of input pixels per cell of the last feature maps.
        stages: dotted names of the submodules that the frames pass through, input first. Freezing, layer-wise
            learning-rate decay and adapters work on them.
        memory_format: the layout in which the network is fastest.
        published_names: naming scheme of published weights of this network: ``"residual"``, ``"x3d"``, ``"mvit"``,
            ``"timm"``, ``"torchvision"``, ``"transformers"``, or ``"none"``.
        fresh: submodules without published weights, which are always initialised at random.
        still_frames: number of copies of a still image that form a clip for the network.
        frame_multiple: divisor of the number of frames in a window, which are read in groups of this size.
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
        """Check that the network can read a window.

        Raises:
            InputError: if its number of frames is not a multiple of ``frame_multiple``.
        """
        if num_frames % self.frame_multiple:
            raise InputError(
                f"model.num_frames={num_frames}: {type(self).__name__} reads {self.frame_multiple} frames together. "
                f"Choose a multiple of {self.frame_multiple}."
            )

    def adapt(self, output: StageOutput, adapters: Sequence[Adapter]) -> StageOutput:
        """Apply an adapter to each pathway in the output of a stage.

        Args:
            output: one feature map ``(B, C, T, H, W)``, or a list of them, one for each pathway.
            adapters: at least as many as pathways; each maps ``(B, C, T, H, W)`` to the same shape.

        Raises:
            TypeError: for tokens; a backbone whose stages return tokens overrides this method.
        """
        if isinstance(output, Tensor):
            return adapters[0](output)
        if isinstance(output, list):
            return [adapter(pathway) for adapter, pathway in zip(adapters, output, strict=False)]
        raise TypeError(f"{type(self).__name__} returns {type(output).__name__} and has no method adapt for it")


def normalise(frames: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Normalise uint8 frames; floating-point frames are returned unchanged.

    Args:
        frames: ``(B, 3, T, H, W)``.
        memory_format: the layout of the result.
    """
    frames = frames.contiguous(memory_format=memory_format)
    if frames.is_floating_point():
        return frames
    return frames.float().mul_(1 / (255 * STD)).sub_(MEAN / STD)


def denormalise(frames: Tensor) -> Tensor:
    """Return frames in 0…255: normalised frames are scaled back, uint8 frames are unchanged."""
    return (frames * STD + MEAN) * 255 if frames.is_floating_point() else frames
