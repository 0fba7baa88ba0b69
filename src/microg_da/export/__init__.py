"""Export of a run's detector: weights with everything that is needed to build it again, a model card, ONNX."""

from __future__ import annotations

from microg_da.export.folder import ExportedRun, export_run

__all__ = ["ExportedRun", "export_run"]
