"""Creation of detectors by name, with weights from a file or random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from microg_da.models.build import build_detector
from microg_da.models.checkpoints import load_checkpoint
from microg_da.models.detector import AUTO_STRIDE, ActionDetector


def create_detector(
    name: str,
    num_classes: int = 50,
    checkpoint: str | Path | None = None,
    *,
    allow_missing: Sequence[str] = (),
    skip_weights: Sequence[str] = (),
    dropout: float = 0.5,
    roi_stride: str | bool | float = AUTO_STRIDE,
    freeze: int | str = 0,
    adapters: str | None = None,
    adapter_rank: int = 8,
    roll_pooling: str | None = None,
    head: str = "roi",
    head_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> ActionDetector:
    """Build a detector by the name of its backbone.

    The detector is in training mode, with dropout and batch statistics. Call ``.eval()`` before prediction.

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
        name: a name of ``python -m microg_da list models``, ``timm:NAME`` for an image encoder of timm,
            ``torchvision:NAME`` for a video network of torchvision, ``hf:NAME`` for an encoder of transformers, or
            ``package.module:function`` for a builder of another package.
        num_classes: number of action classes.
        checkpoint: a weight file with initial weights; None for random weights.
        allow_missing: shell-style patterns of weights that may be missing or of another shape in the file.
        skip_weights: shell-style patterns of names of the network that keep their random values.
        dropout: rate before the linear layer.
        roi_stride: see :class:`ActionDetector`. ``"auto"`` is the stride with which the head of ``checkpoint`` was
            trained, if the whole head is loaded; else ``"true"``.
        freeze: number of frozen backbone stages, counted from the input, or ``"all"`` to train only the
            head.
        adapters: ``"lora"`` or ``"dual_path"`` freezes the backbone and trains small additional modules.
        adapter_rank: inner dimension of the adapters.
        roll_pooling: ``"c4"`` or ``"c8"`` averages features over rolls of the clip: see
            :class:`~microg_da.models.roll_pooling.RollPooledDetector`.
        head: pooling of the features of a person: ``"roi"`` (RoIAlign) or ``"attentive"``
            (:class:`~microg_da.models.attentive_head.AttentiveHead`).
        head_args: arguments of the head.
        **options: arguments of the backbone's builder.

    Returns:
        The detector in training mode.

    Raises:
        InputError: for an unknown name or option, or a checkpoint that does not fit.
    """
    detector = build_detector(
        name,
        num_classes,
        dropout=dropout,
        roi_stride=roi_stride,
        freeze=freeze,
        adapters=adapters,
        adapter_rank=adapter_rank,
        roll_pooling=roll_pooling,
        head=head,
        head_args=head_args,
        **options,
    )
    if checkpoint is not None:
        report = load_checkpoint(detector, checkpoint, allow_missing, skip_weights)
        if roi_stride == AUTO_STRIDE and report.head_stride is not None:
            detector.head.stride = report.head_stride
    return detector
