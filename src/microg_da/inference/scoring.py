"""Passes over clips: the scores of a detector on a test split, and those of label-free validators."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import nn

from microg_da.adaptation.predictor import Predictor
from microg_da.data.annotations import write_annotations
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.inference.feature_sample import PeopleSample
from microg_da.inference.sinks import ScoreSink, Sink
from microg_da.runs.folder import Run, is_leader
from microg_da.training.callbacks import pass_display
from microg_da.training.interruption import interruptible
from microg_da.training.stage import make_trainer, quiet
from microg_da.types import DOMAINS, ClipBatch, Domain, Split
from microg_da.validation import judge
from microg_da.validation.collapse import CollapseReport
from microg_da.validation.observations import Observations


def score_detector(
    run: Run,
    predictor: Predictor,
    datasets: DomainDatasets,
    domain: Domain,
    people: PeopleSample | None = None,
    console: Console | None = None,
) -> DetectionMetrics:
    """Score a detector on a domain's test split; ``people`` keeps features of some of its people.

    A bar on ``console`` shows how far it is.

    Returns:
        The accumulated predictions: ``.scores()`` and ``.detections()``.
    """
    config = run.config
    truth = datasets.get(domain, "test", labelled=False).annotations()
    if is_leader() and not run.ground_truth_file(domain).exists():
        write_annotations(truth, run.ground_truth_file(domain))
    metrics = DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
    sinks: list[Sink] = [ScoreSink(metrics, domain)]
    if people is not None:
        sinks.append(people)
    callbacks = pass_display(console, f"test on {domain}")
    run_pass(run, predictor, StageData(datasets), domain, "test", sinks, callbacks=callbacks)
    return metrics


def validate_detector(
    run: Run, predictor: Predictor, datasets: DomainDatasets, console: Console | None = None
) -> tuple[dict[str, float], CollapseReport]:
    """The scores of every label-free validator and of the collapse guard, on both domains' validation splits.

    Target labels are not read. Source labels are, for the validator that is made of them.
    """
    config, detector = run.config, predictor.detector
    truth = datasets.get("source", "val", labelled=False).annotations()
    metrics = DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
    observations = Observations(detector.num_classes, detector.feature_dim)
    data = StageData(datasets)
    for domain in DOMAINS:
        # One pass a domain, as in the test: a method that adapts online must not meet the domains mixed.
        callbacks = pass_display(console, f"val on {domain}")
        run_pass(run, predictor, data, domain, "val", [ScoreSink(metrics, "source"), observations], callbacks=callbacks)
    return judge(observations.observed(metrics.scores().map))


def run_pass(
    run: Run,
    predictor: Predictor,
    data: StageData,
    domain: Domain,
    split: Split,
    sinks: Sequence[Sink] = (),
    *,
    callbacks: list[Callback] | None = None,
    limit_batches: int | None = None,
) -> None:
    """Predict the clips of a split once, for the sinks; with ``limit_batches`` only some batches of them."""
    config = run.config
    if config.evaluation.fold_batch_norm:
        predictor = predictor.folded(config.model.num_frames, config.data.image_size)
    # Methods that adapt at test time ask for gradients, which inference mode would forbid.
    trainer = make_trainer(
        run, callbacks=callbacks, inference_mode=predictor.is_plain, limit_test_batches=limit_batches
    )
    # Several processes share the clips; a method that learns from them must meet all of them, in order.
    data.trainer = trainer if predictor.is_plain else None
    with quiet(), interruptible():
        trainer.test(InferenceModule(predictor, sinks), dataloaders=data.test_loader(domain, split), verbose=False)


class InferenceModule(pl.LightningModule):
    """One pass of a predictor over clips.

    Args:
        predictor: what predicts.
        sinks: what accumulates the predictions.
    """

    def __init__(self, predictor: Predictor, sinks: Sequence[Sink]) -> None:
        super().__init__()
        self.predictor = predictor
        self.sinks = sinks
        # Modules are registered so that they move to the trainer's device.
        parts = [predictor.detector, predictor.method, *sinks]
        self.parts = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))
        self._pass = ExitStack()

    def on_test_epoch_start(self) -> None:
        """Let the method prepare the detector."""
        self._pass.enter_context(self.predictor.testing())

    def test_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Hand a batch's predictions to every sink."""
        prediction = self.predictor(batch)
        for sink in self.sinks:
            sink.update(batch, prediction)

    def on_test_epoch_end(self) -> None:
        """Let the method restore the detector."""
        self._pass.close()
