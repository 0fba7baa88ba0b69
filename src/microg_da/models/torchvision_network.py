"""Video networks of torchvision as backbones: ``torchvision:r3d_18`` and the others of its ``models.video``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models, video
from torchvision.models.video.swin_transformer import SwinTransformer3d

from microg_da.errors import InputError, first_line, unknown_name
from microg_da.models.backbone import MEAN, STD, Adapter, Backbone, StageOutput
from microg_da.models.mvit import AnySizeBlock, MViT

PREFIX = "torchvision:"

_CLASSIFIERS = ("avgpool", "fc", "classifier", "head")
"""Names of the modules after the last feature map."""

_MEASURED = (16, 224, 224)
"""Frames, height and width of the clip with which the stride of a network is measured."""

_MIN_FRAMES = {"s3d": 8}
"""Networks with a minimum number of frames, because of their temporal strides."""


class TorchvisionNetwork(Backbone):
    """A convolutional network or a video Swin transformer of torchvision, without its classifier.

    Stride and channels are measured with a clip. Frames are normalised as for the published weights of the network.

    Args:
        name: torchvision's name of the network.
        network: the network.

    Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018 (``r3d_18``,
    ``mc3_18``, ``r2plus1d_18``); Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018 (``s3d``);
    Liu et al., "Video Swin Transformer", CVPR 2022 (``swin3d_*``).
    """

    scale: Tensor
    shift: Tensor
    published_names = "torchvision"

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.min_frames = _MIN_FRAMES.get(name, 1)
        self.channels_last = isinstance(network, SwinTransformer3d)
        self.trunk = tuple(part for part, _ in network.named_children() if part not in _CLASSIFIERS)
        for part in self.trunk:
            self.add_module(part, network.get_submodule(part))
        self.stages = tuple(stage for part in self.trunk for stage in self._stages_of(part))
        published = get_model_weights(name).DEFAULT.transforms()
        mean, std = torch.tensor(published.mean), torch.tensor(published.std)
        self.register_buffer("scale", (STD / std)[:, None, None, None], persistent=False)
        self.register_buffer("shift", ((MEAN - mean) / std)[:, None, None, None], persistent=False)
        self.channels, self.stride = (0,), 0.0  # measured below

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, T, H, W)`` → one map ``(B, C, T', H/stride, W/stride)``.

        Raises:
            InputError: if there are too few frames for the temporal strides of the network.
        """
        if frames.shape[2] < self.min_frames:
            raise InputError(
                f"{PREFIX}{{{', '.join(_MIN_FRAMES)}}} need at least {self.min_frames} frames, got {frames.shape[2]}. "
                f"Set model.num_frames={self.min_frames} or more."
            )
        x = frames * self.scale + self.shift
        for part in self.trunk:
            x = getattr(self, part)(x)
        return (x.permute(0, 4, 1, 2, 3) if self.channels_last else x,)

    def adapt(self, output: StageOutput, adapters: Sequence[Adapter]) -> StageOutput:
        """Apply adapters, also to stages of Swin transformers, which return ``(B, T, H, W, C)``; see the base class."""
        if not (self.channels_last and isinstance(output, Tensor)):
            return super().adapt(output, adapters)
        return adapters[0](output.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)

    def _stages_of(self, part: str) -> list[str]:
        if part in ("pos_drop", "norm"):
            return []
        return (
            [f"features.{index}" for index, _ in getattr(self, part).named_children()] if part == "features" else [part]
        )


def torchvision_network(name: str, weights: str | None = None) -> Backbone:
    """Build a video network of torchvision.

    Args:
        name: ``r3d_18``, ``mc3_18``, ``r2plus1d_18``, ``s3d``, ``swin3d_t``, ``swin3d_s``, ``swin3d_b``, ``mvit_v1_b``
            or ``mvit_v2_s``.
        weights: the name of published weights that torchvision downloads, e.g. ``"KINETICS400_V1"`` or ``"DEFAULT"``;
            None for random weights. Use ``checkpoint`` for a local file.

    Raises:
        InputError: if the network or the weights do not exist, or the weights cannot be downloaded.
    """
    names = list_models(video)
    if name not in names:
        raise unknown_name("video network of torchvision", name, names, "model.name")
    if weights is not None and weights not in (known := ["DEFAULT", *get_model_weights(name).__members__]):
        raise unknown_name(f"weights of {PREFIX}{name}", str(weights), known, "model.options.weights")
    if name.startswith("mvit"):
        return MViT(_build(name, weights, block=AnySizeBlock))
    network = TorchvisionNetwork(name, _build(name, weights))
    with torch.device("meta"):
        network.channels, network.stride = _measure(TorchvisionNetwork(name, get_model(name)))
    return network


def _build(name: str, weights: str | None, **options: Any) -> Any:
    try:
        return get_model(name, weights=weights, **options)
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        raise InputError(
            f"torchvision cannot download the weights {weights} of {name} ({first_line(error)[:200]}). Without a "
            f"network connection, use a local file: model.checkpoint=FILE without model.options.weights."
        ) from error


def _measure(network: TorchvisionNetwork) -> tuple[tuple[int, ...], float]:
    """Return channels and stride of a network, measured on the meta device."""
    (found,) = network.eval()(torch.empty(1, 3, *_MEASURED))
    return (found.shape[1],), _MEASURED[-1] / found.shape[-1]
