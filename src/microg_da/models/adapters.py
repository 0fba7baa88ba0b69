"""Training of a part of a network: frozen stages, low-rank updates, dual-path adapters, learning rates by depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from microg_da.errors import InputError, unknown_name
from microg_da.models.backbone import Adapter, Backbone, StageOutput
from microg_da.models.convolutions import FrameConv3d, TemporalConv3d

KINDS = ("lora", "dual_path")


def add_adapters(backbone: Backbone, kind: str, rank: int = 8) -> None:
    """Freeze a backbone and add a few trainable parameters, which do not change the outputs before training.

    Args:
        backbone: changed in place.
        kind: ``"lora"`` (Hu et al., ICLR 2022) or ``"dual_path"`` (the idea of the Multi-Label Micro-Action
            Detection baseline, Li et al., 2024).
        rank: the inner width of every update or adapter.

    Raises:
        InputError: for an unknown kind or an invalid rank.
    """
    if kind not in KINDS:
        raise unknown_name("adapter", kind, KINDS, where="model.adapters")
    if rank < 1:
        raise InputError(f"model.adapter_rank: expected a whole number of at least 1, got {rank}")
    freeze_stages(backbone, "all")
    if kind == "lora":
        add_low_rank(backbone, rank)
    else:
        add_dual_paths(backbone, rank)


# ------------------------------------------------------------------------------------------------------- low rank


class _LowRank(nn.Module):
    """Base class of low-rank layers, which have a frozen weight and a trained update ``up @ down``."""

    weight: Tensor
    low_rank_down: nn.Parameter
    low_rank_up: nn.Parameter

    def updated_weight(self) -> Tensor:
        """Return the weight with its update."""
        return self.weight + (self.low_rank_up @ self.low_rank_down).view_as(self.weight)


class LowRankLinear(_LowRank, nn.Linear):
    """A linear layer whose weight is updated in low rank."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer like ``nn.Linear``."""
        return nn.functional.linear(x, self.updated_weight(), self.bias)


class LowRankConv2d(_LowRank, nn.Conv2d):
    """A convolution of images whose weight is updated in low rank."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer like ``nn.Conv2d``."""
        output: Tensor = self._conv_forward(x, self.updated_weight(), self.bias)
        return output


class LowRankConv3d(_LowRank, nn.Conv3d):
    """A convolution of clips whose weight is updated in low rank."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer like ``nn.Conv3d``."""
        output: Tensor = self._conv_forward(x, self.updated_weight(), self.bias)
        return output


class LowRankFrameConv3d(LowRankConv3d, FrameConv3d):
    """A convolution of a clip's frames whose weight is updated in low rank."""


class LowRankTemporalConv3d(LowRankConv3d, TemporalConv3d):
    """A convolution along time whose weight is updated in low rank."""


_LOW_RANK = {
    nn.Linear: LowRankLinear,
    nn.Conv2d: LowRankConv2d,
    nn.Conv3d: LowRankConv3d,
    FrameConv3d: LowRankFrameConv3d,
    TemporalConv3d: LowRankTemporalConv3d,
}


def add_low_rank(module: nn.Module, rank: int) -> None:
    """Add a low-rank update, initially zero, to every linear layer and convolution of a module.

    Layers for which the update would not be smaller than the weight, such as depthwise convolutions, are not changed.
    Layers keep their names, so that weight files of the plain network still fit.
    """
    for layer in module.modules():
        if type(layer) not in _LOW_RANK:
            continue
        outputs, inputs = len(layer.weight), layer.weight[0].numel()  # type: ignore[arg-type, index]
        if rank * (outputs + inputs) >= outputs * inputs:
            continue
        layer.__class__ = _LOW_RANK[type(layer)]
        down = torch.empty(rank, inputs, device=layer.weight.device)  # type: ignore[arg-type]
        layer.low_rank_down = nn.Parameter(nn.init.kaiming_uniform_(down, a=5**0.5))
        layer.low_rank_up = nn.Parameter(down.new_zeros(outputs, rank))


# ------------------------------------------------------------------------------------------------------ dual path


class DualPathAdapter(nn.Module):
    """Two light residual paths parallel to a stage, one along time and one along space, mixed channel by channel.

    Args:
        channels: channels of the output of the stage.
        rank: channels inside each path.
    """

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.time = _path(channels, rank, (3, 1, 1))
        self.space = _path(channels, rank, (1, 3, 3))
        self.mix = nn.Parameter(torch.zeros(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` → the same shape."""
        mix = self.mix.sigmoid()
        mixed: Tensor = x + mix * self.time(x) + (1 - mix) * self.space(x)
        return mixed


def _path(channels: int, rank: int, kernel: tuple[int, int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    up = nn.Conv3d(rank, channels, 1)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)  # type: ignore[arg-type]
    inner = nn.Conv3d(rank, rank, kernel, padding=padding, groups=rank)
    return nn.Sequential(nn.Conv3d(channels, rank, 1), inner, nn.GELU(), up)


class _StageHook:
    """Applies the adapters of a stage to its output.

    The hook is an object, not a closure, so that a deep copy of the network (e.g. a teacher) uses its own adapters.
    """

    def __init__(self, backbone: Backbone, adapters: Sequence[Adapter]) -> None:
        self.backbone = backbone
        self.adapters = adapters

    def __call__(self, stage: nn.Module, inputs: object, output: StageOutput) -> StageOutput:
        return self.backbone.adapt(output, self.adapters)


def add_dual_paths(backbone: Backbone, rank: int) -> None:
    """Add a dual-path adapter after every stage of a backbone, one for each pathway."""
    channels = stage_channels(backbone)
    device = next(backbone.parameters()).device
    backbone.adapters = nn.ModuleDict()
    for stage in backbone.stages:
        adapters = nn.ModuleList(DualPathAdapter(width, min(rank, width)) for width in channels[stage])
        backbone.adapters[stage.replace(".", "_")] = adapters.to(device)
        backbone.get_submodule(stage).register_forward_hook(_StageHook(backbone, adapters))  # type: ignore[arg-type]


def stage_channels(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Return the output channels of each stage for each pathway, found on the meta device."""
    found: dict[str, list[int]] = {stage: [] for stage in backbone.stages}

    def recorder(stage: str) -> Adapter:
        def record(x: Tensor) -> Tensor:
            found[stage].append(x.shape[1])
            return x

        return record

    handles = [
        backbone.get_submodule(stage).register_forward_hook(_StageHook(backbone, [recorder(stage)] * 2))
        for stage in backbone.stages
    ]
    state = {name: x.to("meta") for name, x in (*backbone.named_parameters(), *backbone.named_buffers())}
    training, frames = backbone.training, 8 * backbone.frame_multiple
    try:
        torch.func.functional_call(backbone.eval(), state, torch.empty(1, 3, frames, 224, 224, device="meta"))
    finally:
        backbone.train(training)
        for handle in handles:
            handle.remove()
    return {stage: tuple(channels) for stage, channels in found.items()}


# ---------------------------------------------------------------------------------------------------------- depth


def parameter_depths(backbone: Backbone) -> dict[str, int]:
    """Return the depth of each parameter of a backbone: 0 before the first stage, then the stages from 1.

    Layers between two stages belong to the earlier stage. Layers without published weights are one deeper than the last
    stage.
    """
    depths, depth = {}, 0
    for name, _ in backbone.named_parameters():
        under = [index for index, stage in enumerate(backbone.stages, 1) if name.startswith(f"{stage}.")]
        depth = under[0] if under else depth
        new = name.startswith((*(f"{part}." for part in backbone.fresh), "adapters.")) or ".low_rank_" in name
        depths[name] = len(backbone.stages) + 1 if new else depth
    return depths


def freeze_stages(backbone: Backbone, stages: int | str) -> None:
    """Freeze the layers of a backbone up to the end of the first stages, or of ``"all"`` stages.

    Raises:
        InputError: if the backbone has fewer stages.
    """
    count = len(backbone.stages) if stages == "all" else stages
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(backbone.stages):
        raise InputError(
            f"model.freeze: expected all or a number of stages up to {len(backbone.stages)} "
            f"({', '.join(backbone.stages)}), got {stages!r}"
        )
    depths = parameter_depths(backbone)
    for name, parameter in backbone.named_parameters():
        if count and depths[name] <= count:
            parameter.requires_grad_(False)


def learning_rate_scales(module: nn.Module, decay: float) -> dict[str, float]:
    """Return factors of layer-wise learning-rate decay: ``decay`` to the power of the stages behind a layer.

    Args:
        module: a detector or a module that contains detectors; layers outside backbones have the full learning rate.
        decay: factor in (0, 1]; about 0.75 for a pretrained transformer (Bao et al., BEiT, ICLR 2022).

    Returns:
        The factor of the learning rate by parameter name.
    """
    if not 0 < decay <= 1:
        raise InputError(f"training.layer_decay: expected a number above 0 and up to 1, got {decay}")
    scales = dict.fromkeys((name for name, _ in module.named_parameters()), 1.0)
    for path, part in module.named_modules():
        if isinstance(part, Backbone):
            deepest = len(part.stages) + 1
            for name, depth in parameter_depths(part).items():
                scales[f"{path}.{name}" if path else name] = decay ** (deepest - depth)
    return scales
