"""Evaluation of detections: protocols, metrics, fusion, calibration and uncertainty, independent of networks."""

from microg_da.evaluation.protocols import PROTOCOLS, Scores, evaluate

__all__ = ["PROTOCOLS", "Scores", "evaluate"]
