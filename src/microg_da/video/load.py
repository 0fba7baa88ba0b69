"""The detector that predicts: of a run, of a file that a run left, or a published one with its weights."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from microg_da.data.transforms import TEST_SIDE
from microg_da.errors import InputError, unknown_name
from microg_da.models import MODELS, model_window
from microg_da.models.detector import create_detector
from microg_da.models.zoo import ZOO
from microg_da.taxonomy import get_taxonomy
from microg_da.training.run import Run
from microg_da.video.scorer import ActionScorer

STAGES = {"source_only": "source", "adapted": "adapt", "target_supervised": "target_supervised"}
"""The row of a run's results, and the stage that leaves its detector."""

_DEFAULT_SIDE = 256


def scorer_of_run(folder: str | Path, row: str | None = None) -> ActionScorer:
    """The detector of a finished run, seeing videos as the run's test split was seen.

    Args:
        folder: ``runs/<experiment>/<name>``.
        row: ``source_only``, ``adapted`` or ``target_supervised``; None for the adapted one if there is one.

    Raises:
        InputError: if it is no run, or the run has no such detector.
    """
    run = Run.open(folder)
    there = [name for name, stage in STAGES.items() if run.detector_file(stage).is_file()]
    if not there:
        raise InputError(f"{folder}: the run has no finished detector. Continue it with `fit --resume {folder}`.")
    row = row or ("adapted" if "adapted" in there else there[0])
    if row not in there:
        raise unknown_name("row of the run", row, there, where=str(folder))
    scorer = scorer_of_file(run.detector_file(STAGES[row]), model_config=run.config.model)
    return replace(
        scorer,
        short_side=int(run.config.data.image_size * TEST_SIDE),
        name=f"{run.config.experiment}/{run.path.name}, {row}",
    )


def scorer_of_file(
    path: str | Path,
    model: str | None = None,
    *,
    taxonomy: str = "microg50",
    short_side: int | None = None,
    model_config: Any = None,
) -> ActionScorer:
    """The detector in a weight file.

    Args:
        path: ``detector.pt`` of a run, which says itself what it is, or a published weight file.
        model: the network of a published file; a name of ``python -m microg_da list models``.
        taxonomy: what the outputs are to mean, for a published file.
        short_side: pixels; None for what the network was made for.
        model_config: what else the network was built with, of the run that left the file.

    Raises:
        InputError: if there is no such file, the model has to be named, or they do not fit each other.
    """
    path = Path(path)
    own = _read_own(path)
    name = own["model"] if own else model
    if name is None:
        raise InputError(f"{path}: the file does not say which network it is of. Add --model NAME; see `list models`.")
    if model not in (None, name):
        raise InputError(f"{path}: holds {name}, not {model}. Leave --model out.")
    if own is None and ":" not in name:
        MODELS.entry(name, where="--model")
    options: dict[str, Any] = dict(own["options"] or {}) if own else {}
    if model_config is not None:
        options |= {option: getattr(model_config, option) for option in ("adapters", "adapter_rank", "roi_stride")}
    classes = get_taxonomy(own["taxonomy"] if own else taxonomy)
    window = (own["num_frames"], own["sampling_rate"]) if own else model_window(name) or (8, 8)
    detector = create_detector(name, num_classes=len(classes), checkpoint=path, **options)
    return ActionScorer(
        detector.eval(),
        classes,
        num_frames=window[0],
        sampling_rate=window[1],
        short_side=short_side or _usual_side(name, own),
        name=f"{name} from {path.name}",
    )


def _read_own(path: Path) -> dict[str, Any] | None:
    """What a file that a run left says about itself; None for other files, which are read and judged later."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, pickle.UnpicklingError):
        return None
    if not isinstance(content, dict) or content.get("format") != "microg_da":
        return None
    return {key: value for key, value in content.items() if key != "state_dict"}


def _usual_side(name: str, own: dict[str, Any] | None) -> int:
    if own and own.get("image_size"):
        return int(own["image_size"] * TEST_SIDE)
    # The small network is named after its training crop, the published ones after their test side.
    if name == "r2plus1d_tiny":
        return int(ZOO[name].crop * TEST_SIDE)
    return ZOO[name].crop if name in ZOO else _DEFAULT_SIDE
