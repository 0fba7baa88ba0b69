"""The detector in a weight file: one that a run or `export` left, or a published one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from microg_da.errors import InputError
from microg_da.models import Window, model_window
from microg_da.models.checkpoints import load_checkpoint, load_detector, stride_note
from microg_da.models.create import create_detector
from microg_da.models.description import DetectorDescription, read_description
from microg_da.models.detector import AUTO_STRIDE, ActionDetector
from microg_da.models.weight_files import training_setting
from microg_da.taxonomy import get_taxonomy
from microg_da.types import STAGE_OF_VARIANT, Variant
from microg_da.zoo import ZOO, usual_test_side

_DEFAULT_SIDE = 256


@dataclass(frozen=True)
class FileDetector:
    """A detector that was read from a file.

    Attributes:
        detector: on the CPU, in evaluation mode.
        description: what it is, and how it wants to see clips.
        name: what it is called in results.
        notes: what a user should know of how it was loaded, in sentences.
    """

    detector: ActionDetector
    description: DetectorDescription
    name: str
    notes: tuple[str, ...] = ()


def variant_of_file(path: str | Path) -> tuple[Path, Variant] | None:
    """The run and the variant whose detector a file is; None for a file that is in no run's folder."""
    path = Path(path)
    variants: dict[str, Variant] = {stage: variant for variant, stage in STAGE_OF_VARIANT.items()}
    in_run = path.name == "detector.pt" and len(path.parents) > 2 and (path.parents[2] / "config.yaml").is_file()
    if not in_run or path.parent.name not in variants:
        return None
    return path.parents[2], variants[path.parent.name]


def load_detector_file(
    path: str | Path,
    model: str | None = None,
    *,
    taxonomy: str = "microg50",
    roi_stride: str | float = AUTO_STRIDE,
) -> FileDetector:
    """The detector in a weight file.

    Args:
        path: ``detector.pt`` of a run or what ``export`` has made of one, which say themselves what they are, or a
            published weight file.
        model: the network of a published file, or of one whose network is ``package.module:function``: no file decides
            which code is imported. A name of ``python -m microg_da list models``.
        taxonomy: what the outputs mean, for a published file.
        roi_stride: for a published file: as :func:`~microg_da.models.create_detector` takes it. ``"auto"`` is the
            stride at which the head in the file was trained.

    Raises:
        InputError: if there is no such file, the model has to be named, or they do not fit each other.
    """
    path = Path(path)
    said = read_description(path)
    if said is not None:
        if roi_stride != AUTO_STRIDE:
            raise InputError(f"{path}: declares its own RoI stride. Remove --roi-stride.")
        return _own(path, model, said)
    if model is None:
        raise InputError(
            f"{path}: the file does not name its network. Add --model NAME; `checkpoint {path}` lists the networks "
            f"that fit."
        )
    return _published(path, model, taxonomy, roi_stride)


def _own(path: Path, model: str | None, said: Mapping[str, object]) -> FileDetector:
    if model not in (None, said.get("model")):
        raise InputError(f"{path}: holds {said.get('model')}, not {model}. Remove --model.")
    detector, description = load_detector(path, model)
    # Results are to say by what they were made, and by what they were not.
    left_out = f", without {said['test_time_method']}" if said.get("test_time_method") else ""
    name = f"{description.model} from {path.name}{left_out}"
    return FileDetector(detector, description, name)


def _published(path: Path, model: str, taxonomy: str, roi_stride: str | float) -> FileDetector:
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
    description = DetectorDescription(
        model=model,
        num_classes=len(classes),
        taxonomy=taxonomy,
        num_frames=window.num_frames,
        sampling_rate=window.sampling_rate,
        image_size=crop_of_side(side),
        dropout=0.5,
        roi_stride=detector.head.stride,
        adapters=None,
        adapter_rank=8,
        roll_pooling=None,
        test_short_side=side,
    )
    return FileDetector(detector.eval(), description, f"{model} from {path.name}", tuple(notes))


def crop_of_side(short_side: int) -> int:
    """The training crop whose test clips have this short side, or one pixel more where there is none."""
    return next(crop for crop in range(1, short_side + 1) if usual_test_side(crop) >= short_side)


def _trained_view(path: Path, model: str) -> tuple[Window, int]:
    """Window and short side that a published file says it was trained and tested with, else those of its network."""
    window = model_window(model) or Window(8, 8)
    usual = {
        "NUM_FRAMES": window.num_frames,
        "SAMPLING_RATE": window.sampling_rate,
        "TEST_CROP_SIZE": _usual_side(model),
    }
    said = {key: training_setting(path, "DATA", key) for key in usual}
    # A setting below 1 is not a number of frames or pixels.
    frames, rate, side = (int(said[key] or usual[key]) or usual[key] for key in usual)
    return Window(frames, rate), side


def _usual_side(name: str) -> int:
    # Small networks are named after their training crop, the published ones after their test side.
    if name in ("r2plus1d_micro", "r2plus1d_tiny"):
        return usual_test_side(ZOO[name].crop)
    return ZOO[name].crop if name in ZOO else _DEFAULT_SIDE
