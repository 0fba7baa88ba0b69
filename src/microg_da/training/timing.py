"""Measured times of the steps, the batches and the hooks of a stage, for a dry run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from microg_da.adaptation.base import Method, TestTimeMethod, TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.data.datamodule import StageData, UnaugmentedClips
from microg_da.inference.passes import as_configured, run_split_pass
from microg_da.inference.trainer import make_trainer, quiet
from microg_da.models.activation_checkpointing import checkpoint_stages
from microg_da.models.detector import ActionDetector
from microg_da.training.few_clips import FewClips
from microg_da.training.module import DetectorModule
from microg_da.training.stage import StagePlan
from microg_da.types import DOMAINS, ClipBatch, Domain

_STEPS = 2
"""Number of measured steps: the first allocates memory and selects kernels, the last is timed."""

_MOST_EPOCHS = 4
"""Number of epochs whose beginning is timed: methods may read clips in some epochs only."""


@dataclass(frozen=True)
class StageTimer:
    """Measure the time of the parts of stages on one device, in one process.

    Attributes:
        datasets: the clips of the run, of which few are drawn.
        device: where the parts run.
    """

    datasets: FewClips
    device: torch.device

    def step(self, plan: StagePlan, detector: ActionDetector) -> float:
        """Return the seconds of a training step, including the reading of its batches."""
        watch = _Stopwatch(self.device)
        self._make_steps(plan, detector, watch)
        with quiet():
            loaders = plan.data.train_dataloader().iterables
        return self._with_reading(watch.seconds[-1], loaders.values())[0]

    def test_per_clip(self, predictor: Predictor, domain: Domain) -> float:
        """Return the seconds to read a clip and to predict its people, as in a test."""
        watch = _Stopwatch(self.device)
        tested = as_configured(predictor, self.datasets.config)
        for _ in range(_STEPS):
            run_split_pass(tested, self.datasets, domain, "test", [], callbacks=[watch], limit_batches=1)
        tested.to("cpu")
        loader = StageData(self.datasets).test_loader(domain)
        seconds, clips = self._with_reading(watch.seconds[-1], [loader])
        return seconds / clips

    def before_training(self, method: TrainingMethod, detector: ActionDetector, data: StageData) -> float:
        """Return the seconds in which the method reads training clips before the training."""
        if type(method).before_training is TrainingMethod.before_training:
            return 0.0
        return self._hook(method, method.before_training, detector, data)

    def before_tests(self, method: TestTimeMethod, detector: ActionDetector, data: StageData) -> float:
        """Return the seconds in which the method reads training clips before the tests."""
        if type(method).prepare is TestTimeMethod.prepare:
            return 0.0
        return self._hook(method, method.prepare, detector, data)

    def before_epochs(self, method: TrainingMethod, detector: ActionDetector, data: StageData, epochs: int) -> float:
        """Return the average seconds in which the method reads target clips at the beginning of an epoch."""
        if data.unlabelled is None or type(method).before_epoch is TrainingMethod.before_epoch:
            return 0.0
        seconds, timed = 0.0, min(epochs, _MOST_EPOCHS)
        self._move(detector, method)
        for epoch in range(timed):
            clips = self._counted(data)
            start = _now(self.device)
            method.before_epoch(detector, clips["target"], epoch)
            seconds += self._extrapolated(_now(self.device) - start, clips, method, data)
        _move_back(detector, method)
        return seconds / timed

    # ------------------------------------------------------------------------------------------------------- pieces

    def _make_steps(self, plan: StagePlan, detector: ActionDetector, watch: pl.Callback) -> None:
        data = plan.data
        if plan.training.activation_checkpointing:
            checkpoint_stages(detector.backbone)
        target_clips = data.unaugmented_clips("target") if data.unlabelled is not None else ()
        module = DetectorModule(
            detector,
            plan.method,
            plan.training,
            plan.augment,
            seed=self.datasets.config.seed,
            stage=plan.name,
            target_clips=target_clips,
        )
        trainer = make_trainer(
            self.datasets.config.trainer,
            callbacks=[watch],
            gradient_clip_val=plan.training.clip_gradient_norm,
            max_epochs=_STEPS,
            limit_train_batches=1,
            limit_val_batches=0,
        )
        with quiet():
            trainer.fit(module, datamodule=data, weights_only=True)
        detector.cpu()
        plan.method.cpu()

    def _with_reading(self, work: float, loaders: Iterable[DataLoader[ClipBatch]]) -> tuple[float, int]:
        """Return the seconds of a batch, including the reading of its clips, and its number of clips."""
        clips, start = 0, time.perf_counter()
        for loader in loaders:
            assert loader.batch_sampler is not None
            assert loader.collate_fn is not None
            indices = next(iter(loader.batch_sampler))
            loader.collate_fn([loader.dataset[index] for index in indices])
            clips += len(indices)
        reading, workers = time.perf_counter() - start, self.datasets.config.data.num_workers
        # Loading processes read the next clips while the device works.
        return (max(work, reading / workers) if workers else work + reading), clips

    def _hook(self, method: Method, hook: Callable[..., None], detector: ActionDetector, data: StageData) -> float:
        clips = self._counted(data)
        self._move(detector, method)
        with method.rehearsing() as factor:
            start = _now(self.device)
            hook(detector, clips["source"], clips["target"])
            seconds = _now(self.device) - start
        _move_back(detector, method)
        return self._extrapolated(seconds, clips, method, data) if factor is None else seconds * factor

    def _counted(self, data: StageData) -> dict[Domain, _Counted]:
        return {domain: _Counted(data.unaugmented_clips(domain, self.device)) for domain in DOMAINS}

    def _extrapolated(self, seconds: float, clips: dict[Domain, _Counted], method: Method, data: StageData) -> float:
        """Estimate the time to read all clips of the method from the time for a few clips."""
        read = sum(each.count for each in clips.values())
        if not read:
            return seconds
        most = getattr(method.arguments, "max_clips", None) or math.inf
        wanted = 0.0
        for domain, each in clips.items():
            if each.count:
                here = len(data.unaugmented(domain))
                wanted += each.count / here * min(self.datasets.training_clips(data, domain), most)
        return seconds / read * wanted

    def _move(self, detector: ActionDetector, method: Method) -> None:
        detector.to(self.device).eval()
        method.to(self.device)


def _move_back(detector: ActionDetector, method: Method) -> None:
    detector.cpu().train()
    method.cpu()


class _Stopwatch(pl.Callback):
    """Record the seconds of each batch, without the wait for its data."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_batch_start(self, *_: object) -> None:
        self._begin()

    def on_train_batch_end(self, *_: object) -> None:
        self._end()

    def on_test_batch_start(self, *_: object) -> None:
        self._begin()

    def on_test_batch_end(self, *_: object) -> None:
        self._end()

    def _begin(self) -> None:
        self._start = _now(self.device)

    def _end(self) -> None:
        self.seconds.append(_now(self.device) - self._start)


class _Counted:
    """Iterable of clips that counts the clips it yields."""

    def __init__(self, clips: UnaugmentedClips) -> None:
        self.clips = clips
        self.count = 0

    def __iter__(self) -> Iterator[ClipBatch]:
        for batch in self.clips:
            self.count += len(batch)
            yield batch


def _now(device: torch.device) -> float:
    """Return the time after all GPU work is complete."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
