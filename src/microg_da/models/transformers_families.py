"""The families of encoders of transformers: conversion of clips to tokens with positions, and of tokens to maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.hiera.modeling_hiera import unroll
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

from microg_da.errors import InputError
from microg_da.models.backbone import Grid
from microg_da.models.timm_encoder import temporal_module
from microg_da.models.transformers_encoder import (
    TransformersEncoder,
    interpolate_positions,
    pair,
    single_number,
)
from microg_da.models.transformers_files import PREFIX, Pixels


class VideoMAE(TransformersEncoder):
    """Vision transformer over tubelets, with fixed sines and cosines as positions.

    Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training",
    NeurIPS 2022.
    """

    family = "videomae"
    classes = ("VideoMAEConfig", "VideoMAEModel")
    other_prefixes = ("classifier.", "fc_norm.", "decoder.", "encoder_to_decoder.", "mask_token", "position_embeddings")
    table: Tensor

    def __init__(self, encoder: Any, pixels: Pixels | None) -> None:
        super().__init__(encoder, pixels)
        config = encoder.config
        height, width = pair(config.image_size)
        self.patch = single_number(config.patch_size, "patch_size")
        self.stride, self.channels = self.patch, (config.hidden_size,)
        self.frame_multiple = self.still_frames = config.tubelet_size
        self.native = (config.num_frames // config.tubelet_size, height // self.patch, width // self.patch)
        self.stages = tuple(f"encoder.encoder.layer.{index}" for index in range(config.num_hidden_layers))
        self.register_buffer("table", encoder.embeddings.position_embeddings[0].detach(), persistent=False)

    def layers(self) -> Sequence[nn.Module]:
        """See the base class."""
        return cast(Sequence[nn.Module], self.encoder.encoder.layer)

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See the base class."""
        patches = self.encoder.embeddings.patch_embeddings.projection(clips)
        grid = _grid(patches)
        places = interpolate_positions(self.table, self.native, grid).to(patches.device)
        return patches.flatten(2).transpose(1, 2) + places, grid

    def normalise(self, tokens: Tensor) -> Tensor:
        """See the base class."""
        norm = self.encoder.layernorm
        return tokens if norm is None else cast(Tensor, norm(tokens))

    def published_name(self, name: str) -> str:
        """Return the name of an entry; older files have other names for the biases of queries and values."""
        name = super().published_name(name)
        return name.replace(".attention.q_bias", ".attention.query.bias").replace(
            ".attention.v_bias", ".attention.value.bias"
        )


class VJEPA2(TransformersEncoder):
    """Vision transformer over tubelets, with rotary position embeddings in the attention.

    Positions count tokens, as in the published code and in transformers. If a clip has more tokens along an axis than
    in the training of the network, positions are compressed into the range of the training, so that all angles are
    known (Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation", 2023).

    Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning", 2025.
    """

    family = "vjepa2"
    classes = ("VJEPA2Config", "VJEPA2Model")
    other_prefixes = ("predictor.", "pooler.", "classifier.")

    def __init__(self, encoder: Any, pixels: Pixels | None) -> None:
        del encoder.predictor
        super().__init__(encoder, pixels)
        config = encoder.config
        self.patch = single_number(config.patch_size, "patch_size")
        self.stride, self.channels = self.patch, (config.hidden_size,)
        self.frame_multiple = self.still_frames = config.tubelet_size
        side = config.crop_size // self.patch
        self.native = (config.frames_per_clip // config.tubelet_size, side, side)
        self.stages = tuple(f"encoder.encoder.layer.{index}" for index in range(config.num_hidden_layers))
        for layer in self.layers():
            layer.attention.__class__ = _AnyGridAttention

    def layers(self) -> Sequence[nn.Module]:
        """See the base class."""
        return cast(Sequence[nn.Module], self.encoder.encoder.layer)

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See the base class."""
        patches = self.encoder.encoder.embeddings.patch_embeddings.proj(clips)
        grid = _grid(patches)
        for layer in self.layers():
            cast(_AnyGridAttention, layer.attention).grids = (self.native, grid)
        return patches.flatten(2).transpose(1, 2), grid

    def normalise(self, tokens: Tensor) -> Tensor:
        """See the base class."""
        return cast(Tensor, self.encoder.encoder.layernorm(tokens))


class _AnyGridAttention(VJEPA2RopeAttention):  # type: ignore[misc, unused-ignore]
    """Attention with positions on the grid of the clip."""

    grids: tuple[Grid, Grid]

    def get_position_ids(self, x: Tensor, masks: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the positions of ``N`` tokens along time, height and width, ``(N,)`` each."""
        axes = [_places(trained, size, x.device) for trained, size in zip(*self.grids, strict=True)]
        return tuple(places.flatten() for places in torch.meshgrid(*axes, indexing="ij"))

    def apply_rotary_embeddings(self, qk: Tensor, pos_ids: tuple[Tensor, ...]) -> Tensor:
        """Apply the embeddings in single precision, because half precision cannot distinguish positions."""
        single = qk.float()
        turned: Tensor = super().apply_rotary_embeddings(single, pos_ids)  # type: ignore[no-untyped-call, unused-ignore]
        return turned.to(qk.dtype)


def _places(trained: int, size: int, device: torch.device) -> Tensor:
    places = torch.arange(size, dtype=torch.float32, device=device)
    return places if size <= trained else places * ((trained - 1) / (size - 1))


@dataclass
class _Shape:
    """The part of the configuration that a layer of TimeSformer reads."""

    num_frames: int
    image_size: int
    patch_size: int


class TimeSformer(TransformersEncoder):
    """Vision transformer over the patches of frames, with alternating attention along time and space.

    Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021.
    """

    family = "timesformer"
    classes = ("TimesformerConfig", "TimesformerModel")
    other_prefixes = ("classifier.",)
    usual_pixels = Pixels((0.45,) * 3, (0.225,) * 3)
    still_frames = 1

    def __init__(self, encoder: Any, pixels: Pixels | None) -> None:
        super().__init__(encoder, pixels)
        config = encoder.config
        if config.attention_type == "space_only":
            raise InputError(
                f"{PREFIX}{self.family}: attention_type=space_only does not combine frames. Use timm:NAME."
            )
        height, width = pair(config.image_size)
        self.patch = single_number(config.patch_size, "patch_size")
        self.stride, self.channels = self.patch, (config.hidden_size,)
        self.native = (config.num_frames, height // self.patch, width // self.patch)
        self.stages = tuple(f"encoder.encoder.layer.{index}" for index in range(config.num_hidden_layers))
        # Layers read the grid of the clip from their configuration.
        self.shape = _Shape(config.num_frames, width, self.patch)
        for layer in self.layers():
            layer.config = self.shape  # type: ignore[assignment]

    def layers(self) -> Sequence[nn.Module]:
        """See the base class."""
        return cast(Sequence[nn.Module], self.encoder.encoder.layer)

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """Return tokens with the class token first, in which time varies faster than space; see the base class."""
        own = self.encoder.embeddings
        B, _, T, _, width = clips.shape
        patches = own.patch_embeddings.projection(clips.transpose(1, 2).flatten(0, 1))
        grid = (T, patches.shape[-2], patches.shape[-1])
        self.shape.num_frames, self.shape.image_size = T, width
        table, (frames, *native) = own.position_embeddings[0], self.native
        space = interpolate_positions(table[1:], (1, native[0], native[1]), (1, grid[1], grid[2]))
        first = own.pos_drop((own.cls_token + table[0]).expand(B, -1, -1))
        tokens = own.pos_drop(patches.flatten(2).transpose(1, 2) + space)
        tokens = torch.unflatten(tokens, 0, (B, T)).transpose(1, 2)
        time = interpolate_positions(own.time_embeddings[0], (frames, 1, 1), (T, 1, 1))
        tokens = own.time_drop(tokens + time).flatten(1, 2)
        return torch.cat([first, tokens], dim=1), grid

    def normalise(self, tokens: Tensor) -> Tensor:
        """See the base class."""
        return cast(Tensor, self.encoder.layernorm(tokens))

    def fold(self, tokens: Tensor) -> Tensor:
        """See the base class."""
        T, H, W = self.grid
        return torch.unflatten(tokens[:, 1:], 1, (H, W, T)).permute(0, 4, 3, 1, 2)

    def unfold(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """See the base class."""
        return torch.cat([tokens[:, :1], maps.permute(0, 3, 4, 2, 1).flatten(1, 3)], dim=1)


class Hiera(TransformersEncoder):
    """Hierarchical image transformer; frames are encoded one by one, and their features are combined over time.

    Args:
        encoder: as in the base class.
        pixels: as in the base class.
        temporal: see :class:`~microg_da.models.timm_encoder.TimmEncoder`.

    Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", ICML 2023.
    """

    family = "hiera"
    classes = ("HieraConfig", "HieraModel")
    other_prefixes = ("pooler.", "classifier.", "decoder.", "multiscale_fusion.", "hidden_states_norms.")
    fresh = ("temporal",)
    still_frames = 1

    def __init__(self, encoder: Any, pixels: Pixels | None, temporal: str = "attention") -> None:
        encoder.pooler = None
        super().__init__(encoder, pixels)
        config = encoder.config
        self.cell = single_number(config.patch_stride, "patch_stride")
        self.pool = single_number(config.query_stride, "query_stride")
        pools = min(config.num_query_pool, len(config.depths) - 1)
        unit = single_number(config.masked_unit_size, "masked_unit_size")
        if unit != self.pool**pools or pools != len(config.depths) - 1:
            raise InputError(
                f"{PREFIX}{self.family}: expected pooling between all stages that reduces each unit to one token."
            )
        self.patch = self.cell * unit
        self.stride, self.channels = self.patch, (int(encoder.num_features),)
        height, width = pair(config.image_size)
        self.native = (1, height // self.cell, width // self.cell)
        self.stages = tuple(f"encoder.encoder.stages.{index}" for index in range(len(config.depths)))
        self.temporal = temporal_module(temporal, self.channels[0])

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Return feature maps with one temporal position per frame; see the base class."""
        (maps,) = super().forward(frames)
        return (self.temporal(maps),)

    def layers(self) -> Sequence[nn.Module]:
        """See the base class."""
        return cast(Sequence[nn.Module], self.encoder.encoder.stages)

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """Return tokens ``(B·T, N, C)``; tokens of a pooled unit are far apart in this order. See the base class."""
        T = clips.shape[2]
        patches = self.encoder.embeddings.patch_embeddings.projection(clips.transpose(1, 2).flatten(0, 1))
        height, width = patches.shape[-2:]
        table = self.encoder.embeddings.position_embeddings[0]
        tokens = patches.flatten(2).transpose(1, 2) + interpolate_positions(table, self.native, (1, height, width))
        size = (clips.shape[-2], clips.shape[-1])
        tokens = unroll(tokens, size, (self.cell, self.cell), self.encoder.unroll_schedule)
        unit = self.patch // self.cell
        return tokens, (T, height // unit, width // unit)

    def fold(self, tokens: Tensor) -> Tensor:
        """Fold tokens at their resolution; see the base class."""
        T, H, W = self.grid
        pools = self._pools(tokens)
        images = torch.unflatten(tokens, 1, (*(self.pool,) * (2 * pools), H, W)).permute(self._order(tokens))
        side = self.pool**pools
        images = images.reshape(-1, H * side, W * side, tokens.shape[2])
        return torch.unflatten(images, 0, (-1, T)).permute(0, 4, 1, 2, 3)

    def unfold(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """See the base class."""
        _, H, W = self.grid
        inner = (self.pool,) * self._pools(tokens)
        order = self._order(tokens)
        images = torch.unflatten(maps.permute(0, 2, 3, 4, 1).flatten(0, 1), 2, (W, *inner))
        images = torch.unflatten(images, 1, (H, *inner))
        return images.permute([order.index(axis) for axis in range(len(order))]).reshape(tokens.shape)

    def _pools(self, tokens: Tensor) -> int:
        """Return the number of remaining pooling steps."""
        _, H, W = self.grid
        return round(math.log(tokens.shape[1] / (H * W), self.pool**2))

    def _order(self, tokens: Tensor) -> list[int]:
        """Return the axes of unrolled tokens in the order of rows and columns, coarse axes first."""
        count = 2 * self._pools(tokens)
        rows, columns = range(count + 1, 0, -2), range(count + 2, 0, -2)
        return [0, *rows, *columns, count + 3]


def _grid(patches: Tensor) -> Grid:
    T, H, W = patches.shape[-3:]
    return T, H, W


FAMILIES: dict[str, type[TransformersEncoder]] = {kind.family: kind for kind in (VideoMAE, VJEPA2, TimeSformer, Hiera)}
