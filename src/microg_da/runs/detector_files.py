"""Loading of the detector in a weight file, which comes from a run, from `export` or from a publication."""

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
    """A detector that was loaded from a file.

    Attributes:
        detector: the detector, on the CPU, in evaluation mode.
        description: the network, its classes and the preprocessing of clips.
        name: the name of the detector in results.
        notes: notes about the loading for the user, as sentences.
    """

    detector: ActionDetector
    description: DetectorDescription
    name: str
    notes: tuple[str, ...] = ()


def variant_of_file(path: str | Path) -> tuple[Path, Variant] | None:
    """Return the run and the variant of a detector file; None for a file outside of run folders."""
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
    """Load the detector in a weight file.

    Args:
        path: ``detector.pt`` of a run or a folder of ``export``, which describe themselves, or a published weight file.
        model: the network of a published file, a name from ``python -m microg_da list models``. Also needed if the
            network is ``package.module:function``, because a file must not decide which code is imported.
        taxonomy: the classes of the outputs of a published file.
        roi_stride: the RoI stride of a published file, as in :func:`~microg_da.models.create_detector`. ``"auto"`` is
            the stride with which the head in the file was trained.

    Raises:
        InputError: if the file does not exist, ``model`` is missing, or the file does not fit the model.
    """
    path = Path(path)
    stored = read_description(path)
    if stored is not None:
        if roi_stride != AUTO_STRIDE:
            raise InputError(f"{path}: the file defines its RoI stride. Remove --roi-stride.")
        return _own(path, model, stored)
    if model is None:
        raise InputError(
            f"{path}: the file does not name its network. Add --model NAME; `checkpoint {path}` lists the networks "
            f"that fit."
        )
    return _published(path, model, taxonomy, roi_stride)


def _own(path: Path, model: str | None, stored: Mapping[str, object]) -> FileDetector:
    if model not in (None, stored.get("model")):
        raise InputError(f"{path}: the file contains the model {stored.get('model')}, not {model}. Remove --model.")
    detector, description = load_detector(path, model)
    # The name of the detector in results includes the test-time method that is missing.
    left_out = f", without {stored['test_time_method']}" if stored.get("test_time_method") else ""
    name = f"{description.model} from {path.name}{left_out}"
    return FileDetector(detector, description, name)


def _published(path: Path, model: str, taxonomy: str, roi_stride: str | float) -> FileDetector:
    classes = get_taxonomy(taxonomy)
    detector = create_detector(model, num_classes=len(classes), roi_stride=roi_stride)
    report = load_checkpoint(detector, path)
    if report.replaced:
        raise InputError(
            f"{path}: the number of classes of the head differs from {classes.name} ({len(classes)}). "
            f"Train a new head with `fit model.checkpoint={path}` first, or choose another --taxonomy."
        )
    notes = []
    if roi_stride == AUTO_STRIDE and report.head_stride not in (None, detector.head.stride):
        notes.append(f"{stride_note(path, report.head_stride, detector)}. --roi-stride changes it.")
        detector.head.stride = report.head_stride
    window, side = _trained_view(path, model)
    if window != (usual := model_window(model) or window):
        notes.append(f"{path} was trained with the window {window}, but {model} usually has {usual}: {window} is used.")
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
    """Return the training crop whose test clips have this short side, or one pixel more if there is none."""
    return next(crop for crop in range(1, short_side + 1) if usual_test_side(crop) >= short_side)


def _trained_view(path: Path, model: str) -> tuple[Window, int]:
    """Return the window and short side in the configuration of a published file, else the defaults of its network."""
    window = model_window(model) or Window(8, 8)
    usual = {
        "NUM_FRAMES": window.num_frames,
        "SAMPLING_RATE": window.sampling_rate,
        "TEST_CROP_SIZE": _usual_side(model),
    }
    stored = {key: training_setting(path, "DATA", key) for key in usual}
    # Values below 1 are not numbers of frames or pixels.
    frames, rate, side = (int(stored[key] or usual[key]) or usual[key] for key in usual)
    return Window(frames, rate), side


def _usual_side(name: str) -> int:
    # The names of small networks contain the training crop, those of published networks the test side.
    if name in ("r2plus1d_micro", "r2plus1d_tiny"):
        return usual_test_side(ZOO[name].crop)
    return ZOO[name].crop if name in ZOO else _DEFAULT_SIDE
