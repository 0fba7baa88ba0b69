"""Detectors: a backbone, temporal pooling, RoIAlign and a linear head; logits out.

To add a backbone, write a builder that returns a :class:`microg_da.models.backbone.Backbone`, and add its
line to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microg_da.registry import Entry, Registry

if TYPE_CHECKING:
    from microg_da.models.detector import ActionDetector, Prediction, create_detector

MODELS = Registry(
    "model",
    {
        "r2plus1d_tiny": Entry(
            "microg_da.models.tiny:r2plus1d_tiny", "small residual (2+1)D network for CPUs and the embedded data"
        ),
        "slow_r50_8x8": Entry("microg_da.models.resnet:slow_r50", "Slow pathway of SlowFast, ResNet-50, 8 frames × 8"),
    },
)

__all__ = ["MODELS", "ActionDetector", "Prediction", "create_detector"]


def __getattr__(name: str) -> Any:
    # Torch is imported only when a network is asked for; listing the models stays instant.
    if name in __all__:
        from microg_da.models import detector

        return getattr(detector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
