"""Folding of constant batch normalisation into the preceding convolution."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from microg_da.models.detector import ActionDetector


@torch.no_grad()
def fold_batch_norm(detector: ActionDetector, num_frames: int, side: int) -> ActionDetector:
    """Return a copy of a detector, for prediction only, with batch normalisation folded into convolutions.

    The convolution before a normalisation layer is found by tracing a clip. Layers that follow other operations are not
    changed.

    Args:
        detector: the detector, which is not changed.
        num_frames: T, the number of frames of the clips.
        side: height and width of the clips.

    Returns:
        A detector in evaluation mode with the logits of ``detector.eval()`` up to rounding. Test-time methods that
        re-estimate or train batch normalisation cannot use this detector.
    """
    folded = copy.deepcopy(detector).eval()
    for name, convolution_name in _pairs(folded, num_frames, side).items():
        norm, convolution = folded.get_submodule(name), folded.get_submodule(convolution_name)
        assert isinstance(norm, _BatchNorm)
        assert isinstance(convolution, _ConvNd)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, own = name.rpartition(".")
        setattr(folded.get_submodule(parent), own, nn.Identity())
    return folded


def _pairs(detector: ActionDetector, num_frames: int, side: int) -> dict[str, str]:
    """Return the names of normalisation layers that directly follow a convolution, with the name of the convolution."""
    # Tensors on the meta device have shapes but no values: the order of layers is traced without computation.
    detector = copy.deepcopy(detector).to("meta", torch.float32)
    names = {module: name for name, module in detector.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    pairs: dict[str, str] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = module, output  # the reference to the tensor keeps its id unique

    def match(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        convolution, _ = made.get(id(inputs[0]), (None, None))
        if convolution is not None and module.track_running_stats:
            # A detector that pools over rolls calls its layers several times.
            pairs[names[module]] = names[convolution]

    hooks = []
    for module in detector.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and not hasattr(module, "low_rank_up"):
            hooks.append(module.register_forward_hook(remember))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(match))
    try:
        no_boxes = torch.empty(0, 4, device="meta")
        detector(torch.empty(1, 3, num_frames, side, side, device="meta"), no_boxes, no_boxes[:, 0].long())
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
