"""The detector that predicts: of a run, of a file that a run left, or a published one with its weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.data.transforms import TEST_SIDE
from microg_da.errors import InputError
from microg_da.models import MODELS, model_window
from microg_da.models.checkpoints import load_checkpoint
from microg_da.models.detector import create_detector
from microg_da.models.zoo import ZOO
from microg_da.taxonomy import get_taxonomy
from microg_da.training.trained import STAGE_OF_ROW, load_run_detector
from microg_da.video.scorer import ActionScorer

_DEFAULT_SIDE = 256


def scorer_of_run(folder: str | Path, row: str | None = None) -> ActionScorer:
    """The detector of a finished run, seeing videos as the run's test split was seen.

    Args:
        folder: ``runs/<experiment>/<name>``.
        row: ``source_only``, ``adapted`` or ``target_supervised``; None for the adapted one if there is one.

    Raises:
        InputError: if it is no run folder, or the run has no such detector.
    """
    trained = load_run_detector(folder, row)
    config = trained.run.config
    return ActionScorer(
        trained.detector,
        trained.method,
        get_taxonomy(config.data.taxonomy),
        num_frames=config.model.num_frames,
        sampling_rate=config.model.sampling_rate,
        short_side=int(config.data.image_size * TEST_SIDE),
        name=f"{config.experiment}/{trained.run.path.name}, {trained.row}",
    )


def scorer_of_file(
    path: str | Path,
    model: str | None = None,
    *,
    taxonomy: str = "microg50",
) -> ActionScorer:
    """The detector in a weight file.

    One that lies in a run's folder is read as the run describes it.

    Args:
        path: ``detector.pt`` of a run, which says itself what it is, or a published weight file.
        model: the network of a published file; a name of ``python -m microg_da list models``.
        taxonomy: what the outputs are to mean, for a published file.

    Raises:
        InputError: if there is no such file, the model has to be named, or they do not fit each other.
    """
    path = Path(path)
    if (stage := _stage_of_run(path)) is not None:
        return scorer_of_run(path.parents[2], stage)
    own = _read_own(path)
    name = own["model"] if own else model
    if name is None:
        raise InputError(f"{path}: the file does not say which network it is of. Add --model NAME; see `list models`.")
    if model not in (None, name):
        raise InputError(f"{path}: holds {name}, not {model}. Leave --model out.")
    if own is None and ":" not in name:
        MODELS.entry(name, where="--model")
    options: dict[str, Any] = dict(own["options"] or {}) if own else {}
    classes = get_taxonomy(own["taxonomy"] if own else taxonomy)
    window = (own["num_frames"], own["sampling_rate"]) if own else model_window(name) or (8, 8)
    detector = create_detector(name, num_classes=len(classes), **options)
    report = load_checkpoint(detector, path)
    if report.replaced:
        raise InputError(
            f"{path}: its head has another number of classes than {classes.name} ({len(classes)}), so that a new one "
            f"would have to be trained. Train it with `fit model.checkpoint={path}` first, or choose a --taxonomy."
        )
    return ActionScorer(
        detector.eval(),
        create_adaptation("source_only", feature_dim=detector.feature_dim, num_classes=detector.num_classes),
        classes,
        num_frames=window[0],
        sampling_rate=window[1],
        short_side=_usual_side(name),
        name=f"{name} from {path.name}",
    )


def _stage_of_run(path: Path) -> str | None:
    """The row whose detector a file is, if it lies in a run's folder, which knows all about it."""
    rows = {stage: row for row, stage in STAGE_OF_ROW.items()}
    in_run = path.name == "detector.pt" and len(path.parents) > 2 and (path.parents[2] / "config.yaml").is_file()
    return rows.get(path.parent.name) if in_run else None


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


def _usual_side(name: str) -> int:
    # The small network is named after its training crop, the published ones after their test side.
    if name == "r2plus1d_tiny":
        return int(ZOO[name].crop * TEST_SIDE)
    return ZOO[name].crop if name in ZOO else _DEFAULT_SIDE
