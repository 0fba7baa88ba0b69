"""Cost of a detector: parameters, trainable parameters, multiply-adds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from microg_da.models.backbone import Backbone

_NORM_COST = ((nn.modules.batchnorm._BatchNorm, 2), (nn.LayerNorm, 5))
"""Operations per element of a normalisation layer, as counted by fvcore and printed by PySlowFast."""


def count_parameters(module: nn.Module, trainable: bool = False) -> int:
    """Return the number of parameters; with ``trainable``, only of trainable ones."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


@torch.no_grad()
def count_multiply_adds(backbone: Backbone, num_frames: int, height: int, width: int | None = None) -> float:
    """Return the multiply-adds of the backbone for one clip, computed on the meta device.

    Matrix products and convolutions count one per multiply-add, normalisation 2 (batch) or 5 (layer) per element,
    as in PySlowFast's logs. The RoI head, a few thousandths of the cost, is not counted.

    Args:
        backbone: the backbone on the meta device, built inside ``with torch.device("meta")``.
        num_frames: number of frames of the clip.
        height: height of the frames in pixels.
        width: width of the frames in pixels; None for a square.
    """
    elements = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal elements
        factor = next(factor for kind, factor in _NORM_COST if isinstance(module, kind))
        elements += factor * output.numel()

    kinds = tuple(kind for kind, _ in _NORM_COST)
    hooks = [module.register_forward_hook(add) for module in backbone.modules() if isinstance(module, kinds)]
    training = backbone.training
    try:
        with FlopCounterMode(display=False) as counter:
            backbone.eval()(torch.empty(1, 3, num_frames, height, width or height, device="meta"))
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    flops: int = counter.get_total_flops()
    return flops / 2 + elements
