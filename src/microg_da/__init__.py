"""Earth-to-microgravity domain adaptation for human action detection.

Importing the package is free: no torch, no wandb, no optuna. Public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "ActionDetector": "microg_da.models",
    "Prediction": "microg_da.types",
    "create_detector": "microg_da.models",
    "ClipBatch": "microg_da.types",
    "InputError": "microg_da.errors",
    "evaluate": "microg_da.evaluation",
    "fit": "microg_da.workflow",
    "load_config": "microg_da.config",
    "read_annotations": "microg_da.data.annotations",
    "read_detections": "microg_da.data.annotations",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'microg_da' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
