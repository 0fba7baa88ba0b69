"""Multiscale vision transformers: torchvision's MViT as a backbone for clips of any length and size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.video import MViT as TorchvisionMViT
from torchvision.models.video import mvit_v1_b as build_v1_b
from torchvision.models.video import mvit_v2_s as build_v2_s
from torchvision.models.video.mvit import MultiscaleAttention, MultiscaleBlock, PositionalEncoding

from microg_da.models.backbone import Adapter, Backbone, Grid, StageOutput


class MViT(Backbone):
    """A multiscale vision transformer whose feature map consists of the tokens of the last block, with stride 32.

    Positional embeddings are interpolated to the tokens of the input: absolute embeddings trilinearly, relative
    embeddings linearly along each axis. The class token is not part of the map.

    Args:
        network: torchvision's MViT with blocks of :class:`AnySizeBlock`.

    Fan et al., Multiscale Vision Transformers, ICCV 2021; Li et al., MViTv2, CVPR 2022.
    """

    stride = 32
    published_names = "mvit"

    def __init__(self, network: TorchvisionMViT) -> None:
        super().__init__()
        self.conv_proj = network.conv_proj
        self.pos_encoding = network.pos_encoding
        self.blocks = network.blocks
        self.norm = network.norm
        self.channels = (self.norm.normalized_shape[0],)
        self.stages = ("conv_proj", *(f"blocks.{index}" for index in range(len(self.blocks))))

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, 768, T/2, H/32, W/32)``."""
        x = self.conv_proj(frames)
        grid: Grid = tuple(x.shape[2:])
        x = add_positions(self.pos_encoding, x.flatten(2).transpose(1, 2), grid)
        for block in self.blocks:
            x, grid = block(x, grid)
        x = self.norm(x)[:, 1:]
        return (x.transpose(1, 2).unflatten(2, grid),)

    def adapt(self, output: StageOutput, adapters: Sequence[Adapter]) -> StageOutput:
        """Apply adapters to tokens and their grid without the class token; see the base class."""
        if not isinstance(output, tuple):
            return super().adapt(output, adapters)
        tokens, grid = output
        maps = adapters[0](torch.unflatten(tokens[:, 1:].transpose(1, 2), 2, grid))
        return torch.cat([tokens[:, :1], maps.flatten(2).transpose(1, 2)], dim=1), grid


def add_positions(encoding: PositionalEncoding, tokens: Tensor, grid: Grid) -> Tensor:
    """Prepend the class token to ``(B, T·H·W, C)`` and add absolute positions, if any, resized to ``grid``."""
    class_token = encoding.class_token.expand(len(tokens), 1, -1)
    if encoding.spatial_pos is None:
        return torch.cat([class_token, tokens], dim=1)
    time = _resize(encoding.temporal_pos.T[None], grid[:1], "linear")
    space = encoding.spatial_pos.T.unflatten(1, encoding.spatial_size)[None]
    space = _resize(space, grid[1:], "bilinear")
    # Trilinear interpolation of a sum of a temporal and a spatial part is the sum of the two interpolations.
    positions = (time[..., None, None] + space[:, :, None]).flatten(2).transpose(1, 2)
    return torch.cat([class_token + encoding.class_pos, tokens + positions], dim=1)


def _resize(values: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    return values if tuple(values.shape[2:]) == size else F.interpolate(values, size=size, mode=mode)


class AnySizeBlock(MultiscaleBlock):  # type: ignore[misc]  # torchvision has no types
    """Torchvision's block with :class:`AnySizeAttention`."""

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        # Parameters and names are equal; only the arithmetic differs.
        self.attn.__class__ = AnySizeAttention


class AnySizeAttention(MultiscaleAttention):  # type: ignore[misc]
    """Multiscale attention whose relative positions are those of PySlowFast for every input size.

    If queries and keys differ in resolution by a non-integer factor, torchvision's rounding of
    relative distances differs from that of the published networks. The attention is torch's fused attention.
    """

    def forward(self, x: Tensor, thw: Grid) -> tuple[Tensor, Grid]:
        """``(B, 1 + T·H·W, C)`` and its grid → the attended tokens and their grid."""
        B, N, _ = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim).transpose(1, 3).unbind(dim=2)
        q_grid = k_grid = thw
        if self.pool_k is not None and self.pool_v is not None:
            k, k_grid = self.pool_k(k, thw)
            v = self.pool_v(v, thw)[0]
        if self.pool_q is not None:
            q, q_grid = self.pool_q(q, thw)
        bias = None if self.rel_pos_h is None else self._position_bias(q, q_grid, k_grid)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scaler)
        if self.residual_pool:
            x = torch.cat([x[:, :, :1], x[:, :, 1:] + q[:, :, 1:]], dim=2)
        return self.project(x.transpose(1, 2).reshape(B, -1, self.output_dim)), q_grid

    def _position_bias(self, q: Tensor, q_grid: Grid, k_grid: Grid) -> Tensor:
        """Return the bias ``(B, heads, 1 + Nq, 1 + Nk)`` of decomposed relative positions for the attention logits."""
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        time, height, width = (
            _relative_embedding(table, *sizes) for table, *sizes in zip(tables, q_grid, k_grid, strict=True)
        )
        tokens = torch.unflatten(q[:, :, 1:], 2, q_grid)
        bias = (
            torch.einsum("bnthwc,tkc->bnthwk", tokens, time)[..., :, None, None]
            + torch.einsum("bnthwc,hkc->bnthwk", tokens, height)[..., None, :, None]
            + torch.einsum("bnthwc,wkc->bnthwk", tokens, width)[..., None, None, :]
        )
        # The class token has no position, so its row and column have no bias.
        return F.pad(bias.flatten(5).flatten(2, 4), (1, 0, 1, 0))


def _relative_embedding(table: Tensor, queries: int, keys: int) -> Tensor:
    """Return embeddings ``(queries, keys, C)`` of the distances along one axis; ``table`` is ``(distances, C)``."""
    table = _resize(table.T[None], (2 * max(queries, keys) - 1,), "linear")[0].T
    return table[_distances(queries, keys).to(table.device)]


def _distances(queries: int, keys: int) -> Tensor:
    # The order of operations is that of PySlowFast, because in float32 it determines the truncation of fractions.
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    distance = torch.arange(queries)[:, None] * query_step - torch.arange(keys)[None] * key_step
    return (distance + (keys - 1) * key_step).long()


def mvit_v1_b(stochastic_depth: float = 0.2) -> MViT:
    """Build MViTv1-B 16×4 with absolute positions."""
    return MViT(build_v1_b(block=AnySizeBlock, stochastic_depth_prob=stochastic_depth))


def mvit_v2_s(stochastic_depth: float = 0.2) -> MViT:
    """Build MViTv2-S 16×4 with decomposed relative positions and residual pooling."""
    return MViT(build_v2_s(block=AnySizeBlock, stochastic_depth_prob=stochastic_depth))
