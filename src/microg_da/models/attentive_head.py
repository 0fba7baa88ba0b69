"""The attentive head: queries of each person attend to all tokens of the clip, inside and outside the box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from microg_da.errors import InputError, unknown_name
from microg_da.models.person_head import PersonHead, time_slices

BOX_KINDS = ("bias", "mask", "query")
"""The use of a person's box in the attention."""


@dataclass
class AttentiveArguments:
    """Arguments of the attentive head.

    Attributes:
        box: use of a person's box: ``bias`` lowers the attention outside the box by a learned strength of each
            attention head; ``mask`` restricts the attention to the box; ``query`` adds the box to the queries, and
            positions to the keys.
        queries: learned queries per person; their outputs are concatenated.
        width: inner width, and length of a query's output; null for the channels of the map.
        heads: attention heads; null for one per 64 of the width.
        mlp_ratio: width of the hidden layer after the attention, relative to ``width``.
    """

    box: str = "bias"
    queries: int = 1
    width: int | None = None
    heads: int | None = None
    mlp_ratio: float = 4.0


class AttentiveHead(PersonHead):
    """Cross-attention from each person to the clip → residual MLP → dropout → linear, for each pathway.

    It is the attentive probe of V-JEPA, one block of cross-attention from learned queries to the tokens of a frozen
    encoder, with the addition of a person's box. RoIAlign reads only the box, but an action often depends on its
    context: a held object, or another person.

    By default the box is an additive bias on the attention, ``-strength · (1 − coverage)``. The coverage is the part of
    a token's cell inside the box. Each attention head has a learned strength, with initial values from 0 (the whole
    clip) to 6 (only the box). The probe therefore separates people from the first step, needs no positions in tokens,
    and can attend to the whole clip. With ``query`` it must first learn the meaning of positions, and with ``mask`` it
    has no context.

    Args:
        channels: channels of each feature map.
        num_classes: outputs of the linear layer.
        stride: input pixels per cell of the feature maps.
        dropout: rate before the linear layer.
        arguments: other arguments of the head.

    Raises:
        InputError: for an invalid argument.

    Bardes et al., "Revisiting Feature Prediction for Learning Visual Representations from Video", TMLR 2024 (the
    probe); Press et al., "Train Short, Test Long", ICLR 2022 (biases that differ between heads).
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        stride: float,
        dropout: float = 0.5,
        arguments: AttentiveArguments | None = None,
    ) -> None:
        chosen = arguments or AttentiveArguments()
        _check(chosen)
        widths = [chosen.width or count for count in channels]
        super().__init__(chosen.queries * sum(widths), num_classes, stride, dropout)
        self.poolers = nn.ModuleList(
            AttentivePool(count, width, chosen) for count, width in zip(channels, widths, strict=True)
        )

    def features(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Return the output of the attention of a person's queries; see the base class."""
        pooled = [
            pooler(pathway, boxes, clip_index, self.stride) for pooler, pathway in zip(self.poolers, maps, strict=True)
        ]
        return torch.cat(pooled, dim=1)

    def local_grids(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor, slices: int) -> Tensor:
        """Return grids with ``R = 1``; queries attend to one slice at a time. See the base class."""
        parts = zip(*(time_slices(pathway, slices) for pathway in maps), strict=True)
        return torch.stack([self.features(part, boxes, clip_index) for part in parts], dim=1)[..., None, None]


class AttentivePool(nn.Module):
    """One block of cross-attention from the queries of each person to the tokens of a map.

    Args:
        channels: channels of the map.
        width: width of the queries.
        arguments: arguments of the head.
    """

    def __init__(self, channels: int, width: int, arguments: AttentiveArguments) -> None:
        super().__init__()
        self.box = arguments.box
        self.heads = _heads(width, arguments.heads)
        self.queries = nn.Parameter(torch.empty(arguments.queries, width))
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(channels, width)
        self.value = nn.Linear(channels, width)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        hidden = int(width * arguments.mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        if self.box == "bias":
            self.strength = nn.Parameter(torch.linspace(0, 6, self.heads))
        if self.box == "query":
            self.box_query = nn.Linear(4 * _WAVES, width)
            self.place_key = nn.Linear(2 * _WAVES, width, bias=False)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.queries, std=0.02)

    def forward(self, maps: Tensor, boxes: Tensor, clip_index: Tensor, stride: float) -> Tensor:
        """``(B, C, T, H, W)``, ``(K, 4)`` and ``(K,)`` → ``(K, queries · width)``."""
        T, H, W = maps.shape[2:]
        tokens = self.norm(maps.flatten(2).transpose(1, 2))
        keys, values = self.key(tokens), self.value(tokens)
        queries = self.queries.expand(len(boxes), -1, -1)
        asked, allowed = queries, None
        if self.box == "query":
            places, people = (x.to(queries.dtype) for x in _places(boxes.float() / stride, H, W))
            keys = keys + self.place_key(places).repeat(T, 1)
            asked = asked + self.box_query(people)[:, None]
        else:
            allowed = self._allowed(box_coverage(boxes / stride, H, W).repeat(1, T))
        keys, values = (x.index_select(0, clip_index) for x in (keys, values))
        found = self._attend(self.query(asked), keys, values, allowed)
        pooled = queries + self.output(found)
        changed: Tensor = pooled + self.mlp(self.mlp_norm(pooled))
        return changed.flatten(1)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        q, k, v = (torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2) for x in (queries, keys, values))
        if allowed is not None and allowed.is_floating_point():
            allowed = allowed.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)

    def _allowed(self, coverage: Tensor) -> Tensor:
        """Bias ``(K, heads, 1, N)`` or mask ``(K, 1, 1, N)`` of the attention."""
        if self.box == "mask":
            return (coverage > 0)[:, None, None]
        return (coverage[:, None] - 1)[:, :, None] * self.strength[:, None, None]


def box_coverage(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the covered part of each cell of a map by each box, ``(K, height · width)`` in [0, 1].

    A box that is narrower than a cell or outside the map is replaced by one cell around its centre, inside the map, so
    that the coverage is never empty.

    Args:
        boxes: ``(K, 4)`` in cells, ``x1 y1 x2 y2``.
        height: height of the map in cells.
        width: width of the map in cells.
    """
    x1, y1, x2, y2 = boxes.float().unbind(dim=1)
    down, across = _overlap(y1, y2, height), _overlap(x1, x2, width)
    return (down[:, :, None] * across[:, None]).flatten(1)


def _overlap(low: Tensor, high: Tensor, cells: int) -> Tensor:
    middle = ((low + high) / 2).clamp(0.5, cells - 0.5)
    low, high = torch.minimum(low, middle - 0.5)[:, None], torch.maximum(high, middle + 0.5)[:, None]
    starts = torch.arange(cells, device=low.device)
    return (torch.minimum(high, starts + 1) - torch.maximum(low, starts)).clamp(0, 1)


_WAVES = 32
"""Number of sines and cosines for each coordinate of a position."""


def _places(boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return positions of all cells ``(H · W, 2 · waves)`` and boxes ``(K, 4 · waves)``, relative to the map."""
    y, x = ((torch.arange(size, device=boxes.device) + 0.5) / size for size in (height, width))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    cells = torch.stack([columns, rows], dim=-1).flatten(0, 1)
    x1, y1, x2, y2 = boxes.unbind(dim=1)  # sizes stay symbols in an exported network, so they enter as numbers
    people = torch.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], dim=1)
    return _waves(cells), _waves(people)


def _waves(numbers: Tensor) -> Tensor:
    """Return sines and cosines ``(…, n · waves)`` of numbers in [0, 1], with periods from 2 downwards."""
    rates = math.pi * 2 ** torch.arange(_WAVES // 2, device=numbers.device).div(4)
    phases = numbers[..., None] * rates
    return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _heads(width: int, heads: int | None) -> int:
    if heads is None:
        return math.gcd(max(1, width // 64), width)
    if width % heads:
        raise InputError(f"model.head_args.heads={heads}: expected a divisor of the width {width}.")
    return heads


def _check(arguments: AttentiveArguments) -> None:
    if arguments.box not in BOX_KINDS:
        raise unknown_name("way for the box", arguments.box, BOX_KINDS, where="model.head_args.box")
    for key in ("queries", "width", "heads", "mlp_ratio"):
        value = getattr(arguments, key)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"model.head_args.{key}={value}: expected a number above 0.")
