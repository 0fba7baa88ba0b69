"""Batch normalisation by moving statistics that the batch takes part in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def robust_statistics(layers: Iterable[_BatchNorm], momentum: float) -> Iterator[None]:
    """Inside the block, layers in evaluation mode move their statistics towards a batch, and normalise by the result.

    With the statistics ``s`` of a layer and those of a batch ``b``, ``s`` becomes ``(1 - momentum) s + momentum b``,
    biased variances included, and the batch is normalised by that. The gradient passes through ``b``.

    Yuan et al., "Robust test-time adaptation in dynamic scenarios", CVPR 2023 (robust batch normalization).

    Args:
        layers: with running statistics.
        momentum: share of the batch.
    """

    def normalise(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(layer, _BatchNorm)
        return normalise_robustly(layer, inputs[0], momentum)

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(_removed(layer.register_forward_hook(normalise)))
        yield


@contextmanager
def _removed(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def normalise_robustly(layer: _BatchNorm, values: Tensor, momentum: float) -> Tensor:
    """What a layer makes of ``(B, C, …)``, its statistics moved as in :func:`robust_statistics`."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    axes = [axis for axis in range(values.dim()) if axis != 1]
    seen = torch.var_mean(values.float(), dim=axes, correction=0)
    variance, mean = (
        torch.lerp(known.float(), new, momentum)
        for known, new in zip((layer.running_var, layer.running_mean), seen, strict=True)
    )
    with torch.no_grad():
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
    scale = torch.rsqrt(variance + layer.eps)
    shift = -mean * scale
    if layer.affine:
        scale, shift = scale * layer.weight, shift * layer.weight + layer.bias
    shape = [-1 if axis == 1 else 1 for axis in range(values.dim())]
    return torch.addcmul(shift.view(shape), values, scale.view(shape))
