"""Tests of the detectors of a run, or of the detector in a file, with test-time methods, on any data."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from microg_da.adaptation import ADAPTATIONS, uses_target_labels
from microg_da.adaptation.base import TestTimeMethod, TrainingMethod, method_arguments
from microg_da.adaptation.choice import MethodChoice
from microg_da.adaptation.predictor import Predictor
from microg_da.config import AdaptationConfig, Config, DataConfig, ModelConfig, override_config, read_overrides
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.data.options import parse_source
from microg_da.errors import InputError
from microg_da.inference.detector_tests import Candidate, DetectorTest, try_candidates
from microg_da.inference.preparation import prepare_predictor
from microg_da.inference.trainer import one_process
from microg_da.models.detector import ActionDetector
from microg_da.runs.detector_files import FileDetector, load_detector_file, variant_of_file
from microg_da.runs.detectors import (
    build_test_time_method,
    build_training_method,
    finished_variants,
    load_run_detector,
    method_label,
)
from microg_da.runs.folder import EMBEDDED_NOTICE, Run
from microg_da.taxonomy import get_taxonomy
from microg_da.training.preflight import check_model, check_trainer
from microg_da.training.source_checks import check_source
from microg_da.types import Clip, ClipSource, Domain, Split, Variant


class _Datasets(DomainDatasets):
    """The data of a test. The source clips of a weight file are known only if ``data.source`` is given."""

    def _make(self, domain: Domain, split: Split, labelled: bool) -> ClipSource[Clip]:
        if domain == "source" and not self.config.data.source:
            raise InputError(
                "the method needs source training clips, and a weight file does not name them. Add data.source=SOURCE."
            )
        return super()._make(domain, split, labelled)


def score_run(
    folder: str | Path,
    data: str | None = None,
    *,
    split: Split = "test",
    variant: str | None = None,
    methods: Sequence[MethodChoice] = (),
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> DetectorTest:
    """Test the finished detectors of a run on any data.

    Each detector is tested as the run tests it, and then once more with each method. A method replaces the test-time
    method of the run's adaptation. Methods that read training clips get the source clips of the run and the unlabelled
    clips of ``data``.

    Args:
        folder: ``runs/<experiment>/<name>``.
        data: a SOURCE; None for the target of the run.
        split: the split of the data.
        variant: one detector of the run; None for all of them.
        methods: the test-time methods to try.
        overrides: keys that change how the detectors are tested, as in :func:`~microg_da.config.load_config`.
        console: the console for messages.

    Raises:
        InputError: if the run has no such detector, the data cannot be read, or a method cannot act on a detector.
    """
    run = Run.open(folder)
    variants: list[str] = [*finished_variants(run)] if variant is None else [variant]
    if not variants:
        raise InputError(f"{run.path} has no finished detector. Finish the run with `fit --resume {run.path}`.")
    config = _tested(run.config, data or run.config.data.target, read_overrides(overrides))
    _check(config, methods)
    datasets = _Datasets(config)
    candidates: list[Candidate] = []
    notes = _notes(config)
    for name in variants:
        loaded = load_run_detector(run.path, name)
        made_by = method_label(run.config) if loaded.variant == "adapted" else ""
        oracle = uses_target_labels(run.config)
        candidates.append(Candidate(loaded.variant, made_by, None, loaded.predictor, oracle))
        if loaded.variant == "adapted" and _acts_at_test_time(run.config):
            if methods:
                notes.append(f"{candidates[-1].name} is a test-time method: no other method is tried with it")
            continue
        trained_by = method_label(_without_test_time(run.config)) if loaded.variant == "adapted" else ""
        candidates += _with_methods(loaded.variant, trained_by, loaded.detector, methods, datasets, oracle, console)
    return try_candidates(candidates, datasets, split, notes=notes, console=console)


def score_file(
    path: str | Path,
    data: str,
    *,
    model: str | None = None,
    split: Split = "test",
    methods: Sequence[MethodChoice] = (),
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> DetectorTest:
    """Test the detector in a weight file on any data.

    A file in the folder of a run is read with the settings of the run.

    Args:
        path: as for :func:`~microg_da.runs.detector_files.load_detector_file`.
        data: a SOURCE.
        model: the network of a published file.
        split: as in :func:`score_run`.
        methods: as in :func:`score_run`. Methods that read source clips need ``data.source`` among the overrides.
        overrides: as in :func:`score_run`. ``data.taxonomy`` and ``model.roi_stride`` are for published files.
        console: the console for messages.

    Raises:
        InputError: if the file cannot be loaded, the data cannot be read, or a method cannot act on the detector.
    """
    in_run = variant_of_file(path)
    if in_run is not None:
        run, variant = in_run
        return score_run(run, data, split=split, variant=variant, methods=methods, overrides=overrides, console=console)
    keys = read_overrides(overrides)
    published = {key: value for key, value in keys.items() if key in _OF_PUBLISHED_FILES}
    asked = override_config(Config(), published)
    loaded = load_detector_file(path, model, taxonomy=asked.data.taxonomy, roi_stride=asked.model.roi_stride)
    config = _tested(_config_of(loaded), data, {key: keys[key] for key in keys if key not in published})
    _check(config, methods)
    datasets = _Datasets(config)
    first = Candidate("checkpoint", loaded.name, None, Predictor(loaded.detector))
    others = _with_methods("checkpoint", loaded.name, loaded.detector, methods, datasets, False, console)
    notes = [*loaded.notes, *_notes(config)]
    return try_candidates([first, *others], datasets, split, notes=notes, console=console)


# --------------------------------------------------------------------------------------------------- configuration

_DECIDES_TESTS = ("data.", "synthetic.", "evaluation.", "trainer.")
_OTHER_KEYS = ("seed", "model.num_frames", "model.sampling_rate", "model.impossible_window")
_OF_PUBLISHED_FILES = ("data.taxonomy", "model.roi_stride")
_DECIDED = {"data.target": "--data", "data.taxonomy": "the detector's own outputs"}


def _tested(config: Config, data: str, values: Mapping[str, object]) -> Config:
    """Return the configuration of a test, on one device.

    Raises:
        InputError: for a key that does not affect tests.
    """
    for key in values:
        if key in _DECIDED:
            raise InputError(f"test: {key} is set by {_DECIDED[key]}. Remove it.")
        if not key.startswith(_DECIDES_TESTS) and key not in _OTHER_KEYS:
            valid = ", ".join([*(f"{section}*" for section in _DECIDES_TESTS), *_OTHER_KEYS])
            raise InputError(f"test: {key} does not affect tests. Valid keys: {valid}.")
    if parse_source(data).kind != parse_source(config.data.target).kind:
        # Options of the run's data do not apply to another kind of data.
        config = replace(config, data=replace(config.data, target_options={}))
    changed = override_config(config, values)
    return replace(changed, data=replace(changed.data, target=data), trainer=one_process(changed.trainer))


def _config_of(loaded: FileDetector) -> Config:
    facts = loaded.description
    model = ModelConfig(
        name=facts.model,
        num_frames=facts.num_frames,
        sampling_rate=facts.sampling_rate,
        dropout=facts.dropout,
        roi_stride=facts.roi_stride,
        adapters=facts.adapters,
        adapter_rank=facts.adapter_rank,
        roll_pooling=facts.roll_pooling,
        head=facts.head,
        head_args=dict(facts.head_args),
        options=dict(facts.options),
    )
    data = DataConfig(source="", taxonomy=facts.taxonomy, image_size=facts.image_size, test_side=facts.test_short_side)
    return replace(Config(), experiment="test", data=data, model=model)


def _notes(config: Config) -> list[str]:
    return [EMBEDDED_NOTICE] if config.data.target.startswith("synthetic:") else []


# --------------------------------------------------------------------------------------------------------- checks


def _check(config: Config, methods: Sequence[MethodChoice]) -> None:
    """Check the request before reading clips."""
    get_taxonomy(config.data.taxonomy)
    check_source("target", config.data.target, config, labelled=False)
    check_trainer(config)
    names = [str(method) for method in methods]
    for method in methods:
        with _naming(method):
            if names.count(str(method)) > 1:
                raise InputError("the method is given twice. Remove one.")
            if not _acts_alone(method.name):
                able = ", ".join(name for name in ADAPTATIONS if _acts_alone(name))
                raise InputError(f"{method.name} does not act on a trained detector. Methods that do: {able}.")
            method_arguments(method.name, method.args, key="arguments")
            check_model(_with_method(config, method))


def _acts_alone(name: str) -> bool:
    kind = ADAPTATIONS.load(name)
    return name != "source_only" and not (issubclass(kind, TrainingMethod) and kind.has_epochs)


def _acts_at_test_time(config: Config) -> bool:
    """Return whether the adaptation of a run is a test-time method, so that its detector is the source-only one."""
    return issubclass(ADAPTATIONS.load(config.adaptation.name), TestTimeMethod)


class _naming:  # noqa: N801 - a context manager
    """Prefix error messages of the block with the method."""

    def __init__(self, method: MethodChoice) -> None:
        self.method = method

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        if isinstance(error, InputError):
            raise InputError(f"--method {self.method}: {error}") from error
        return False


# ----------------------------------------------------------------------------------------------------- candidates


def _with_methods(
    variant: Variant | Literal["checkpoint"],
    made_by: str,
    detector: ActionDetector,
    methods: Iterable[MethodChoice],
    datasets: DomainDatasets,
    oracle: bool,
    console: Console | None,
) -> list[Candidate]:
    """Return a prepared copy of the detector for each method."""
    found = []
    for method in methods:
        own = copy.deepcopy(detector)
        config = _with_method(datasets.config, method)
        with _naming(method):
            made = build_training_method(config, own) or build_test_time_method(config, own)
            assert made is not None
            start = time.perf_counter()
            predictor = prepare_predictor(own, made, StageData(datasets), console=console)
        took = time.perf_counter() - start
        found.append(Candidate(variant, made_by, str(method), predictor, oracle, took))
    return found


def _with_method(config: Config, method: MethodChoice) -> Config:
    return replace(config, adaptation=AdaptationConfig(name=method.name, args=dict(method.args), epochs=0))


def _without_test_time(config: Config) -> Config:
    return replace(config, adaptation=replace(config.adaptation, test_time=None, test_time_args={}))
