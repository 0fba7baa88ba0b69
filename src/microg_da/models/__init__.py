"""Detectors: a backbone, temporal pooling, RoIAlign and a linear head; logits out.

To add a backbone, write a builder that returns a :class:`microg_da.models.backbone.Backbone`, and add its
line to :data:`microg_da.zoo.ZOO`. ``timm:NAME`` is a detector with any image encoder of timm, ``torchvision:NAME`` with
a video network of torchvision. Builders of other packages are named ``package.module:function`` or by an entry point
of the group ``microg_da.models``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microg_da.models.catalogue import MODELS, check_model_name
from microg_da.zoo import Window, model_window

if TYPE_CHECKING:
    from microg_da.models.create import create_detector
    from microg_da.models.detector import ActionDetector
    from microg_da.types import Prediction

__all__ = [
    "MODELS",
    "ActionDetector",
    "Prediction",
    "Window",
    "check_model_name",
    "create_detector",
    "model_window",
]


def __getattr__(name: str) -> Any:
    # Torch is imported only when a network is created, so that listing models is fast.
    if name in ("ActionDetector", "Prediction"):
        from microg_da.models import detector

        return getattr(detector, name)
    if name == "create_detector":
        from microg_da.models.create import create_detector

        return create_detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
