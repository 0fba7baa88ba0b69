"""Batch normalisation that no longer changes, multiplied into the convolution before it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from microg_da.models.detector import ActionDetector


@torch.no_grad()
def fold_batch_norm(detector: ActionDetector, example: Tensor) -> ActionDetector:
    """A copy of a detector, for prediction alone, in which convolutions do what normalisation did.

    Which convolution a layer follows is seen by letting the example through: it is the one whose output the layer is
    given. Layers that follow something else are left as they are.

    Args:
        detector: stays as it is.
        example: frames ``(B, 3, T, H, W)`` as the detector takes them; small ones will do.

    Returns:
        A detector in evaluation mode whose logits are those of ``detector.eval()`` up to rounding. Methods that
        re-estimate or train batch normalisation at test time find none in it.
    """
    folded = copy.deepcopy(detector).eval()
    for name, convolution in _pairs(folded, example).items():
        norm: Any = folded.get_submodule(name)
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        folded.set_submodule(name, nn.Identity())
    return folded


def _pairs(detector: ActionDetector, example: Tensor) -> dict[str, Any]:
    """For the name of each normalisation layer that is given what a convolution puts out, that convolution."""
    names = {module: name for name, module in detector.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    pairs: dict[str, Any] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = module, output  # the tensor too: as long as it lives, nothing else has its id

    def match(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        convolution, _ = made.get(id(inputs[0]), (None, None))
        if convolution is not None and module.track_running_stats:
            # A detector that pools over rolls calls its layers several times.
            pairs[names[module]] = convolution

    hooks = []
    for module in detector.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and not hasattr(module, "low_rank_up"):
            hooks.append(module.register_forward_hook(remember))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(match))
    try:
        nobody = example.new_zeros(0, dtype=torch.float32)
        detector(example, nobody.reshape(0, 4), nobody.long())
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
