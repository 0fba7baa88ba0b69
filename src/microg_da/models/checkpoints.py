"""Initialisation of a detector from a weight file, with a report of loaded, new and mismatched weights."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from microg_da.errors import InputError
from microg_da.models.description import DetectorDescription, read_description
from microg_da.models.detector import AUTO_STRIDE, PUBLISHED_STRIDE, ActionDetector, resolve_stride
from microg_da.models.packages import packaged
from microg_da.models.weight_files import read_weights, training_setting
from microg_da.models.weight_names import convert
from microg_da.taxonomy import get_taxonomy

_HEAD = "head.projection.weight"


@dataclass
class Mismatch:
    """An entry with different shapes in the file and in the network."""

    name: str
    file: list[int]
    model: list[int]

    def __str__(self) -> str:
        return f"{self.name} (file {_shape(self.file)}, network {_shape(self.model)})"


@dataclass
class CheckpointReport:
    """The result of a comparison of a weight file with a network; names are those of the network.

    Attributes:
        path: the file.
        loaded: number of entries of the network that are loaded from the file.
        missing: entries of the network that the file lacks.
        unexpected: entries of the file that the network lacks.
        mismatched: entries of another shape.
        replaced: entries of the file's head that are not used.
        notes: further remarks, as sentences.
        warnings: differences between the detector of the file and this one that do not show in the weights.
        head_stride: the RoI stride, in input pixels, at which the head of the file was trained; None if no head is
            loaded, or if the stride is unknown.
    """

    path: str
    loaded: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    head_stride: float | None = None

    @property
    def fits(self) -> bool:
        """Whether everything fits except a head of another size."""
        return not (self.missing or self.unexpected or self.mismatched)

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain containers for JSON."""
        return asdict(self) | {"fits": self.fits}

    def problems(self) -> list[str]:
        """Return one line for each kind of mismatch."""
        kinds = {
            "missing from the file": self.missing,
            "unknown to the network": self.unexpected,
            "of another shape": [str(item) for item in self.mismatched],
        }
        return [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]

    def without(self, allowed: Sequence[str]) -> CheckpointReport:
        """Return the report without the entries that match one of the shell-style patterns."""

        def kept(name: str) -> bool:
            return not any(fnmatch.fnmatch(name, pattern) for pattern in allowed)

        return CheckpointReport(
            self.path,
            self.loaded,
            [name for name in self.missing if kept(name)],
            [name for name in self.unexpected if kept(name)],
            [item for item in self.mismatched if kept(item.name)],
            self.replaced,
            self.notes,
            self.warnings,
            self.head_stride,
        )


def load_detector(path: str | Path, model: str | None = None) -> tuple[ActionDetector, DetectorDescription]:
    """Load the detector in a self-describing file: a run's ``detector.pt``, or a folder made by ``export``.

    Args:
        path: the file or folder.
        model: the network, if it is ``package.module:function``. No file decides which code is imported.

    Returns:
        The detector in evaluation mode, and its description: window, taxonomy, size of the frames.

    Raises:
        InputError: if the file does not exist or contains no description of the detector.
    """
    stored = read_description(path)
    if stored is None:
        raise InputError(
            f"{path}: the file does not name its network. Create the model by name, with checkpoint={path}."
        )
    description = DetectorDescription.from_dict(stored, path)
    try:
        detector = description.build(model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    load_checkpoint(detector, path)
    return detector.eval(), description


def load_checkpoint(
    detector: ActionDetector, path: str | Path, allow_missing: Sequence[str] = (), skip: Sequence[str] = ()
) -> CheckpointReport:
    """Load the weights of a file into a detector.

    A classification head of another size is replaced by a new head, with a note in the report. The head of an AVA
    network (80 classes) provides the rows for a taxonomy of fewer AVA classes. All other mismatches are errors.

    Args:
        detector: the detector, changed in place only if everything fits.
        path: see :func:`~microg_da.models.weight_files.read_weights`.
        allow_missing: shell-style patterns of weights that may be missing or of another shape.
        skip: shell-style patterns of names of the network that keep their random values.

    Raises:
        InputError: if the file cannot be read or does not fit, or a pattern in ``skip`` has no match.
    """
    fitting, report = fitting_weights(detector, path, allow_missing, skip)
    detector.load_state_dict(fitting, strict=False)
    return report


def fitting_weights(
    detector: ActionDetector, path: str | Path, allow_missing: Sequence[str] = (), skip: Sequence[str] = ()
) -> tuple[dict[str, Tensor], CheckpointReport]:
    """Compare like :func:`compare`, with the arguments and errors of :func:`load_checkpoint`."""
    fitting, report = compare(detector, path, skip)
    problems = report.without(allow_missing).problems()
    package = packaged(path)
    if problems and package and getattr(detector.backbone, "name", None) != package.encoder:
        raise InputError(
            f"checkpoint {path} contains weights of timm:{package.encoder}. Set model=timm:{package.encoder}."
        )
    if problems:
        raise InputError(
            f"checkpoint {path} does not fit the network: {'; '.join(problems)}. Check the name of the model. "
            f"To load only a part of the file, list the other weights in allow_missing."
        )
    return fitting, report


def compare(
    detector: ActionDetector, path: str | Path, skip: Sequence[str] = ()
) -> tuple[dict[str, Tensor], CheckpointReport]:
    """Compare a file with a detector, without changes.

    Args:
        detector: the detector, which may be on the meta device.
        path: the file.
        skip: as in :func:`load_checkpoint`.

    Returns:
        The entries that fit, with the names of the detector, and the report.
    """
    weights = read_weights(path)
    fitting, report = match(detector, weights, path, skip)
    if _HEAD in fitting:
        report.head_stride = _trained_stride(path, weights, detector.backbone.stride)
    report.warnings = _differences(detector, path, report.head_stride)
    return fitting, report


def match(
    detector: ActionDetector, weights: Mapping[str, Tensor], path: str | Path, skip: Sequence[str] = ()
) -> tuple[dict[str, Tensor], CheckpointReport]:
    """Compare only names and shapes. The report has no stride and no warnings.

    Args:
        detector: the detector, which may be on the meta device.
        weights: result of :func:`~microg_da.models.weight_files.read_weights`, possibly on the meta device.
        path: name of the weights in the report.
        skip: as in :func:`load_checkpoint`.
    """
    report = CheckpointReport(str(path))
    model = detector.state_dict()
    state = _fit_head(convert(dict(weights), detector.backbone), model, report)
    has_new_head = bool(report.replaced) or _is_encoder_alone(detector, state, report)
    skipped = _skipped(model, skip)
    if skipped:
        report.notes.append(f"{len(skipped)} weights stay random because of skip_weights: {_some(sorted(skipped))}")
        state = {name: value for name, value in state.items() if name not in skipped}
    fitting = {}
    for name, value in state.items():
        if name not in model:
            report.unexpected.append(name)
        elif value.shape != model[name].shape:
            report.mismatched.append(Mismatch(name, list(value.shape), list(model[name].shape)))
        else:
            fitting[name] = value
    for name in model.keys() - state.keys() - skipped:
        # Counters of batches do not affect outputs, and older files lack them.
        if not name.endswith("num_batches_tracked") and not (has_new_head and name.startswith("head.")):
            report.missing.append(name)
    _accept_new_parts(detector, fitting, report)
    report.missing.sort()
    report.loaded = len(fitting)
    return fitting, report


def _skipped(model: Mapping[str, Tensor], patterns: Sequence[str]) -> set[str]:
    """Return the names of the network that match one of the patterns.

    Raises:
        InputError: for a pattern without a match.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = fnmatch.filter(model, pattern)
        if not names:
            raise InputError(
                f"skip_weights: no weight of the network matches {pattern!r}. Its weights: {_some(list(model), 2)}."
            )
        found.update(name for name in names if not name.endswith("num_batches_tracked"))
    return found


def _accept_new_parts(detector: ActionDetector, fitting: dict[str, Tensor], report: CheckpointReport) -> None:
    """Accept missing adapters and temporal modules, which published files never contain."""
    for kind in (*(f"backbone.{part}." for part in (*detector.backbone.fresh, "adapters")), ".low_rank_"):
        new = [name for name in report.missing if kind in name]
        if new and not any(kind in name for name in fitting):
            report.missing = [name for name in report.missing if name not in new]
            report.notes.append(f"{len(new)} entries ({kind.strip('.')}) are new relative to the network in the file")


def settled_stride(
    roi_stride: str | bool | float, path: str | Path, detector: ActionDetector
) -> tuple[str | bool | float, str | None]:
    """Return the stride of ``"auto"`` for a file, and a note if it differs from the network's stride.

    Args:
        roi_stride: the configured value; other values than ``"auto"`` are returned unchanged.
        path: the weight file.
        detector: the configured detector, which may be on the meta device.

    Raises:
        InputError: if the file cannot be read.
    """
    if roi_stride != AUTO_STRIDE:
        return roi_stride, None
    learned = compare(detector, path)[1].head_stride
    if learned is None or learned == detector.backbone.stride:
        return "true", None
    return learned, stride_note(path, learned, detector)


def stride_note(path: str | Path, learned: float, detector: ActionDetector) -> str:
    """Return a note that the RoI stride differs from the network's stride."""
    return (
        f"{Path(path).name}: RoI stride {learned:g}, with which the head was trained (stride of the network: "
        f"{detector.backbone.stride:g})"
    )


def _trained_stride(path: str | Path, weights: Mapping[str, Tensor], true_stride: float) -> float | None:
    """Return the RoI stride at which the head of a file was trained, if known.

    Files of this package contain the stride, unless they are plain weights. PySlowFast stores its configuration with
    the weights; files of the same networks without a configuration are assumed to be published ones with stride 16.
    """
    stored = read_description(path)
    if stored is not None:
        return resolve_stride(stored["roi_stride"], true_stride) if "roi_stride" in stored else None
    if any("backbone." in name for name in weights):
        return None
    scale = training_setting(path, "DETECTION", "SPATIAL_SCALE_FACTOR")
    return PUBLISHED_STRIDE if scale is None else scale


def _differences(detector: ActionDetector, path: str | Path, head_stride: float | None) -> list[str]:
    """Return differences between the described detector of a file and this one that do not show in the weights."""
    stored = read_description(path) or {}
    here = {"roi_stride": detector.head.stride, "roll_pooling": getattr(detector, "group", None)}
    there = {
        "roi_stride": head_stride or here["roi_stride"],
        "roll_pooling": stored.get("roll_pooling", here["roll_pooling"]),
    }
    return [
        f"{path} was trained with model.{key}={_shown(there[key])}, but this detector has {_shown(value)}"
        for key, value in here.items()
        if there[key] != value
    ]


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value or "null")


def _fit_head(state: dict[str, Tensor], model: dict[str, Tensor], report: CheckpointReport) -> dict[str, Tensor]:
    """Remove the file's head if its size differs, or select its rows if it is AVA's."""
    head, wanted = state.get(_HEAD), model[_HEAD]
    given, needed = ({name for name in names if name.startswith("head.")} for names in (state, model))
    head = head if given == needed else None  # of another kind
    if head is not None and head.shape == wanted.shape:
        return state
    if head is not None and head.shape[1:] == wanted.shape[1:]:
        rows = _taxonomy_rows(len(head), len(wanted))
        if rows is not None:
            report.notes.append(f"head: {len(rows)} rows of the {len(head)} AVA classes, by action id")
            return state | {name: x[rows] for name, x in state.items() if name.startswith("head.projection")}
    report.replaced = [name for name in state if name.startswith("head.")]
    if report.replaced:
        kind = f"{_shape(head.shape)} in the file" if head is not None else "another kind in the file"
        report.notes.append(
            f"head: {kind}, {_shape(wanted.shape)} in the network; it is initialised at random and must be trained"
        )
    return {name: x for name, x in state.items() if name not in report.replaced}


def _is_encoder_alone(detector: ActionDetector, state: Mapping[str, Tensor], report: CheckpointReport) -> bool:
    """Return whether a file of timm or transformers has no head, as files of self-supervised encoders."""
    names = detector.backbone.published_names
    alone = names in ("timm", "transformers") and not any(name.startswith("head.") for name in state)
    if alone:
        report.notes.append("head: none in the file; it is initialised at random and must be trained")
    return alone


def _taxonomy_rows(given: int, wanted: int) -> Tensor | None:
    """Return the indices in AVA's 80 outputs of a smaller AVA taxonomy; None for other pairs."""
    if given != len(get_taxonomy("ava80")):
        return None
    for name in ("microg50", "ava60"):
        ids = get_taxonomy(name).ids
        if len(ids) == wanted:
            return torch.tensor(ids) - 1
    return None


def _shape(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape) or "scalar"


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
