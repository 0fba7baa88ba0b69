"""`fit --dry-run`: one batch of each domain and one step of each stage, and the estimated cost of the whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from microg_da.adaptation.base import TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import Config, TrainingConfig
from microg_da.data.datamodule import StageData
from microg_da.inference.trainer import make_trainer, one_process, resolve_device
from microg_da.models.cost import count_parameters
from microg_da.models.detector import ActionDetector
from microg_da.runs.detectors import build_test_time_method, build_training_method
from microg_da.runs.folder import Run
from microg_da.training.advice import advice
from microg_da.training.cost import RunCost, StageCost
from microg_da.training.experiment import Experiment, peak_memory_mib
from microg_da.training.few_clips import FewClips
from microg_da.training.preflight import check
from microg_da.training.stage import StagePlan, adaptation_training
from microg_da.training.timing import StageTimer
from microg_da.types import DOMAINS, SPLITS, Domain, Stage


def dry_run(config: Config, console: Console | None = None) -> RunCost:
    """Check a run, take one step of each stage and estimate the cost, without writing to the disk.

    Args:
        config: the run.
        console: the console for messages.

    Raises:
        InputError: for any error before or in the first step.
    """
    check(config)
    console = console or Console(quiet=True)
    for sentence in advice(config):
        console.print(f"[yellow]{sentence}[/yellow]", highlight=False, soft_wrap=True)
    return _DryRun(config, console).cost()


class _DryRun:
    """One dry run.

    Args:
        config: the run.
        console: the console for messages.
    """

    def __init__(self, config: Config, console: Console) -> None:
        self.config = config
        self.console = console
        self.processes = make_trainer(config.trainer).world_size
        here = replace(config, trainer=one_process(config.trainer)) if self.processes > 1 else config
        self.datasets = FewClips(here, self.processes)
        # A dry run writes no files, so the folder is not created.
        self.experiment = Experiment(Run(Path("dry-run"), self.datasets.config), self.datasets, console)
        self.device = resolve_device(here.trainer)
        self.timer = StageTimer(self.datasets, self.device)

    def cost(self) -> RunCost:
        """Estimate the cost of all stages of the run."""
        model = self.config.model
        detector = self.experiment.new_detector("source")
        parameters = count_parameters(detector), count_parameters(detector, trainable=True)
        stages = [self._source(detector)]
        if self.config.bounds:
            stages.append(self._bound(self.experiment.new_detector("target_supervised")))
        if self.config.adaptation.name != "source_only":
            stages.append(self._adaptation(self.experiment.new_detector("adapt")))
        return RunCost(
            *parameters,
            num_frames=model.num_frames,
            sampling_rate=model.sampling_rate,
            clips={f"{domain}/{split}": self.datasets.count(domain, split) for domain in DOMAINS for split in SPLITS},
            device=str(self.device),
            processes=self.processes,
            stages=tuple(stages),
            drawing_seconds=self.datasets.drawing_seconds(),
            held_mib=self.datasets.held_mib(),
        )

    # ------------------------------------------------------------------------------------------------------- stages

    def _source(self, detector: ActionDetector) -> StageCost:
        self._begin("source")
        if self.config.checkpoint is not None:
            return self._measured("source", Predictor(detector))
        plan = self._plain_plan("source", detector, "source", self.config.training)
        return self._trained(plan, Predictor(detector))

    def _bound(self, detector: ActionDetector) -> StageCost:
        self._begin("target_supervised")
        bound = self.config.target_supervised
        training = replace(self.config.training, epochs=bound.epochs or self.config.training.epochs)
        plan = self._plain_plan("target_supervised", detector, "target", training, bound.rotation)
        return self._trained(plan, Predictor(detector))

    def _adaptation(self, detector: ActionDetector) -> StageCost:
        self._begin("adapt")
        settings = self.config.adaptation
        method = build_training_method(self.config, detector, self.experiment.class_rates())
        test_time = build_test_time_method(self.config, detector, method)
        predictor = Predictor(detector, test_time)
        prepares = 0.0
        if test_time is not None and (method is None or method.companion is None):
            data = self.experiment.stage_data("source", "target", extra=True)
            prepares = self.timer.before_tests(test_time, detector, data)
        if method is None:
            return self._measured("adapt", predictor, once=prepares)
        training = adaptation_training(self.config, method)
        plan = self._plan("adapt", method, self.experiment.adaptation_data(method), training, settings.rotation)
        return self._trained(plan, predictor, prepares)

    def _plain_plan(
        self,
        name: Stage,
        detector: ActionDetector,
        labelled: Domain,
        training: TrainingConfig,
        rotation: float | None = None,
    ) -> StagePlan:
        """Return the plan of a stage that trains on labels alone."""
        data = self.experiment.stage_data(labelled=labelled)
        return self._plan(name, self.experiment.plain_method(detector), data, training, rotation)

    def _plan(
        self,
        name: Stage,
        method: TrainingMethod,
        data: StageData,
        training: TrainingConfig,
        rotation: float | None,
    ) -> StagePlan:
        return StagePlan(name, method, data, training, self.config.augment.with_rotation(rotation))

    def _begin(self, name: Stage) -> None:
        self.console.print(f"[dim]{name}: one step and one batch of each domain[/dim]", highlight=False)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    # ------------------------------------------------------------------------------------------------------ costs

    def _trained(self, plan: StagePlan, predictor: Predictor, once: float = 0.0) -> StageCost:
        """Return the cost of a stage that trains; ``once`` is the time in seconds that was already measured."""
        detector, method, epochs = predictor.detector, plan.method, plan.training.epochs
        once += self.timer.before_training(method, detector, plan.data)
        if not epochs:
            return self._measured(plan.name, predictor, once=once)
        step = self.timer.step(plan, detector)
        validation = self._validation(Predictor(detector, method.companion), plan.data)
        validation *= (epochs // min(plan.training.validate_every, epochs)) / epochs
        validation += self.timer.before_epochs(method, detector, plan.data, epochs)
        steps = self.datasets.steps_per_epoch(plan.data, plan.training)
        return self._measured(plan.name, predictor, step, steps, validation, epochs, once)

    def _measured(
        self,
        name: Stage,
        predictor: Predictor,
        step: float = 0.0,
        steps: int = 0,
        validation: float = 0.0,
        epochs: int = 0,
        once: float = 0.0,
    ) -> StageCost:
        """Return the cost of a stage, including its tests."""
        tests = sum(self._tests(predictor, domain) for domain in DOMAINS)
        return StageCost(name, step, steps, validation, epochs, once, tests, self._peak_mib())

    def _tests(self, predictor: Predictor, domain: Domain) -> float:
        """Return the seconds of the passes over a domain's test and validation splits after a stage."""
        clips = self.datasets.share(domain, "test") + self.datasets.share(domain, "val")
        return clips * self.timer.test_per_clip(predictor, domain)

    def _validation(self, predictor: Predictor, data: StageData) -> float:
        """Return the seconds of the validation after an epoch."""
        domains = DOMAINS if data.observe else tuple(domain for domain in DOMAINS if domain == data.validate_on)
        return sum(
            self.timer.test_per_clip(predictor, domain) * self.datasets.share(domain, "val") for domain in domains
        )

    def _peak_mib(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return peak_memory_mib()
