"""Folding of batch normalisation that no longer changes into the preceding convolution."""

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
    """A copy of a detector, for prediction alone, in which convolutions do what normalisation did.

    Which convolution a layer follows is seen by letting a clip through: it is the one whose output the layer is
    given. Layers that follow something else are left as they are.

    Args:
        detector: stays as it is.
        num_frames: T of clips that the detector takes.
        side: their height and width.

    Returns:
        A detector in evaluation mode whose logits are those of ``detector.eval()`` up to rounding. Methods that
        re-estimate or train batch normalisation at test time find none in it.
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
    """For the name of each normalisation layer that is given what a convolution puts out, that convolution's name."""
    # On the meta device tensors have shapes and no numbers: the way through the network is seen, nothing is computed.
    detector = copy.deepcopy(detector).to("meta", torch.float32)
    names = {module: name for name, module in detector.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    pairs: dict[str, str] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = module, output  # the tensor too: as long as it lives, nothing else has its id

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
        nobody = torch.empty(0, 4, device="meta")
        detector(torch.empty(1, 3, num_frames, side, side, device="meta"), nobody, nobody[:, 0].long())
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
