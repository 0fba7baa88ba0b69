"""The kinds of heads, and their arguments from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microg_da.config import typed_arguments
from microg_da.errors import unknown_name
from microg_da.models.attentive_head import AttentiveArguments, AttentiveHead
from microg_da.models.person_head import PersonHead
from microg_da.models.roi_head import RoIHead


@dataclass
class RoIArguments:
    """Arguments of the RoI head, which has no arguments."""


HeadArguments = RoIArguments | AttentiveArguments

HEADS: dict[str, type[RoIArguments] | type[AttentiveArguments]] = {
    "roi": RoIArguments,
    "attentive": AttentiveArguments,
}
"""The arguments of each head, by name."""


def head_arguments(name: str, given: Mapping[str, Any]) -> HeadArguments:
    """Return the checked arguments of a head.

    Raises:
        InputError: for an unknown head or argument, or a value of another type.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS, where="model.head")
    made: HeadArguments = typed_arguments(HEADS[name], given, f"head {name!r}", "model.head_args")
    return made


def make_head(
    arguments: HeadArguments, channels: Sequence[int], num_classes: int, stride: float, dropout: float
) -> PersonHead:
    """Create a head with random weights.

    Args:
        arguments: the result of :func:`head_arguments`.
        channels: channels of each feature map.
        num_classes: logits per person.
        stride: input pixels per cell of the feature maps.
        dropout: rate before the linear layer.
    """
    if isinstance(arguments, AttentiveArguments):
        return AttentiveHead(channels, num_classes, stride, dropout, arguments)
    return RoIHead(channels, num_classes, stride, dropout)
