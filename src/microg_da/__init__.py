"""Earth-to-microgravity domain adaptation for human action detection.

Importing the package loads neither torch nor wandb nor optuna. Public names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "ActionDetector": "microg_da.models.detector",
    "AugmentConfig": "microg_da.config",
    "Backbone": "microg_da.models.backbone",
    "ClipBatch": "microg_da.types",
    "ClipDataModule": "microg_da.data.clip_module",
    "Config": "microg_da.config",
    "DetectionMetrics": "microg_da.evaluation.metric",
    "DetectorModule": "microg_da.training.module",
    "DomainAdaptation": "microg_da.adaptation.base",
    "InputError": "microg_da.errors",
    "Prediction": "microg_da.types",
    "SourceFreeAdaptation": "microg_da.adaptation.base",
    "TestTimeMethod": "microg_da.adaptation.base",
    "TrainingConfig": "microg_da.config",
    "create_adaptation": "microg_da.adaptation.base",
    "create_detector": "microg_da.models.create",
    "evaluate": "microg_da.evaluation",
    "evaluate_tubes": "microg_da.evaluation.video_map",
    "fit": "microg_da.workflow",
    "get_taxonomy": "microg_da.taxonomy",
    "link_tubes": "microg_da.evaluation.tubes",
    "list_adaptations": "microg_da.adaptation",
    "list_data": "microg_da.data",
    "list_models": "microg_da.models.catalogue",
    "list_splits": "microg_da.data",
    "list_validators": "microg_da.validation",
    "load_config": "microg_da.config",
    "load_detector": "microg_da.runs.loading",
    "load_predictor": "microg_da.runs.loading",
    "multilabel_bce": "microg_da.adaptation.losses",
    "open_dataset": "microg_da.data.sources",
    "predict": "microg_da.video.predict_file",
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
