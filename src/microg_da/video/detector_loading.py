"""Loading of the detector for videos: from a run, from a weight file of a run, or from published weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from microg_da.adaptation.predictor import Predictor
from microg_da.config import TrainerConfig
from microg_da.data.options import target_test_side
from microg_da.errors import InputError
from microg_da.inference.trainer import one_process
from microg_da.models.detector import AUTO_STRIDE
from microg_da.runs.detector_files import load_detector_file, variant_of_file
from microg_da.runs.detectors import load_run_detector
from microg_da.taxonomy import Taxonomy, get_taxonomy
from microg_da.video.action_scorer import ActionScorer


def scorer_of_run(folder: str | Path, variant: str | None = None) -> ActionScorer:
    """Return the detector of a finished run, with the preprocessing of the run's test split.

    Args:
        folder: ``runs/<experiment>/<name>``.
        variant: ``source_only``, ``adapted`` or ``target_supervised``; None for the adapted detector if there is one.

    Raises:
        InputError: if the folder is not a run, or the run has no such detector.
    """
    loaded = load_run_detector(folder, variant)
    config = loaded.run.config
    return _scorer(
        loaded.predictor,
        get_taxonomy(config.data.taxonomy),
        config.model.num_frames,
        config.model.sampling_rate,
        target_test_side(config),
        f"{config.experiment}/{loaded.run.path.name}, {loaded.variant}",
        config.trainer,
    )


def scorer_of_file(
    path: str | Path,
    model: str | None = None,
    *,
    taxonomy: str = "microg50",
    roi_stride: str | float = AUTO_STRIDE,
) -> ActionScorer:
    """Return the detector in a weight file.

    A file in the folder of a run is read with the settings of the run. For arguments and errors see
    :func:`~microg_da.runs.detector_files.load_detector_file`.
    """
    in_run = variant_of_file(path)
    if in_run is not None:
        if roi_stride != AUTO_STRIDE:
            raise InputError(f"{path}: the file defines its RoI stride. Remove --roi-stride.")
        return scorer_of_run(*in_run)
    loaded = load_detector_file(path, model, taxonomy=taxonomy, roi_stride=roi_stride)
    facts = loaded.description
    scorer = _scorer(
        Predictor(loaded.detector),
        get_taxonomy(facts.taxonomy),
        facts.num_frames,
        facts.sampling_rate,
        facts.test_short_side,
        loaded.name,
    )
    return replace(scorer, notes=loaded.notes)


def _scorer(
    predictor: Predictor,
    taxonomy: Taxonomy,
    num_frames: int,
    sampling_rate: int,
    short_side: int,
    name: str,
    hardware: TrainerConfig | None = None,
) -> ActionScorer:
    return ActionScorer(
        predictor.folded(num_frames, short_side),
        taxonomy,
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        short_side=short_side,
        name=name,
        hardware=one_process(hardware or TrainerConfig()),
    )
