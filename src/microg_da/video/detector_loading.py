"""The detector that predicts: of a run, of a file that a run left, or a published one with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from microg_da.adaptation.predictor import Predictor
from microg_da.config import TrainerConfig
from microg_da.errors import InputError
from microg_da.inference.trainer import one_process
from microg_da.models import Window, model_window
from microg_da.models.checkpoints import load_checkpoint, load_detector, stride_note
from microg_da.models.create import create_detector
from microg_da.models.description import read_description
from microg_da.models.detector import AUTO_STRIDE
from microg_da.models.weight_files import training_setting
from microg_da.runs.detectors import load_run_detector
from microg_da.taxonomy import Taxonomy, get_taxonomy
from microg_da.transforms.view import TEST_SIDE
from microg_da.types import STAGE_OF_VARIANT, Variant
from microg_da.video.action_scorer import ActionScorer
from microg_da.zoo import ZOO

_DEFAULT_SIDE = 256


def scorer_of_run(folder: str | Path, variant: str | None = None) -> ActionScorer:
    """The detector of a finished run, seeing videos as the run's test split was seen.

    Args:
        folder: ``runs/<experiment>/<name>``.
        variant: ``source_only``, ``adapted`` or ``target_supervised``; None for the adapted one if there is one.

    Raises:
        InputError: if it is no run folder, or the run has no such detector.
    """
    loaded = load_run_detector(folder, variant)
    config = loaded.run.config
    return _scorer(
        loaded.predictor,
        get_taxonomy(config.data.taxonomy),
        config.model.num_frames,
        config.model.sampling_rate,
        int(config.data.image_size * TEST_SIDE),
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
    """The detector in a weight file.

    One that lies in a run's folder is read as the run describes it.

    Args:
        path: ``detector.pt`` of a run or what ``export`` has made of one, which say themselves what they are, or a
            published weight file.
        model: the network of a published file; a name of ``python -m microg_da list models``.
        taxonomy: what the outputs mean, for a published file.
        roi_stride: for a published file: as :func:`~microg_da.models.create_detector` takes it. ``"auto"`` is the
            stride at which the head in the file was trained.

    Raises:
        InputError: if there is no such file, the model has to be named, or they do not fit each other.
    """
    path = Path(path)
    stage = _variant_of_file(path)
    said = read_description(path) if stage is None else None
    if stage is not None or said is not None:
        if roi_stride != AUTO_STRIDE:
            raise InputError(f"{path}: says its RoI stride itself. Leave --roi-stride out.")
        return scorer_of_run(path.parents[2], stage) if said is None else _scorer_of_own(path, model, said)
    if model is None:
        raise InputError(f"{path}: the file does not say which network it is of. Add --model NAME; see `list models`.")
    classes = get_taxonomy(taxonomy)
    detector = create_detector(model, num_classes=len(classes), roi_stride=roi_stride)
    report = load_checkpoint(detector, path)
    if report.replaced:
        raise InputError(
            f"{path}: its head has another number of classes than {classes.name} ({len(classes)}), so that a new one "
            f"would have to be trained. Train it with `fit model.checkpoint={path}` first, or choose a --taxonomy."
        )
    notes = []
    if roi_stride == AUTO_STRIDE and report.head_stride not in (None, detector.head.stride):
        notes.append(f"{stride_note(path, report.head_stride, detector)}. --roi-stride changes it.")
        detector.head.stride = report.head_stride
    window, side = _trained_view(path, model)
    if window != (usual := model_window(model) or window):
        notes.append(f"{path} was trained with the window {window}, and {model} usually has {usual}: {window} is used.")
    scorer = _scorer(Predictor(detector.eval()), classes, *window, side, f"{model} from {path.name}")
    return replace(scorer, notes=tuple(notes))


def _trained_view(path: Path, model: str) -> tuple[Window, int]:
    """Window and short side that a published file says it was trained and tested with, else those of its network."""
    window = model_window(model) or Window(8, 8)
    usual = {
        "NUM_FRAMES": window.num_frames,
        "SAMPLING_RATE": window.sampling_rate,
        "TEST_CROP_SIZE": _usual_side(model),
    }
    said = {key: training_setting(path, "DATA", key) for key in usual}
    # A setting below 1 is no number of frames or pixels.
    frames, rate, side = (int(said[key] or usual[key]) or usual[key] for key in usual)
    return Window(frames, rate), side


def _scorer_of_own(path: Path, model: str | None, said: Mapping[str, object]) -> ActionScorer:
    if model not in (None, said.get("model")):
        raise InputError(f"{path}: holds {said.get('model')}, not {model}. Leave --model out.")
    detector, description = load_detector(path, model)
    # Results are to say by what they were made, and by what they were not.
    left_out = f", without {said['test_time_method']}" if said.get("test_time_method") else ""
    return _scorer(
        Predictor(detector),
        get_taxonomy(description.taxonomy),
        description.num_frames,
        description.sampling_rate,
        int(description.image_size * TEST_SIDE),
        f"{description.model} from {path.name}{left_out}",
    )


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


def _variant_of_file(path: Path) -> Variant | None:
    """The variant whose detector a file is, if it is in the folder of a run, which describes it."""
    variants: dict[str, Variant] = {stage: variant for variant, stage in STAGE_OF_VARIANT.items()}
    in_run = path.name == "detector.pt" and len(path.parents) > 2 and (path.parents[2] / "config.yaml").is_file()
    return variants.get(path.parent.name) if in_run else None


def _usual_side(name: str) -> int:
    # Small networks are named after their training crop, the published ones after their test side.
    if name in ("r2plus1d_micro", "r2plus1d_tiny"):
        return int(ZOO[name].crop * TEST_SIDE)
    return ZOO[name].crop if name in ZOO else _DEFAULT_SIDE
