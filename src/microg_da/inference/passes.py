"""Passes over clips for tests, validation, the roll response and the prediction of videos.

A pass predicts batches one by one and gives each prediction to its sinks. The configuration sets device and precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from microg_da.adaptation.predictor import Predictor
from microg_da.config import Config, TrainerConfig
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.inference.module import InferenceModule
from microg_da.inference.sinks import Sink
from microg_da.inference.trainer import interruptible, make_trainer, quiet
from microg_da.types import ClipBatch, Domain, Split

Transform = Callable[[ClipBatch], ClipBatch]
"""Changes a batch on the device before prediction."""


def run_pass(
    predictor: Predictor,
    batches: Iterable[ClipBatch],
    sinks: Sequence[Sink],
    hardware: TrainerConfig,
    *,
    transform: Transform | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Predict all batches, in one or several processes.

    Args:
        predictor: the detector and its test-time method. It is moved to the device and stays there.
        batches: the batches, which are read once, lazily and in order. An error while reading ends the pass.
        sinks: accumulate the predictions.
        hardware: device and precision.
        transform: changes each batch on the device.
        callbacks: Lightning callbacks, e.g. a progress bar.

    Raises:
        InputError: if this machine does not support the settings in ``hardware``.
    """
    trainer = _pass_trainer(predictor, hardware, callbacks)
    _run(trainer, InferenceModule(predictor, sinks, transform), batches)


def run_split_pass(
    predictor: Predictor,
    datasets: DomainDatasets,
    domain: Domain,
    split: Split,
    sinks: Sequence[Sink],
    *,
    hardware: TrainerConfig | None = None,
    transform: Transform | None = None,
    callbacks: Sequence[Callback] = (),
    limit_batches: int | None = None,
) -> None:
    """Predict every clip of a split once. Each of several processes predicts a share.

    With a test-time method that learns from tested clips, every process predicts all clips in order.

    Args:
        predictor: a predictor from :func:`as_configured`.
        datasets: the clips; their configuration sets the batch size.
        domain: the domain.
        split: the split.
        sinks: as in :func:`run_pass`.
        hardware: devices and precision; None for those of the configuration.
        transform: as in :func:`run_pass`.
        callbacks: as in :func:`run_pass`.
        limit_batches: predict only the first batches.
    """
    trainer = _pass_trainer(predictor, hardware or datasets.config.trainer, callbacks, limit_batches)
    data = StageData(datasets)
    data.trainer = trainer if predictor.is_plain else None
    _run(trainer, InferenceModule(predictor, sinks, transform), data.test_loader(domain, split))


def as_configured(predictor: Predictor, config: Config) -> Predictor:
    """Return the predictor for tests by a configuration, folded if ``evaluation.fold_batch_norm`` is set."""
    if not config.evaluation.fold_batch_norm:
        return predictor
    return predictor.folded(config.model.num_frames, config.data.image_size)


def _pass_trainer(
    predictor: Predictor, hardware: TrainerConfig, callbacks: Sequence[Callback], limit_batches: int | None = None
) -> pl.Trainer:
    # Test-time methods may need gradients, which inference mode disables.
    return make_trainer(
        hardware, callbacks=callbacks, inference_mode=predictor.is_plain, limit_test_batches=limit_batches
    )


def _run(trainer: pl.Trainer, module: InferenceModule, batches: Iterable[ClipBatch]) -> None:
    try:
        with quiet(), interruptible():
            trainer.test(module, dataloaders=batches, verbose=False)
    finally:
        module.end_pass()
