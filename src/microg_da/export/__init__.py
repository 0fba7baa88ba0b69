"""Export of a run's detector: weights, the configuration to rebuild the detector, a model card, and ONNX."""

from __future__ import annotations

from microg_da.export.folder import ExportedRun, export_run

__all__ = ["ExportedRun", "export_run"]
