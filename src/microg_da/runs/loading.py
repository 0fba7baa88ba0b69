"""Loading of a trained detector from a run, a weight file that describes itself, or an exported folder."""

from __future__ import annotations

import warnings
from pathlib import Path

from microg_da.adaptation.predictor import Predictor
from microg_da.errors import InputError
from microg_da.models import checkpoints
from microg_da.models.create import create_detector
from microg_da.models.description import read_description
from microg_da.models.detector import ActionDetector
from microg_da.runs.detectors import load_run_detector
from microg_da.runs.layout import RunFolder


def load_predictor(path: str | Path, variant: str | None = None, *, model: str | None = None) -> Predictor:
    """Load a trained detector with its test-time method.

    Example:
        >>> import torch
        >>> from microg_da import create_detector, load_predictor
        >>> torch.save(create_detector("r2plus1d_micro").state_dict(), "weights.pt")
        >>> predictor = load_predictor("weights.pt", model="r2plus1d_micro")
        >>> predictor.is_plain  # a weight file has no test-time method; the folder of a run may have one
        True

    Args:
        path: the folder of a run, a weight file, or a folder made by ``export``.
        variant: the detector of a run: ``"source_only"``, ``"adapted"`` or ``"target_supervised"``; None for the
            adapted detector if there is one.
        model: the network of a file that does not name it, or whose network is ``package.module:function``.

    Returns:
        The predictor, on the CPU, in evaluation mode. Call it with a batch inside ``with predictor.testing():``.

    Raises:
        InputError: if the path is not readable, or the model must be named.
    """
    if RunFolder(path).config_file.is_file():
        return load_run_detector(path, variant).predictor
    if variant is not None:
        raise InputError(f"{path}: variant needs a run folder. Give runs/<experiment>/<name>, or remove variant.")
    if read_description(path) is not None:
        return Predictor(checkpoints.load_detector(path, model)[0])
    if model is None:
        raise InputError(f"{path}: the file does not name its network. Give model=NAME; see list_models().")
    return Predictor(create_detector(model, checkpoint=path).eval())


def load_detector(path: str | Path, variant: str | None = None, *, model: str | None = None) -> ActionDetector:
    """Load a trained detector in evaluation mode, with the arguments and errors of :func:`load_predictor`.

    The detector does not include a test-time method. If the run has tested the detector with a test-time method, the
    function issues a warning.

    Example:
        >>> import torch
        >>> from microg_da import create_detector, load_detector
        >>> torch.save(create_detector("r2plus1d_micro").state_dict(), "weights.pt")
        >>> detector = load_detector("weights.pt", model="r2plus1d_micro")
        >>> detector.num_classes, detector.training
        (50, False)
    """
    predictor = load_predictor(path, variant, model=model)
    if predictor.method is not None:
        warnings.warn(
            f"{path}: the run has tested this detector with {type(predictor.method).__name__}, which is not loaded. "
            f"Use load_predictor to load both.",
            stacklevel=2,
        )
    return predictor.detector
