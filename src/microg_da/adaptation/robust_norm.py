"""Batch normalisation with moving statistics that include the current batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def robust_statistics(layers: Iterable[_BatchNorm], momentum: float) -> Iterator[None]:
    """Let layers in evaluation mode update their statistics with each batch inside the block, and normalise by them.

    With the statistics ``s`` of a layer and ``b`` of a batch, ``s`` becomes ``(1 - momentum) s + momentum b``, with
    biased variances, and the batch is normalised by the new ``s``. The gradient passes through ``b``.

    Yuan et al., "Robust test-time adaptation in dynamic scenarios", CVPR 2023 (robust batch normalization).

    Args:
        layers: layers with running statistics.
        momentum: weight of the batch.
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
    """Return the output of a layer for ``(B, C, …)``, with an update of its statistics by :func:`robust_statistics`."""
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
