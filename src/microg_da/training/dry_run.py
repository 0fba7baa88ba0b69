"""`fit --dry-run`: one batch of each domain and one step of each stage, and what the whole run would cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from microg_da.adaptation.base import Method, TestTimeMethod, TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import AugmentConfig, Config, TrainingConfig
from microg_da.data.datamodule import ClipsToLookAt, StageData
from microg_da.inference.scoring import run_pass
from microg_da.models.activation_checkpointing import checkpoint_stages
from microg_da.models.cost import count_parameters
from microg_da.models.detector import ActionDetector
from microg_da.runs.detectors import build_test_time_method, build_training_method
from microg_da.runs.folder import Run
from microg_da.synthetic.cache import cache_file
from microg_da.synthetic.source import SyntheticOptions
from microg_da.synthetic.spec import SyntheticSpec
from microg_da.training.cost import RunCost, StageCost
from microg_da.training.experiment import Experiment, peak_memory_mib
from microg_da.training.few_clips import FewClips
from microg_da.training.module import DetectorModule
from microg_da.training.preflight import check
from microg_da.training.stage import make_trainer, quiet
from microg_da.types import DOMAINS, ClipBatch, Domain, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")

_STEPS = 2
"""Steps that a stage makes: the first allocates memory and chooses kernels, the last is timed."""


def dry_run(config: Config, console: Console | None = None) -> RunCost:
    """Check a run, make one step of each of its stages and estimate what it costs; nothing is written to the disk.

    Args:
        config: the run.
        console: where to say what happens.

    Raises:
        InputError: for anything that would stop the run before or in its first step.
    """
    check(config)
    return _DryRun(config, console or Console(quiet=True)).cost()


class _Stopwatch(pl.Callback):
    """The seconds of each batch: its work, without the wait for its data."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._begin()

    def on_train_batch_end(self, *_: Any) -> None:
        self._end()

    def on_test_batch_start(self, *_: Any) -> None:
        self._begin()

    def on_test_batch_end(self, *_: Any) -> None:
        self._end()

    def _begin(self) -> None:
        self._start = _now()

    def _end(self) -> None:
        self.seconds.append(_now() - self._start)


class _Counted:
    """Clips to look at, counted as they are handed out."""

    def __init__(self, clips: ClipsToLookAt) -> None:
        self.clips = clips
        self.count = 0

    def __iter__(self) -> Iterator[ClipBatch]:
        for batch in self.clips:
            self.count += len(batch)
            yield batch


@dataclass
class _DryRun:
    """One dry run.

    Args:
        config: the run.
        console: where to say what happens.
    """

    config: Config
    console: Console
    stages: list[StageCost] = field(default_factory=list)

    def __post_init__(self) -> None:
        trainer = make_trainer(Run(Path(), self.config))
        self.processes = trainer.world_size
        alone = replace(self.config.trainer, devices=1, num_nodes=1, strategy="auto") if self.processes > 1 else None
        config = self.config if alone is None else replace(self.config, trainer=alone)
        self.datasets = FewClips(config)
        # A folder that is never made: nothing that is called here writes.
        self.run = Run(Path("dry-run"), self.datasets.config)
        self.experiment = Experiment(self.run, self.datasets, self.console)
        self.device = make_trainer(self.run).strategy.root_device

    def cost(self) -> RunCost:
        """Go through the stages of the run."""
        config = self.config
        detector = self.experiment.new_detector("source")
        parameters = count_parameters(detector), count_parameters(detector, trainable=True)
        if config.checkpoint is None:
            self._plain_stage("source", detector, "source", config.training)
        else:
            self._plain_stage("source", detector, None, replace(config.training, epochs=0))
        if config.bounds:
            bound = config.target_supervised
            training = replace(config.training, epochs=bound.epochs or config.training.epochs)
            detector = self.experiment.new_detector("target_supervised")
            self._plain_stage("target_supervised", detector, "target", training, bound.rotation)
        if config.adaptation.name != "source_only":
            self._adaptation(self.experiment.new_detector("adapt"))
        return RunCost(
            *parameters,
            num_frames=config.model.num_frames,
            sampling_rate=config.model.sampling_rate,
            clips={f"{domain}/{split}": self.datasets.count(domain, split) for domain in DOMAINS for split in SPLITS},
            device=str(self.device),
            processes=self.processes,
            stages=tuple(self.stages),
            drawing_seconds=self._drawing_seconds(),
            held_mib=self._held_mib(),
        )

    def _plain_stage(
        self,
        name: str,
        detector: ActionDetector,
        labelled: Domain | None,
        training: TrainingConfig,
        rotation: float | None = None,
    ) -> None:
        """A stage that trains on labels alone; without a domain it trains on nothing."""
        plain = self.experiment.plain_method(detector)
        data = self.experiment.stage_data(labelled=labelled) if labelled is not None else None
        self._stage(name, Predictor(detector), plain, data, training, rotation)

    def _adaptation(self, detector: ActionDetector) -> None:
        settings = self.config.adaptation
        method = build_training_method(self.config, detector, self.experiment.class_rates())
        test_time = build_test_time_method(self.config, detector, method)
        epochs = settings.epochs if method is not None and method.has_epochs else 0
        data = self.experiment.stage_data("source", "target")
        if method is not None:
            data = self.experiment.adaptation_data(method)
        training = replace(self.config.training, epochs=epochs, lr=settings.lr, cycles=settings.cycles)
        self._stage("adapt", Predictor(detector, test_time), method, data, training, settings.rotation)

    def _stage(
        self,
        name: str,
        predictor: Predictor,
        method: TrainingMethod | None,
        data: StageData | None,
        training: TrainingConfig,
        rotation: float | None = None,
    ) -> None:
        """Look at clips, make steps and predict one batch of each domain, each timed."""
        self.console.print(f"[dim]{name}: one step and one batch of each domain[/dim]", highlight=False)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        once = step = validation = 0.0
        steps = 0
        detector = predictor.detector
        if data is not None and method is not None:
            once = self._look_before_training(detector, method, data)
            if training.epochs:
                augment = self.config.augment.with_rotation(rotation)
                step = self._step(name, detector, method, data, training, augment)
                steps = self._steps_per_epoch(data, training)
                validation = self._validation(Predictor(detector, method.companion), data)
                validation += self._relabel(detector, method, data, training.epochs)
        if data is not None and predictor.method is not None and (method is None or method.companion is None):
            once += self._prepare(detector, predictor.method, data)
        tests = 0.0
        for domain in DOMAINS:
            clips = self._share(domain, "test") + self._share(domain, "val")
            tests += clips * self._seconds_per_clip(predictor, domain)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else peak_memory_mib()
        self.stages.append(StageCost(name, step, steps, validation, training.epochs, once, tests, peak))

    # ---------------------------------------------------------------------------------------------------- timing

    def _step(
        self,
        name: str,
        detector: ActionDetector,
        method: TrainingMethod,
        data: StageData,
        training: TrainingConfig,
        augment: AugmentConfig,
    ) -> float:
        """Seconds of a step with the batches that it reads."""
        if training.activation_checkpointing:
            checkpoint_stages(detector.backbone)
        target_clips = data.clips_to_look_at("target") if data.unlabelled is not None else ()
        module = DetectorModule(
            detector, method, training, augment, seed=self.config.seed, stage=name, target_clips=target_clips
        )
        watch = _Stopwatch()
        few = {"max_epochs": _STEPS, "limit_train_batches": 1, "limit_val_batches": 0}
        trainer = make_trainer(self.run, callbacks=[watch], gradient_clip_val=training.clip_gradient_norm, **few)
        with quiet():
            trainer.fit(module, datamodule=data)
        detector.cpu()
        method.cpu()
        with quiet():
            loaders = data.train_dataloader().iterables
        return self._with_reading(watch.seconds[-1], *loaders.values())[0]

    def _with_reading(self, work: float, *loaders: DataLoader[ClipBatch]) -> tuple[float, int]:
        """Seconds of a batch with the reading of its clips, and how many clips it has."""
        clips, start = 0, time.perf_counter()
        for loader in loaders:
            assert loader.batch_sampler is not None
            assert loader.collate_fn is not None
            indices = next(iter(loader.batch_sampler))
            loader.collate_fn([loader.dataset[index] for index in indices])
            clips += len(indices)
        reading, workers = time.perf_counter() - start, self.config.data.num_workers
        # Processes that load data do so while the device works.
        return (max(work, reading / workers) if workers else work + reading), clips

    def _steps_per_epoch(self, data: StageData, training: TrainingConfig) -> int:
        """A pass over the larger domain; a batch that is not full is left out."""
        domains = {domain for domain in (data.labelled, data.unlabelled, data.also_labelled) if domain is not None}
        shares = [math.ceil(self.datasets.count(domain, "train") / self.processes) for domain in domains]
        return max(max(share // training.batch_size, 1) for share in shares)

    def _validation(self, predictor: Predictor, data: StageData) -> float:
        """Seconds of the validation after an epoch."""
        domains = DOMAINS if data.observe else tuple(domain for domain in DOMAINS if domain == data.validate_on)
        return sum(self._seconds_per_clip(predictor, domain) * self._share(domain, "val") for domain in domains)

    def _seconds_per_clip(self, predictor: Predictor, domain: Domain) -> float:
        """Seconds to read a clip and to predict its people, as in a test."""
        data = StageData(self.datasets)
        watch = _Stopwatch()
        for _ in range(_STEPS):
            run_pass(self.run, predictor, data, domain, "test", callbacks=[watch], limit_batches=1)
        predictor.to("cpu")
        seconds, clips = self._with_reading(watch.seconds[-1], data.test_loader(domain))
        return seconds / clips

    def _look_before_training(self, detector: ActionDetector, method: TrainingMethod, data: StageData) -> float:
        """Seconds that the method looks at training clips before the training."""
        if type(method).before_training is TrainingMethod.before_training:
            return 0.0
        return self._look(detector, method, method.before_training, data)

    def _prepare(self, detector: ActionDetector, method: TestTimeMethod, data: StageData) -> float:
        """Seconds that the method looks at training clips before the tests."""
        if type(method).prepare is TestTimeMethod.prepare:
            return 0.0
        return self._look(detector, method, method.prepare, data)

    def _look(self, detector: ActionDetector, method: Method, look: Callable[..., None], data: StageData) -> float:
        clips = self._clips_to_look_at(data)
        detector.to(self.device).eval()
        method.to(self.device)
        with method.rehearsing() as factor:
            start = _now()
            look(detector, clips["source"], clips["target"])
            seconds = _now() - start
        detector.cpu().train()
        method.cpu()
        return self._extrapolated(seconds, clips, method) if factor is None else seconds * factor

    def _relabel(self, detector: ActionDetector, method: TrainingMethod, data: StageData, epochs: int) -> float:
        """Seconds that the method looks at target clips at the beginning of an epoch, on average."""
        if data.unlabelled is None or type(method).before_epoch is TrainingMethod.before_epoch:
            return 0.0
        seconds, looked = 0.0, min(epochs, 4)
        detector.to(self.device).eval()
        method.to(self.device)
        for epoch in range(looked):
            clips = self._clips_to_look_at(data)
            start = _now()
            method.before_epoch(detector, clips["target"], epoch)
            seconds += self._extrapolated(_now() - start, clips, method)
        detector.cpu().train()
        method.cpu()
        return seconds / looked

    # ---------------------------------------------------------------------------------------------------- counts

    def _clips_to_look_at(self, data: StageData) -> dict[Domain, _Counted]:
        return {domain: _Counted(data.clips_to_look_at(domain, self.device)) for domain in DOMAINS}

    def _extrapolated(self, seconds: float, clips: dict[Domain, _Counted], method: Method) -> float:
        """What looking at some clips would take for all clips that the method looks at."""
        seen = sum(each.count for each in clips.values())
        if not seen:
            return seconds
        most = getattr(method.arguments, "max_clips", None) or math.inf
        wanted = 0.0
        for domain, each in clips.items():
            if each.count:
                here = len(self.datasets.get(domain, "train", labelled=domain == "source"))
                wanted += each.count / here * min(self.datasets.count(domain, "train"), most)
        return seconds / seen * wanted

    def _share(self, domain: Domain, split: Split) -> int:
        """The clips of a split that one process predicts."""
        return math.ceil(self.datasets.count(domain, split) / self.processes)

    def _drawn(self) -> Iterator[tuple[SyntheticSpec, SyntheticOptions]]:
        """The splits that the run draws."""
        for domain in DOMAINS:
            for split in SPLITS:
                if (planned := self.datasets.spec(domain, split)) is not None:
                    yield planned

    def _drawing_seconds(self) -> float:
        """Drawing what is not in the cache yet, by as many processes as the run has."""
        if not self.datasets.drawing:
            return 0.0
        # The first drawing also imports libraries and fills tables.
        per_clip = min(seconds / clips for seconds, clips in self.datasets.drawing)
        return sum(
            spec.num_clips * per_clip / max(min(options.workers, os.cpu_count() or 1), 1)
            for spec, options in self._drawn()
            if not (options.cache and cache_file(spec).exists())
        )

    def _held_mib(self) -> float:
        return sum(spec.num_clips * 3 * spec.num_frames * spec.size**2 for spec, _ in self._drawn()) / 2**20


def _now() -> float:
    """The time, once the GPU has done what it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
