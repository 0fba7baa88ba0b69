"""Image encoders of timm as backbones, which encode single frames and combine their features over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from microg_da.errors import InputError, first_line, nearest
from microg_da.models.backbone import MEAN, STD, Adapter, Backbone, StageOutput

PREFIX = "timm:"


class TimmEncoder(Backbone):
    """A timm encoder with a temporal module over the last feature maps of the frames.

    Args:
        name: timm's name of the encoder: a ResNet, ConvNeXt, ViT, DINOv2 or v3, SigLIP, EVA, …
        pretrained: whether timm downloads its weights for the name; use ``checkpoint`` for a local file.
        temporal: combination of frames before averaging: ``"attention"`` or ``"convolution"`` (both start as the
            identity), or ``"none"``.
        gradient_checkpointing: recompute activations instead of storing them, if the encoder supports it.
    """

    scale: Tensor
    shift: Tensor
    published_names = "timm"
    fresh = ("temporal",)
    still_frames = 1

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        temporal: str = "attention",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.encoder = _create_encoder(name, pretrained)
        info = self.encoder.feature_info[-1]
        self.channels = (info["num_chs"],)
        self.stride = info["reduction"]
        self.stages = tuple(f"encoder.{stage['module']}" for stage in self.encoder.feature_info)
        patches = any(hasattr(self.encoder, part) for part in ("patch_embed", "embeds"))
        self.patch: int = info["reduction"] if patches else 1
        # Layers of a classifier after the last feature map are not part of a detector.
        names = self.encoder.state_dict().keys()
        self.encoder.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
        self.pruned = frozenset(names - self.encoder.state_dict().keys())
        if gradient_checkpointing:
            self.encoder.set_grad_checkpointing(True)
        self._clips = (1, 1, 1)
        self.temporal = temporal_module(temporal, info["num_chs"])
        config = self.encoder.pretrained_cfg
        mean, std = (torch.tensor(config.get(key) or [default]) for key, default in (("mean", MEAN), ("std", STD)))
        self.register_buffer("scale", (STD / std)[:, None, None], persistent=False)
        self.register_buffer("shift", ((MEAN - mean) / std)[:, None, None], persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, C, T, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        B, _, T, H, W = frames.shape
        images = frames.transpose(1, 2).flatten(0, 1) * self.scale + self.shift
        images = F.pad(images, (0, -W % self.patch, 0, -H % self.patch))
        self._clips = (B, T, images.shape[-2] // self.patch)
        (features,) = self.encoder.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return (self.temporal(features.unflatten(0, (B, T)).transpose(1, 2)),)

    def adapt(self, output: StageOutput, adapters: Sequence[Adapter]) -> StageOutput:
        """Apply adapters to maps or tokens of ``B·T`` images; see the base class."""
        if not isinstance(output, Tensor):
            return super().adapt(output, adapters)
        B, T, height = self._clips
        if output.ndim == 4:
            channels_last = getattr(self.encoder, "output_fmt", None) == "NHWC"
            maps = output.permute(0, 3, 1, 2) if channels_last else output
            maps = adapters[0](torch.unflatten(maps, 0, (B, T)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)
            return maps.permute(0, 2, 3, 1) if channels_last else maps
        prefix = getattr(self.encoder, "num_prefix_tokens", 0)
        tokens = torch.unflatten(torch.unflatten(output[:, prefix:], 0, (B, T)), 2, (height, -1))
        tokens = adapters[0](tokens.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2)
        return torch.cat([output[:, :prefix], tokens], dim=1)


class TemporalConvolution(nn.Module):
    """Residual depthwise convolution over three frames, initially the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=channels)
        for parameter in self.convolution.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` → the same shape."""
        mixed: Tensor = x + self.convolution(x)
        return mixed


class TemporalAttention(nn.Module):
    """Residual self-attention between the frames at each position, initially the identity."""

    def __init__(self, channels: int, head_dim: int = 64) -> None:
        super().__init__()
        heads = max(1, channels // head_dim)
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, math.gcd(heads, channels), batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` → the same shape."""
        B, C, T, H, W = x.shape
        tokens = x.permute(0, 3, 4, 2, 1).reshape(B * H * W, T, C)
        placed = self.norm(tokens) + _time_encoding(T, C).to(tokens)
        tokens = tokens + self.attention(placed, placed, placed, need_weights=False)[0]
        attended: Tensor = tokens.reshape(B, H, W, T, C)
        return attended.permute(0, 4, 3, 1, 2)


def _time_encoding(T: int, C: int) -> Tensor:
    """Return sines and cosines of the frame index, ``(T, C)``, for any T (Vaswani et al., NeurIPS 2017)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, C, 2) / C)
    phases = torch.arange(T)[:, None] * rates
    return torch.cat([phases.sin(), phases.cos()], dim=1)[:, :C]


def temporal_module(kind: str, channels: int) -> nn.Module:
    """Return the temporal module of separately encoded frames: ``"attention"``, ``"convolution"`` or ``"none"``.

    Raises:
        InputError: for another kind.
    """
    if kind == "attention":
        return TemporalAttention(channels)
    if kind == "convolution":
        return TemporalConvolution(channels)
    if kind == "none":
        return nn.Identity()
    raise InputError(f"model.options.temporal: expected attention, convolution or none, got {kind!r}")


def _create_encoder(name: str, pretrained: bool) -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError(f"model {PREFIX}{name} needs timm: `pip install timm`") from error
    if not timm.is_model(name):
        guess = nearest(name, timm.list_models())
        raise InputError(
            f"timm {timm.__version__} has no encoder {name!r}."
            + (f" Did you mean {PREFIX}{guess}?" if guess else " See timm.list_models().")
        )
    try:
        encoder = _any_size(timm, name, pretrained)
    except Exception as error:
        if not pretrained:
            raise
        raise InputError(
            f"timm cannot download the weights of {name} ({first_line(error)[:200]}). Without a network connection, "
            f"use a local file: checkpoint=FILE with pretrained=false."
        ) from error
    if not hasattr(encoder, "forward_intermediates") or not getattr(encoder, "feature_info", None):
        raise InputError(f"timm's {name} has no feature maps. Choose another encoder")
    return encoder


def _any_size(timm: Any, name: str, pretrained: bool) -> Any:
    try:
        # Vision transformers resize their position embeddings to each input with this option.
        return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True)
    except TypeError:
        return timm.create_model(name, pretrained=pretrained)
