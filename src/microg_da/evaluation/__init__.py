"""What detections are worth: protocols, metrics, fusion, calibration and uncertainty; knows no network."""

from microg_da.evaluation.protocols import PROTOCOLS, Scores, evaluate

__all__ = ["PROTOCOLS", "Scores", "evaluate"]
