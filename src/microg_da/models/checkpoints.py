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
    """An entry that the file and the network have in different shapes."""

    name: str
    file: list[int]
    model: list[int]

    def __str__(self) -> str:
        return f"{self.name} (file {_shape(self.file)}, network {_shape(self.model)})"


@dataclass
class CheckpointReport:
    """How a weight file and a network go together; names are the network's.

    Attributes:
        path: the file.
        loaded: how many entries of the network come from the file.
        missing: entries of the network that the file lacks.
        unexpected: entries of the file that the network lacks.
        mismatched: entries of another shape.
        replaced: entries of the file's head that the network does without.
        notes: what else was decided, in sentences.
        warnings: how the detector that the weights were trained in differs from this one where weights do not show it.
        head_stride: the RoI stride, in input pixels, at which the head of the file was trained; None if the file has no
            head that loads, or does not tell.
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
        """Whether everything but a head of another size found its place."""
        return not (self.missing or self.unexpected or self.mismatched)

    def as_dict(self) -> dict[str, object]:
        """Plain containers, for JSON."""
        return asdict(self) | {"fits": self.fits}

    def problems(self) -> list[str]:
        """One line for each kind of thing that does not fit."""
        kinds = {
            "missing from the file": self.missing,
            "unknown to the network": self.unexpected,
            "of another shape": [str(item) for item in self.mismatched],
        }
        return [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]

    def without(self, allowed: Sequence[str]) -> CheckpointReport:
        """The report without the entries whose names match one of the shell-style patterns."""

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
    """The detector in a file that says itself what it is: a run's ``detector.pt``, or a folder made by ``export``.

    Args:
        path: the file or folder.
        model: the network, if it is ``package.module:function``. No file decides which code is imported.

    Returns:
        The detector, in evaluation mode, and what it is: window, taxonomy, size of the frames.

    Raises:
        InputError: if there is no such file, or it does not say which detector it holds.
    """
    said = read_description(path)
    if said is None:
        raise InputError(f"{path}: the file does not say which network it is of. Name the model, and give it the file.")
    description = DetectorDescription.from_dict(said, path)
    try:
        detector = description.build(model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    load_checkpoint(detector, path)
    return detector.eval(), description


def load_checkpoint(
    detector: ActionDetector, path: str | Path, allow_missing: Sequence[str] = (), skip: Sequence[str] = ()
) -> CheckpointReport:
    """Put a file's weights into a detector.

    A classification head of another size is replaced by the new one, and the report says so; the head of an AVA
    network (80 classes) gives its rows to a taxonomy of fewer AVA classes. Anything else that does not fit stops.

    Args:
        detector: changed in place, and only if everything fits.
        path: see :func:`~microg_da.models.weight_files.read_weights`.
        allow_missing: shell-style patterns of names that need not fit.
        skip: shell-style patterns of names of the network that keep their random values, whatever the file has.

    Raises:
        InputError: if the file cannot be read or does not fit, or a pattern of ``skip`` matches nothing.
    """
    fitting, report = fitting_weights(detector, path, allow_missing, skip)
    detector.load_state_dict(fitting, strict=False)
    return report


def fitting_weights(
    detector: ActionDetector, path: str | Path, allow_missing: Sequence[str] = (), skip: Sequence[str] = ()
) -> tuple[dict[str, Tensor], CheckpointReport]:
    """As :func:`compare`, for weights that have to fit; arguments and errors as :func:`load_checkpoint`."""
    fitting, report = compare(detector, path, skip)
    problems = report.without(allow_missing).problems()
    package = packaged(path)
    if problems and package and getattr(detector.backbone, "name", None) != package.encoder:
        raise InputError(
            f"checkpoint {path} holds weights of timm:{package.encoder}. Set model=timm:{package.encoder}."
        )
    if problems:
        raise InputError(
            f"checkpoint {path} does not fit the network: {'; '.join(problems)}. Is it of another model? "
            f"To start from part of it, name what may differ in allow_missing."
        )
    return fitting, report


def compare(
    detector: ActionDetector, path: str | Path, skip: Sequence[str] = ()
) -> tuple[dict[str, Tensor], CheckpointReport]:
    """Find out how a file and a detector go together, changing nothing.

    Args:
        detector: it may be on the meta device.
        path: the file.
        skip: as in :func:`load_checkpoint`.

    Returns:
        The entries that fit, under the detector's names, and the report.
    """
    weights = read_weights(path)
    fitting, report = match(detector, weights, path, skip)
    if _HEAD in fitting:
        report.head_stride = _trained_stride(path, weights, detector.backbone.stride)
    report.warnings = _unlike(detector, path, report.head_stride)
    return fitting, report


def match(
    detector: ActionDetector, weights: Mapping[str, Tensor], path: str | Path, skip: Sequence[str] = ()
) -> tuple[dict[str, Tensor], CheckpointReport]:
    """As :func:`compare`, by names and shapes alone: the report has no stride and no warnings.

    Args:
        detector: it may be on the meta device.
        weights: what :func:`~microg_da.models.weight_files.read_weights` returns; they may be on the meta device.
        path: what the report calls them.
        skip: as in :func:`load_checkpoint`.
    """
    report = CheckpointReport(str(path))
    model = detector.state_dict()
    state = _fit_head(convert(dict(weights), detector.backbone), model, report)
    has_new_head = bool(report.replaced) or _is_encoder_alone(detector, state, report)
    skipped = _skipped(model, skip)
    if skipped:
        report.notes.append(f"{len(skipped)} weights stay random, as skip_weights asks: {_some(sorted(skipped))}")
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
        # Counters of batches change nothing that is computed, and older files have none.
        if not name.endswith("num_batches_tracked") and not (has_new_head and name.startswith("head.")):
            report.missing.append(name)
    _excuse_new_parts(detector, fitting, report)
    report.missing.sort()
    report.loaded = len(fitting)
    return fitting, report


def _skipped(model: Mapping[str, Tensor], patterns: Sequence[str]) -> set[str]:
    """The names of the network that match one of the patterns.

    Raises:
        InputError: for a pattern that matches nothing.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = fnmatch.filter(model, pattern)
        if not names:
            raise InputError(
                f"skip_weights: no weight of the network matches {pattern!r}. Its names are {_some(list(model), 2)}."
            )
        found.update(name for name in names if not name.endswith("num_batches_tracked"))
    return found


def _excuse_new_parts(detector: ActionDetector, fitting: dict[str, Tensor], report: CheckpointReport) -> None:
    """Adapters and temporal modules are added to published networks: no published file has them."""
    for kind in (*(f"backbone.{part}." for part in (*detector.backbone.fresh, "adapters")), ".low_rank_"):
        new = [name for name in report.missing if kind in name]
        if new and not any(kind in name for name in fitting):
            report.missing = [name for name in report.missing if name not in new]
            report.notes.append(f"{len(new)} entries ({kind.strip('.')}) are new relative to the network in the file")


def settled_stride(
    roi_stride: str | bool | float, path: str | Path, detector: ActionDetector
) -> tuple[str | bool | float, str | None]:
    """The meaning of ``"auto"`` for a file, and a sentence about it if it is not the network's own stride.

    Args:
        roi_stride: as configured; all but ``"auto"`` is returned as it is.
        path: the weight file.
        detector: of the configured network; it may be on the meta device.

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
    """That boxes are pooled at another stride than the network's own, in one sentence."""
    return (
        f"{Path(path).name}: RoI stride {learned:g}, as its head was trained (the network's own is "
        f"{detector.backbone.stride:g})"
    )


def _trained_stride(path: str | Path, weights: Mapping[str, Tensor], true_stride: float) -> float | None:
    """The RoI stride at which the head of a file was trained, as far as the file tells.

    Our own files say it, or are weights alone and do not. PySlowFast stores its configuration next to the weights;
    files of the same networks without one are taken for published, which all pool at 1/16.
    """
    said = read_description(path)
    if said is not None:
        return resolve_stride(said["roi_stride"], true_stride) if "roi_stride" in said else None
    if any("backbone." in name for name in weights):
        return None
    scale = training_setting(path, "DETECTION", "SPATIAL_SCALE_FACTOR")
    return PUBLISHED_STRIDE if scale is None else scale


def _unlike(detector: ActionDetector, path: str | Path, head_stride: float | None) -> list[str]:
    """What a file says of its detector and weights do not show, where this detector is another."""
    said = read_description(path) or {}
    here = {"roi_stride": detector.head.stride, "roll_pooling": getattr(detector, "group", None)}
    there = {
        "roi_stride": head_stride or here["roi_stride"],
        "roll_pooling": said.get("roll_pooling", here["roll_pooling"]),
    }
    return [
        f"{path} was trained with model.{key}={_shown(there[key])}, and here it is {_shown(value)}"
        for key, value in here.items()
        if there[key] != value
    ]


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value or "null")


def _fit_head(state: dict[str, Tensor], model: dict[str, Tensor], report: CheckpointReport) -> dict[str, Tensor]:
    """Take the file's head out if it is of another size, or its rows if they are AVA's."""
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
        kind = f"{_shape(head.shape)} in the file" if head is not None else "another in the file"
        report.notes.append(
            f"head: {kind}, {_shape(wanted.shape)} in the network; it is new and knows nothing until it is trained"
        )
    return {name: x for name, x in state.items() if name not in report.replaced}


def _is_encoder_alone(detector: ActionDetector, state: Mapping[str, Tensor], report: CheckpointReport) -> bool:
    """Whether a file of timm or transformers has no head, as those of self-supervised encoders."""
    names = detector.backbone.published_names
    alone = names in ("timm", "transformers") and not any(name.startswith("head.") for name in state)
    if alone:
        report.notes.append("head: none in the file; it is new and knows nothing until it is trained")
    return alone


def _taxonomy_rows(given: int, wanted: int) -> Tensor | None:
    """Which of AVA's 80 outputs make the outputs of a smaller AVA taxonomy; None if this is no such pair."""
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
