"""The action detector: a backbone, a RoI head, and one way to build any of them by name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from microg_da.errors import InputError, unknown_name
from microg_da.models import MODELS
from microg_da.models.adapters import add_adapters, freeze_stages
from microg_da.models.backbone import Backbone, normalise
from microg_da.models.inputs import check_inputs
from microg_da.models.roi_head import RoIHead
from microg_da.types import Prediction

PUBLISHED_STRIDE = 16
"""The stride that MicroG-Bench assumed for every network, whatever the network's own."""

AUTO_STRIDE = "auto"
"""The stride at which the head of the loaded file was trained; the backbone's own where no head is loaded."""


class ActionDetector(nn.Module):
    """Scores the actions of people whose boxes are given.

    Args:
        backbone: makes feature maps of the frames.
        num_classes: action classes, one logit each.
        dropout: rate before the linear layer.
        roi_stride: ``"true"`` pools with the stride that the backbone has, ``"published"`` with the 16 that the
            benchmark assumed; a number is taken as it is. ``"auto"`` is ``"true"`` where no weights are loaded.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        dropout: float = 0.5,
        roi_stride: str | bool | float = AUTO_STRIDE,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        stride = resolve_stride(roi_stride, backbone.stride)
        self.head = RoIHead(backbone.channels, num_classes, stride, dropout)

    @property
    def num_classes(self) -> int:
        """Logits per person."""
        return self.head.projection.out_features

    @property
    def feature_dim(self) -> int:
        """Length of a person's feature vector."""
        return self.head.projection.in_features

    def train(self, mode: bool = True) -> ActionDetector:
        """As ``nn.Module.train``; batch normalisation that is not trained keeps its statistics too."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
                module.eval()
        return self

    def forward(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Prediction:
        """Score every box.

        Args:
            frames: ``(B, 3, T, H, W)``; uint8 RGB is normalised here, floating point is taken as normalised.
            boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2``; ``K`` may be 0.
            clip_index: ``(K,)`` int64, the clip of each box.

        Raises:
            InputError: for wrong shapes or types; on the CPU also for a ``clip_index`` that is not in the batch, boxes
                in [0, 1] and floating-point frames in 0…255. On CUDA these end the process with the same message.
        """
        check_inputs(frames, boxes, clip_index)
        maps = self.backbone(normalise(frames, self.backbone.memory_format))
        return Prediction(*self.head(maps, boxes, clip_index))

    def local_predictions(
        self, frames: Tensor, boxes: Tensor, clip_index: Tensor, slices: int
    ) -> tuple[Prediction, Tensor]:
        """Score every box in each of ``S`` temporal slices of the feature maps, in one pass of the backbone.

        Args:
            frames: as in :meth:`forward`.
            boxes: as in :meth:`forward`.
            clip_index: as in :meth:`forward`.
            slices: S.

        Returns:
            Logits ``(K, S, C)`` and features ``(K, S, D)``, and the grids ``(K, S, D, R, R)`` that they were pooled
            from: a mean of these over slices, weighted as one likes, is what ``head.classify`` scores as one clip.
        """
        check_inputs(frames, boxes, clip_index)
        grids = self.head.local_grids(
            self.backbone(normalise(frames, self.backbone.memory_format)), boxes, clip_index, slices
        )
        return Prediction(*self.head.classify(grids)), grids


def create_detector(
    name: str,
    num_classes: int = 50,
    checkpoint: str | Path | None = None,
    *,
    allow_missing: Sequence[str] = (),
    dropout: float = 0.5,
    roi_stride: str | bool | float = AUTO_STRIDE,
    freeze: int | str = 0,
    adapters: str | None = None,
    adapter_rank: int = 8,
    roll_pooling: str | None = None,
    **options: Any,
) -> ActionDetector:
    """Build a detector by the name of its backbone.

    The detector is in training mode, with dropout and batch statistics: call ``.eval()`` before it predicts.

    Example:
        >>> import torch
        >>> from microg_da import create_detector
        >>> detector = create_detector("r2plus1d_micro", num_classes=50).eval()
        >>> frames = torch.zeros(2, 3, 8, 96, 128, dtype=torch.uint8)  # clips, RGB, frames, height, width
        >>> boxes = torch.tensor([[10.0, 20, 60, 90], [5, 5, 40, 80], [60, 10, 120, 90]])  # pixels, x1 y1 x2 y2
        >>> clip_index = torch.tensor([0, 0, 1])  # the clip of each box
        >>> with torch.no_grad():
        ...     logits, features = detector(frames, boxes, clip_index)
        >>> logits.shape
        torch.Size([3, 50])

    Args:
        name: a name of ``python -m microg_da list models``, or ``timm:NAME`` for an image encoder of timm.
        num_classes: action classes.
        checkpoint: a weight file to start from; None starts from random weights.
        allow_missing: shell-style patterns of names that need not fit between the file and the network.
        dropout: rate before the linear layer.
        roi_stride: see :class:`ActionDetector`. ``"auto"`` is the stride at which the head of ``checkpoint`` was
            trained, if the whole head is loaded; else ``"true"``.
        freeze: how many stages of the backbone are not trained, from the input on, or ``"all"`` to train the head
            alone.
        adapters: ``"lora"`` or ``"dual_path"`` freezes the backbone and trains small additions to it.
        adapter_rank: the inner width of the additions.
        roll_pooling: ``"c4"`` or ``"c8"`` averages features over rolls of the clip: see
            :class:`~microg_da.models.roll_pooling.RollPooledDetector`.
        **options: arguments of the backbone's builder.

    Returns:
        the detector, in training mode.

    Raises:
        InputError: for an unknown name or option, or a checkpoint that does not fit.
    """
    backbone = _build_backbone(name, options)
    if roll_pooling is None:
        detector = ActionDetector(backbone, num_classes, dropout, roi_stride)
    else:
        from microg_da.models.roll_pooling import RollPooledDetector

        detector = RollPooledDetector(backbone, num_classes, dropout, roi_stride, group=roll_pooling)
    freeze_stages(detector.backbone, freeze)
    if adapters is not None:
        add_adapters(detector.backbone, adapters, adapter_rank)
    detector.train()
    if checkpoint is not None:
        from microg_da.models.checkpoints import load_checkpoint

        report = load_checkpoint(detector, checkpoint, allow_missing)
        if roi_stride == AUTO_STRIDE and report.head_stride is not None:
            detector.head.stride = report.head_stride
    return detector


def _build_backbone(name: str, options: dict[str, Any]) -> Backbone:
    if name.startswith("timm:"):
        from microg_da.models.timm_encoder import TimmEncoder

        builder: Any = partial(TimmEncoder, name.removeprefix("timm:"))
    else:
        builder = MODELS.load(name, where="model.name")
    known = inspect.signature(builder).parameters
    for option in options:
        if option not in known:
            valid = [*known, *_DETECTOR_OPTIONS]
            raise unknown_name(f"option of {name}", option, valid, where="model.options")
    return builder(**options)


_DETECTOR_OPTIONS = ("allow_missing", "roi_stride", "freeze", "adapters", "adapter_rank", "roll_pooling")


def resolve_stride(roi_stride: str | bool | float, true_stride: float) -> float:
    """Input pixels per cell of the feature maps, as a number."""
    # YAML reads a bare `true` as a boolean.
    if roi_stride is True or roi_stride in ("true", AUTO_STRIDE):
        return true_stride
    if roi_stride == "published":
        return PUBLISHED_STRIDE
    if isinstance(roi_stride, (int, float)) and roi_stride > 0 and not isinstance(roi_stride, bool):
        return float(roi_stride)
    raise InputError(f"model.roi_stride: expected auto, true, published or a positive number, got {roi_stride!r}")
