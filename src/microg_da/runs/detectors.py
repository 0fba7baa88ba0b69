"""The detector and the method of a configuration, built new or read from the folder of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import (
    Method,
    NoArguments,
    Supervised,
    Task,
    TestTimeMethod,
    TrainingMethod,
    create_adaptation,
)
from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.source_only import SourceOnly
from microg_da.config import Config
from microg_da.data.options import target_test_side
from microg_da.errors import InputError, unknown_name
from microg_da.models.build import without_fetching
from microg_da.models.checkpoints import settled_stride
from microg_da.models.compilation import compile_backbone
from microg_da.models.create import create_detector
from microg_da.models.description import DetectorDescription
from microg_da.models.detector import AUTO_STRIDE, ActionDetector
from microg_da.runs.folder import Run
from microg_da.runs.layout import RunFolder
from microg_da.taxonomy import get_taxonomy
from microg_da.types import STAGE_OF_VARIANT, VARIANTS, Variant


@dataclass(frozen=True)
class RunDetector:
    """One finished detector of a run.

    Attributes:
        run: the folder and its configuration.
        variant: the variant of the detector.
        predictor: the detector and its test-time method, on the CPU, in evaluation mode.
        file: the file of its weights.
    """

    run: Run
    variant: Variant
    predictor: Predictor
    file: Path

    @property
    def detector(self) -> ActionDetector:
        """The detector without its test-time method."""
        return self.predictor.detector

    def facts(self) -> dict[str, str]:
        """The identity of the detector: its run, its variant, and a hash of its weights."""
        return {
            "run": "/".join(self.run.path.resolve().parts[-2:]),
            "variant": self.variant,
            "weights": hashlib.sha256(self.file.read_bytes()).hexdigest()[:16],
        }


def load_run_detector(run_folder: str | Path, variant: str | None = None) -> RunDetector:
    """Load a detector that a run has trained.

    The detector is ready for predictions::

        loaded = load_run_detector("runs/ava2microg/dann-seed0", "adapted")
        prediction = loaded.detector(frames, boxes, clip_index)

    Args:
        run_folder: ``runs/<experiment>/<name>``.
        variant: ``"source_only"``, ``"adapted"`` or ``"target_supervised"``; None for the adapted detector if there
            is one, else the source-only detector.

    Raises:
        InputError: if the folder is not a run, or the run has no such detector (yet).
    """
    run = Run.open(run_folder)
    done = finished_variants(run)
    chosen = _known_variant(variant) if variant is not None else "adapted" if "adapted" in done else "source_only"
    if chosen not in done:
        raise InputError(
            f"{run.path} has no detector of the variant {chosen!r}; finished variants: {', '.join(done) or '(none)'}. "
            f"Finish the run with `fit --resume {run.path}`, or choose another variant."
        )
    file = run.detector_file(STAGE_OF_VARIANT[chosen])
    detector = build_detector(run.config, fetch=False)
    detector.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["state_dict"])
    method = build_test_time_method(run.config, detector) if chosen == "adapted" else None
    if method is not None:
        method.load_state_dict(torch.load(run.method_file("adapt"), map_location="cpu", weights_only=True))
        method.eval()
    return RunDetector(run, chosen, Predictor(detector.eval(), method), file)


def finished_variants(run: RunFolder) -> list[Variant]:
    """Return the variants whose detectors are in the folder of a run."""
    return [variant for variant, stage in STAGE_OF_VARIANT.items() if run.detector_file(stage).exists()]


def _known_variant(given: str) -> Variant:
    for variant in VARIANTS:
        if variant == given:
            return variant
    raise unknown_name("variant", given, VARIANTS)


def build_detector(config: Config, checkpoint: str | None = None, *, fetch: bool = True) -> ActionDetector:
    """Build the configured detector, with random weights or those of ``checkpoint``.

    Args:
        config: the configuration of the run.
        checkpoint: a weight file.
        fetch: whether libraries load the weights in ``model.options``; False if all weights are loaded later.

    Raises:
        InputError: for an invalid model, or a model that cannot read the configured number of frames.
    """
    model = config.model
    options = model.options if fetch else without_fetching(model.name, model.options)
    detector = create_detector(
        model.name,
        num_classes=len(get_taxonomy(config.data.taxonomy)),
        checkpoint=checkpoint,
        allow_missing=model.allow_missing,
        skip_weights=model.skip_weights if checkpoint is not None else (),
        dropout=model.dropout,
        roi_stride=model.roi_stride,
        freeze=model.freeze,
        adapters=model.adapters,
        adapter_rank=model.adapter_rank,
        roll_pooling=model.roll_pooling,
        head=model.head,
        head_args=model.head_args,
        **options,
    )
    detector.backbone.check_frames(model.num_frames)
    if model.compile and fetch:
        compile_backbone(detector.backbone)
    return detector


def settle_roi_stride(config: Config) -> tuple[Config, str | None]:
    """Replace ``model.roi_stride: auto`` by the value for the weight file of the run.

    Returns:
        The configuration, and a sentence for the user if the RoI stride differs from the stride of the network.

    Raises:
        InputError: if the weight file cannot be read.
    """
    model, path = config.model, config.checkpoint or config.model.checkpoint
    if model.roi_stride != AUTO_STRIDE:
        return config, None
    stride: str | bool | float = "true"
    note = None
    if path is not None:
        with torch.device("meta"):  # only names and shapes are compared
            detector = describe_detector(config).build(config.model.name)
        stride, note = settled_stride(model.roi_stride, path, detector)
    return replace(config, model=replace(model, roi_stride=stride)), note and f"{note}. model.roi_stride changes it."


def describe_detector(config: Config) -> DetectorDescription:
    """Return the description from which the configured detector can be built without the configuration."""
    model = config.model
    description = DetectorDescription(
        model=model.name,
        num_classes=len(get_taxonomy(config.data.taxonomy)),
        taxonomy=config.data.taxonomy,
        num_frames=model.num_frames,
        sampling_rate=model.sampling_rate,
        image_size=config.data.image_size,
        dropout=model.dropout,
        roi_stride=model.roi_stride,
        adapters=model.adapters,
        adapter_rank=model.adapter_rank,
        roll_pooling=model.roll_pooling,
        options=dict(model.options),
        head=model.head,
        head_args=dict(model.head_args),
        test_short_side=target_test_side(config),
    )
    return description.self_contained()


def test_time_method(config: Config, method: TestTimeMethod | None) -> str | None:
    """Return the name of the test-time method of a detector; None if the weights alone give its predictions."""
    if method is None:
        return None
    return config.adaptation.test_time or config.adaptation.name


def build_training_method(
    config: Config, detector: ActionDetector, class_rates: Sequence[float] | None = None
) -> TrainingMethod | None:
    """Build the method that trains in the adaptation stage; None if the run has no training method.

    ``class_rates`` are the frequencies of the classes among source training people, for methods that read source clips.
    """
    settings = config.adaptation
    method = _build(config, settings.name, detector, settings.args, class_rates)
    return method if isinstance(method, TrainingMethod) else None


def build_test_time_method(
    config: Config, detector: ActionDetector, training: TrainingMethod | None = None
) -> TestTimeMethod | None:
    """Build the test-time method of the adapted detector; None if the detector is tested without a method.

    Args:
        config: the configuration of the run. ``adaptation.test_time`` replaces the companion of a training method.
        detector: the adapted detector.
        training: the method that trained the detector, which may have a companion. None builds a new companion, whose
            state is loaded later.
    """
    settings = config.adaptation
    if settings.test_time is not None:
        method = _build(config, settings.test_time, detector, settings.test_time_args)
    else:
        method = training or _build(config, settings.name, detector, settings.args)
    if isinstance(method, TrainingMethod):
        return method.companion
    return method if isinstance(method, TestTimeMethod) else None


def has_test_time_method(config: Config) -> bool:
    """Return whether the adapted detector is tested with a test-time method."""
    method = ADAPTATIONS.load(config.adaptation.test_time or config.adaptation.name, "adaptation.name")
    return issubclass(method, TestTimeMethod) or (issubclass(method, TrainingMethod) and method.has_companion)


def method_label(config: Config) -> str:
    """Return the name of the adaptation in result tables. Rotation by augmentation is a separate part of the name."""
    settings = config.adaptation
    method = ADAPTATIONS.load(settings.name)
    trains = issubclass(method, TrainingMethod) and method.has_epochs and settings.epochs
    rotation = f"rotation {settings.rotation:g}°" if trains and settings.rotation else None
    return " + ".join(part for part in (settings.name, rotation, settings.test_time) if part)


def matches_rates(config: Config) -> bool:
    """Return whether the adapted detector uses the class rates of the source; oracles use those of the target."""
    method = ADAPTATIONS.load(config.adaptation.name)
    return config.adaptation.match_rates and method is not SourceOnly and not method.uses_target_labels


def plain_training(config: Config, detector: ActionDetector) -> Supervised:
    """Return the method for supervised training on one labelled domain."""
    return Supervised(NoArguments(), _task(config, detector))


def _build(
    config: Config,
    name: str,
    detector: ActionDetector,
    arguments: dict[str, object],
    class_rates: Sequence[float] | None = None,
) -> Method:
    task = _task(config, detector)
    method = create_adaptation(
        name,
        arguments,
        feature_dim=task.feature_dim,
        num_classes=task.num_classes,
        class_groups=task.class_groups,
        class_rates=class_rates,
    )
    method.built_for(detector)
    return method


def _task(config: Config, detector: ActionDetector) -> Task:
    taxonomy = get_taxonomy(config.data.taxonomy)
    names = sorted(set(taxonomy.groups))
    groups = tuple(names.index(group) for group in taxonomy.groups)
    return Task(detector.feature_dim, detector.num_classes, groups)
