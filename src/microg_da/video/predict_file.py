"""Prediction of one video or image as a table of detections, without writing files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from microg_da.errors import InputError
from microg_da.inference.trainer import on_device
from microg_da.runs.layout import RunFolder
from microg_da.video.action_scorer import ActionScorer
from microg_da.video.box_sources import BoxSource, DetectorBoxes, StillBoxes, TableBoxes, boxes_of_still, read_box_table
from microg_da.video.detector_loading import scorer_of_file, scorer_of_run
from microg_da.video.person_detector import create_person_detector
from microg_da.video.predict import PredictOptions, analyse, detection_table
from microg_da.video.reader import Video
from microg_da.video.stills import Still, open_input

_PERSON_THRESHOLD = 0.4
"""The minimum score of detected people, as in the command."""


def predict(
    video: str | Path,
    detector: str | Path,
    boxes: str | Path | pd.DataFrame,
    *,
    variant: str | None = None,
    model: str | None = None,
    every: float = 0.5,
    threshold: float = 0.2,
    smooth: float = 1.0,
    device: str = "auto",
) -> pd.DataFrame:
    """Predict the actions of the people in a video or a picture.

    The command ``predict`` does the same for many files, and draws the results.

    Example:
        >>> import pandas as pd, torch
        >>> from PIL import Image
        >>> from microg_da import create_detector, predict
        >>> torch.save(create_detector("r2plus1d_micro").state_dict(), "weights.pt")
        >>> Image.new("RGB", (128, 96)).save("cabin.png")
        >>> boxes = pd.DataFrame({"frame_stamp": [0.0], "x1": [0.1], "y1": [0.1], "x2": [0.6], "y2": [0.9]})
        >>> found = predict("cabin.png", "weights.pt", boxes, model="r2plus1d_micro", threshold=0, device="cpu")
        >>> len(found), list(found.columns)[-2:]
        (50, ['action_id', 'score'])

    Args:
        video: the video or picture file.
        detector: the folder of a run, a ``detector.pt``, a folder made by ``export``, or a published weight file.
        boxes: the boxes of people: a table with ``frame_stamp, x1, y1, x2, y2`` and optionally ``person_id``, with
            stamps in seconds and boxes in [0, 1]; a CSV file with these columns and ``video_id``; or the ONNX file of a
            YOLOX person detector.
        variant: the detector of a run: ``"source_only"``, ``"adapted"`` or ``"target_supervised"``; None for the
            adapted detector if there is one.
        model: the network of a published weight file.
        every: seconds from keyframe to keyframe.
        threshold: minimum probability of reported actions.
        smooth: seconds over which a person's scores are averaged; 0 for no smoothing.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …

    Returns:
        A table with ``video_id, frame_stamp, x1, y1, x2, y2, action_id, score``: stamps in seconds, scores as
        probabilities.

    Raises:
        InputError: if a file cannot be read, or files do not match.
    """
    opened = open_input(video)
    options = PredictOptions(every=every, threshold=threshold, smooth=smooth, video_format="none")
    scorer = _scorer(detector, variant, model)
    scorer = replace(scorer, hardware=on_device(scorer.hardware, device))
    found = analyse(opened, _box_source(opened, boxes, every), scorer, options)
    table = detection_table(opened.video_id, found, scorer, threshold)
    table.attrs["scores"] = "probability"
    return table


def _scorer(detector: str | Path, variant: str | None, model: str | None) -> ActionScorer:
    if RunFolder(detector).config_file.is_file():
        return scorer_of_run(detector, variant)
    if variant is not None:
        raise InputError(f"{detector}: not a run folder, so variant={variant!r} cannot be used. Remove variant.")
    return scorer_of_file(detector, model)


def _box_source(video: Video, boxes: str | Path | pd.DataFrame, every: float) -> BoxSource:
    if isinstance(boxes, pd.DataFrame):
        missing = [name for name in ("frame_stamp", "x1", "y1", "x2", "y2") if name not in boxes]
        if missing:
            raise InputError(f"boxes: the table has no column {missing[0]!r}")
        table = boxes.assign(video_id=video.video_id)
    elif Path(boxes).suffix == ".onnx":
        find = create_person_detector(boxes, _PERSON_THRESHOLD)
        return StillBoxes(find) if isinstance(video, Still) else DetectorBoxes(find, every)
    else:
        table = read_box_table(boxes, [video.video_id])
        table = table[table.video_id == video.video_id]
    return TableBoxes(boxes_of_still(table, video.path) if isinstance(video, Still) else table, every, video)
