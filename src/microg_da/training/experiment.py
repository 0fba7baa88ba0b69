"""The steps of a run: train on source, test, adapt, test. A resumed run does the steps without a result file."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import Method, Supervised, TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import Config, TrainingConfig
from microg_da.data.annotations import write_annotations, write_detections
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.evaluation.protocols import Scores
from microg_da.files import replacing
from microg_da.inference.feature_maps import FeatureMaps
from microg_da.inference.feature_sample import FeatureSample
from microg_da.inference.preparation import show_training_clips
from microg_da.inference.rate_matching import match_class_rates
from microg_da.inference.scoring import score_detector, validate_detector
from microg_da.inference.trainer import resolve_device
from microg_da.inference.up_errors import up_errors
from microg_da.models.cost import count_parameters
from microg_da.models.detector import ActionDetector
from microg_da.processes import is_leader
from microg_da.runs.conclusion import conclude
from microg_da.runs.detectors import (
    build_detector,
    build_test_time_method,
    build_training_method,
    has_test_time_method,
    matches_rates,
    method_label,
    plain_training,
)
from microg_da.runs.folder import Run
from microg_da.runs.record import ModelFacts
from microg_da.runs.results import VariantResult
from microg_da.taxonomy import get_taxonomy
from microg_da.training.advice import advice
from microg_da.training.example_ups import write_example_ups
from microg_da.training.examples import write_examples
from microg_da.training.interruption import damage
from microg_da.training.stage import StagePlan, adaptation_training, save_detector, train_stage
from microg_da.training.stored_features import open_store
from microg_da.training.trackers import finish_logging
from microg_da.types import DOMAINS, Domain, Stage, Variant


class Experiment:
    """The steps of a run, each done once.

    Args:
        run: the run and its folder.
        datasets: the data of both domains.
        console: the console for messages.
    """

    def __init__(self, run: Run, datasets: DomainDatasets, console: Console) -> None:
        self.run = run
        self.config = run.config
        self.datasets = datasets
        self.console = console
        self.maps: FeatureMaps | None = None

    def complete(self) -> None:
        """Do every step whose result is not in the folder yet."""
        facts = self.datasets.facts()
        self.run.update(lambda record: replace(record, status="running", **facts))
        for warning in facts["warnings"]:
            self._say(f"[yellow]note[/yellow] {warning}")
        for sentence in advice(self.config):
            self._warn(sentence)
        if self.config.data.feature_store is not None:
            self.maps = open_store(self.config, self._initial_detector(), self.datasets, self.console)
        source, seconds = self._stage("source", self._train_source)
        detector = source.detector
        model = self._describe(detector)
        self.run.update(lambda record: replace(record, model=model))
        self._warn_of_weights(detector)
        self._test("source_only", "source_only", source, seconds)
        if self.config.bounds:
            # The bound is trained before the adaptation, and the adaptation does not use it.
            bound, seconds = self._stage("target_supervised", lambda: self._train_bound(detector))
            self._test("target_supervised", "target_supervised", bound, seconds)
            self.datasets.release("target", "train")
        adapted = None
        if self.config.adaptation.name != "source_only":
            adapted, seconds = self._stage("adapt", lambda: self._adapt(detector))
            self._test("adapted", method_label(self.config), adapted, seconds)
        if is_leader():
            write_examples(self.run, self.datasets)
            if adapted is not None:
                write_example_ups(self.run, self.datasets, adapted)
        self._list_skipped()
        self._warn_of_collapse()
        conclude(self.run)
        finish_logging(self.run)
        peak = round(peak_memory_mib())
        self.run.update(lambda record: replace(record, status="finished", peak_memory_mib=peak))

    # ----------------------------------------------------------------------------------------------------- stages

    def _stage(self, stage: Stage, train: Callable[[], tuple[Predictor, float]]) -> tuple[Predictor, float]:
        """Return the finished detector of a stage and its seconds, trained now or read from its file."""
        file = self.run.detector_file(stage)
        if self._is_done(stage):
            self.console.print(f"[dim]{stage}: already complete, read from {file}[/dim]")
            return self._read_back(stage), float(self.run.stage_seconds(stage))
        pl.seed_everything(self.config.seed, workers=True, verbose=False)
        predictor, seconds = train()
        save_detector(self.run, stage, predictor, seconds)
        return predictor, seconds

    def _read_back(self, stage: Stage) -> Predictor:
        detector = self.new_detector(stage)
        detector.load_state_dict(_read_state(self.run.detector_file(stage))["state_dict"])
        method = build_test_time_method(self.config, detector) if stage == "adapt" else None
        if method is not None:
            method.load_state_dict(_read_state(self.run.method_file(stage)))
        return Predictor(detector, method)

    def _is_done(self, stage: Stage) -> bool:
        """Return whether the files of a stage exist and are intact. Damaged files are rebuilt from a checkpoint."""
        files = [self.run.detector_file(stage)]
        if stage == "adapt" and has_test_time_method(self.config):
            files.append(self.run.method_file(stage))
        for file in files:
            problem = damage(file) if file.exists() else "missing"
            if problem is not None:
                if file.exists():
                    self._say(f"[yellow]note[/yellow] {file} is damaged ({problem}) and is rebuilt from its checkpoint")
                return False
        return True

    def _initial_detector(self) -> ActionDetector:
        """Return the detector whose encoder all stages share."""
        if self._is_done("source"):
            return self._read_back("source").detector
        detector = self.new_detector("source")
        if self.config.checkpoint is not None:
            _load_source_model(detector, self.config)
        return detector

    def _train_source(self) -> tuple[Predictor, float]:
        detector = self.new_detector("source")
        if self.config.checkpoint is not None:
            self._say(f"source model from {self.config.checkpoint}")
            _load_source_model(detector, self.config)
            return Predictor(detector), 0.0
        self._say("train on source")
        data = self.stage_data(labelled="source", unlabelled=None)
        seconds = self._train("source", detector, self.plain_method(detector), data, self.config.training)
        return Predictor(detector), seconds

    def _train_bound(self, source_model: ActionDetector) -> tuple[Predictor, float]:
        self._say("train the target-supervised bound (uses target labels)")
        detector = self.new_detector("target_supervised")
        settings = self.config.target_supervised
        if settings.start == "source":
            detector.load_state_dict(source_model.state_dict())
        data = self.stage_data(labelled="target", unlabelled=None)
        training = replace(self.config.training, epochs=settings.epochs or self.config.training.epochs)
        stage: Stage = "target_supervised"
        plain = self.plain_method(detector)
        return Predictor(detector), self._train(stage, detector, plain, data, training, settings.rotation)

    def _adapt(self, source_model: ActionDetector) -> tuple[Predictor, float]:
        settings = self.config.adaptation
        self._say(f"adapt to unlabelled target clips: {method_label(self.config)}")
        detector = self.new_detector("adapt")
        detector.load_state_dict(source_model.state_dict())
        training = build_training_method(self.config, detector, self.class_rates())
        seconds = 0.0
        if training is not None:
            data = self.adaptation_data(training)
            seconds += self._show_clips(detector, training, training.before_training, data)
            if settings.epochs and training.has_epochs:
                stage = adaptation_training(self.config, training)
                seconds += self._train("adapt", detector, training, data, stage, settings.rotation)
            else:
                training.after_training(detector)
        test_time = build_test_time_method(self.config, detector, training)
        if test_time is not None and (training is None or test_time is not training.companion):
            data = self.stage_data("source", unlabelled="target", extra=True)
            seconds += self._show_clips(detector, test_time, test_time.prepare, data)
        predictor = Predictor(detector, test_time)
        if matches_rates(self.config):
            data = self.stage_data("source", unlabelled="target")
            seconds += match_class_rates(predictor, data, self.datasets.class_rates, console=self.console)
        return predictor, seconds

    def _show_clips(
        self, detector: ActionDetector, method: Method, hook: Callable[..., None], data: StageData
    ) -> float:
        """See :func:`~microg_da.inference.preparation.show_training_clips`."""
        seconds = show_training_clips(detector, method, hook, data, console=self.console)
        detector.train()
        return seconds

    def _train(
        self,
        stage: Stage,
        detector: ActionDetector,
        method: TrainingMethod,
        data: StageData,
        training: TrainingConfig,
        rotation: float | None = None,
    ) -> float:
        if self.maps is not None:
            self.maps.check(detector)
        augment = self.config.augment.with_rotation(rotation)
        return train_stage(self.run, StagePlan(stage, method, data, training, augment), detector, self.console)

    # ------------------------------------------------------------------------------------------------------- test

    def _test(self, variant: Variant, method: str, predictor: Predictor, seconds: float) -> None:
        """Score one detector on both test splits and write its detections."""
        if self.run.results.get(variant) is not None:
            return
        if self.maps is not None:
            self.maps.check(predictor.detector)
        scores: dict[Domain, Scores] = {}
        for domain in DOMAINS:
            scores[domain] = self._test_on(domain, variant, predictor)
            self._say(f"  {variant} on {domain} test: mAP {_percent(scores[domain].map)}", indent=True)
        before = self._source_map_before() if variant == "adapted" else None
        validators, report = validate_detector(predictor, self.datasets, self.console, before)
        device = resolve_device(self.config.trainer)
        self.run.add_result(
            VariantResult(
                variant=variant,
                method=method,
                seconds=round(seconds, 2),
                source=scores["source"],
                target=scores["target"],
                validators=validators,
                collapse=report.with_class_ids(get_taxonomy(self.config.data.taxonomy).ids),
                up=up_errors(predictor, self.datasets, device),
            )
        )

    def _source_map_before(self) -> float | None:
        """Return the source model's mAP on the source validation split."""
        source = self.run.results.get("source_only")
        return None if source is None else source.validators.get("source_map")

    def _test_on(self, domain: Domain, variant: Variant, predictor: Predictor) -> Scores:
        """Score one detector on one test split; write ground truth, detections and a sample of its features."""
        truth = self.datasets.get(domain, "test", labelled=False).annotations()
        if is_leader() and not self.run.ground_truth_file(domain).exists():
            write_annotations(truth, self.run.ground_truth_file(domain))
        features = FeatureSample(truth, predictor.detector.feature_dim)
        metrics = score_detector(predictor, self.datasets, domain, features=features, console=self.console)
        detections = metrics.detections()
        if is_leader():
            write_detections(detections, self.run.detections_file(variant, domain))
        features.write(self.run.features_file(variant, domain))
        return metrics.scores()

    # ----------------------------------------------------------------------------------------------------- pieces

    def new_detector(self, stage: Stage) -> ActionDetector:
        """Return the detector that a stage starts from."""
        # All stages use one seed, so the bound starts from the same weights as the source model.
        pl.seed_everything(self.config.seed, workers=True, verbose=False)
        return build_detector(self.config, self.config.model.checkpoint if stage != "adapt" else None)

    def _describe(self, detector: ActionDetector) -> ModelFacts:
        model = self.config.model
        return ModelFacts(
            name=model.name,
            parameters=count_parameters(detector),
            trainable_parameters=count_parameters(detector, trainable=True),
            num_frames=model.num_frames,
            sampling_rate=model.sampling_rate,
        )

    def _list_skipped(self) -> None:
        skipped = self.datasets.skipped()
        if len(skipped) and is_leader():
            with replacing(self.run.skipped_csv) as temporary:
                skipped.to_csv(temporary, index=False)
            self._warn(f"{len(skipped)} clips could not be read and were skipped; skipped.csv lists them")

    def _warn_of_weights(self, detector: ActionDetector) -> None:
        """Warn about unused weights of the initial weight file, and about parameters that are not in the file."""
        from microg_da.models.checkpoints import compare
        from microg_da.models.packages import packaged

        path = self.config.checkpoint or self.config.model.checkpoint
        # The file may have been removed before the run is resumed.
        if path is not None and (packaged(path) or Path(path).exists()):
            skip = () if self.config.checkpoint else self.config.model.skip_weights
            _, report = compare(detector, path, skip)
            for remark in (*report.problems(), *report.notes, *report.warnings):
                self._warn(f"weights of {path}: {remark}")

    def _warn_of_collapse(self) -> None:
        adapted = self.run.results.adapted
        if adapted is None or adapted.collapse is None:
            return
        if adapted.collapse.collapsed:
            self._warn(f"the adapted detector has collapsed: {adapted.collapse.reason}")
        elif adapted.collapse.verdict == "source_forgotten":
            self._warn(f"the adapted detector has forgotten the source: {adapted.collapse.reason}")
        elif adapted.collapse.verdict == "too_few_people":
            self._warn(f"too few people to detect a collapse of the adapted detector: {adapted.collapse.reason}")

    def _warn(self, warning: str) -> None:
        self.run.update(lambda record: replace(record, warnings=(*record.warnings, warning)))
        self._say(f"[yellow]{warning}[/yellow]")

    def plain_method(self, detector: ActionDetector) -> Supervised:
        """Return the method of stages that train on labels alone."""
        return plain_training(self.config, detector)

    def class_rates(self) -> tuple[float, ...] | None:
        """Return class rates of the source labels for methods that may use source data, else None."""
        method = ADAPTATIONS.load(self.config.adaptation.name)
        reads_source = issubclass(method, TrainingMethod) and method.uses_source
        return self.datasets.class_rates if reads_source else None

    def adaptation_data(self, method: TrainingMethod) -> StageData:
        """Return the clips that the adaptation stage of a method reads."""
        labelled: Domain | None = "source" if method.uses_source else None
        if method.uses_target_labels:
            return self.stage_data(labelled, also_labelled="target", observe=True, extra=True)
        return self.stage_data(labelled, unlabelled="target", observe=True, extra=True)

    def stage_data(self, labelled: Domain | None, unlabelled: Domain | None = None, **options: Any) -> StageData:
        """Return the data that a stage reads; ``options`` go to :class:`~microg_da.data.datamodule.StageData`."""
        config = self.config
        # Selection uses target labels only if the user asks for an oracle, and in the target-supervised bound.
        validate_on: Domain = "target" if config.selection == "oracle" or labelled == "target" else "source"
        return StageData(
            self.datasets,
            labelled=labelled,
            unlabelled=unlabelled,
            validate_on=validate_on,
            batch_size=config.training.batch_size,
            seed=config.seed,
            **options,
        )

    def _say(self, text: str, *, indent: bool = False) -> None:
        self.console.print(text if indent else f"[bold]•[/bold] {text}", highlight=False)


def peak_memory_mib() -> float:
    """Return the peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def _load_source_model(detector: ActionDetector, config: Config) -> None:
    from microg_da.models.checkpoints import load_checkpoint

    assert config.checkpoint is not None
    load_checkpoint(detector, config.checkpoint, config.model.allow_missing)


def _read_state(file: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
