"""Base class of the backbones that are built on encoders of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from microg_da.errors import InputError
from microg_da.models.backbone import MEAN, STD, Adapter, Backbone, Grid, StageOutput
from microg_da.models.transformers_files import PREFIX, Pixels


class TransformersEncoder(Backbone):
    """Base class of encoders of transformers, whose tokens are folded into one feature map.

    Subclasses define the conversion of clips of any size to tokens with positions, and of tokens to maps.

    Args:
        encoder: the network of transformers, without heads.
        pixels: the normalisation of pixels; None for the normalisation of the published family.

    Attributes:
        family: ``model_type`` of transformers.
        classes: names of the classes of configuration and network in transformers.
        other_prefixes: prefixes of other entries in files of the family, which are not part of a detector.
        usual_pixels: the normalisation of published weights.
        patch: height and width are padded to a multiple of this number of pixels.
        native: the grid of tokens for which the network was designed.
    """

    family: ClassVar[str]
    classes: ClassVar[tuple[str, str]]
    other_prefixes: ClassVar[tuple[str, ...]]
    usual_pixels: ClassVar[Pixels] = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    published_names = "transformers"

    scale: Tensor
    shift: Tensor
    patch: int
    native: Grid

    def __init__(self, encoder: Any, pixels: Pixels | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.grid: Grid = (1, 1, 1)
        pixels = pixels or self.usual_pixels
        mean, std = torch.tensor(pixels.mean), torch.tensor(pixels.std)
        unit = 255 * pixels.rescale
        self.register_buffer("scale", (STD * unit / std)[:, None, None, None], persistent=False)
        self.register_buffer("shift", ((MEAN * unit - mean) / std)[:, None, None, None], persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, C, T', ⌈H/stride⌉, ⌈W/stride⌉)``.

        Raises:
            InputError: if tubelets do not divide the number of frames.
        """
        self.check_frames(frames.shape[2])
        height, width = frames.shape[-2:]
        clips = F.pad(frames * self.scale + self.shift, (0, -width % self.patch, 0, -height % self.patch))
        tokens, self.grid = self.embed(clips)
        for layer in self.layers():
            output = layer(tokens)
            tokens = output[0] if isinstance(output, tuple) else output
        return (self.fold(self.normalise(tokens)),)

    def layers(self) -> Sequence[nn.Module]:
        """Return the layers of the encoder, first to last."""
        raise NotImplementedError

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """Return tokens ``(B, N, C)`` of normalised, padded clips, with positions, and their grid."""
        raise NotImplementedError

    def normalise(self, tokens: Tensor) -> Tensor:
        """Return the tokens after the last layer, as the network of transformers does."""
        return tokens

    def fold(self, tokens: Tensor) -> Tensor:
        """``(B, N, C)`` → ``(B, C, T, H, W)`` of the current grid, without class tokens."""
        return torch.unflatten(tokens.transpose(1, 2), 2, self.grid)

    def unfold(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """Undo :meth:`fold`; tokens that are not in the map are taken from ``tokens``."""
        return maps.flatten(2).transpose(1, 2)

    def adapt(self, output: StageOutput, adapters: Sequence[Adapter]) -> StageOutput:
        """Apply adapters to tokens, which may be in a tuple with attention weights; see the base class."""
        if isinstance(output, tuple):
            tokens, *rest = output
            return (self._adapt(tokens, adapters[0]), *rest)  # type: ignore[return-value]
        assert isinstance(output, Tensor)
        return self._adapt(output, adapters[0])

    def published_name(self, name: str) -> str:
        """Return this package's name of an entry of a file; ``other_prefixes`` belong to the head of the file."""
        name = name.removeprefix(f"{self.family}.")
        return f"head.{name}" if name.startswith(self.other_prefixes) else f"encoder.{name}"

    def _adapt(self, tokens: Tensor, adapter: Adapter) -> Tensor:
        return self.unfold(adapter(self.fold(tokens)), tokens)


def single_number(value: int | Sequence[int], what: str) -> int:
    """Return a size of a configuration, which may be a pair of equal numbers.

    Raises:
        InputError: if the numbers differ, because boxes are pooled with one stride.
    """
    sizes = {value} if isinstance(value, int) else set(value)
    if len(sizes) != 1:
        raise InputError(f"{PREFIX}: {what}={value} of the configuration: expected the same height and width.")
    return sizes.pop()


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width from a size of a configuration, which may be one number for both."""
    if isinstance(value, int):
        return value, value
    height, width = value
    return height, width


def interpolate_positions(table: Tensor, native: Grid, grid: Grid) -> Tensor:
    """Interpolate embeddings ``(N, C)`` of the positions of a grid linearly to another grid, ``(M, C)``.

    The grids cover the same clip. For equal grids the table is returned unchanged.
    """
    if native == grid:
        return table
    maps = torch.unflatten(table.float().T, 1, native)[None]
    resized = F.interpolate(maps, size=grid, mode="trilinear", align_corners=False)
    return resized[0].flatten(1).T.to(table.dtype)
