"""A detector of a name and options, with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

from microg_da.errors import unknown_name
from microg_da.models.adapters import add_adapters, freeze_stages
from microg_da.models.backbone import Backbone
from microg_da.models.catalogue import MODELS
from microg_da.models.detector import AUTO_STRIDE, ActionDetector
from microg_da.models.roll_pooling import RollPooledDetector


def build_detector(
    name: str,
    num_classes: int,
    *,
    dropout: float = 0.5,
    roi_stride: str | bool | float = AUTO_STRIDE,
    freeze: int | str = 0,
    adapters: str | None = None,
    adapter_rank: int = 8,
    roll_pooling: str | None = None,
    **options: object,
) -> ActionDetector:
    """The detector with random weights, in training mode; arguments as :func:`~microg_da.models.create_detector`.

    Raises:
        InputError: for an unknown name or option.
    """
    backbone = _build_backbone(name, options)
    if roll_pooling is None:
        detector = ActionDetector(backbone, num_classes, dropout, roi_stride)
    else:
        detector = RollPooledDetector(backbone, num_classes, dropout, roi_stride, group=roll_pooling)
    freeze_stages(detector.backbone, freeze)
    if adapters is not None:
        add_adapters(detector.backbone, adapters, adapter_rank)
    detector.train()
    return detector


def _build_backbone(name: str, options: Mapping[str, object]) -> Backbone:
    if name.startswith("timm:"):
        from microg_da.models.timm_encoder import TimmEncoder

        builder: Callable[..., Backbone] = partial(TimmEncoder, name.removeprefix("timm:"))
    else:
        builder = MODELS.load(name, where="model.name")
    known = inspect.signature(builder).parameters
    for option in options:
        if option not in known:
            valid = [*known, *_DETECTOR_OPTIONS]
            raise unknown_name(f"option of {name}", option, valid, where="model.options")
    return builder(**options)


_DETECTOR_OPTIONS = (
    "allow_missing",
    "skip_weights",
    "roi_stride",
    "freeze",
    "adapters",
    "adapter_rank",
    "roll_pooling",
)
