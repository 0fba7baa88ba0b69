"""One pass over clips, used by tests, validation, the response to camera roll and the prediction of videos.

A pass predicts batches one after another and hands each prediction to its sinks. Device and precision are those of the
configuration.
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
"""Changes a batch on the device, before it is predicted."""


def run_pass(
    predictor: Predictor,
    batches: Iterable[ClipBatch],
    sinks: Sequence[Sink],
    hardware: TrainerConfig,
    *,
    transform: Transform | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Predict batches in one process or in each of several.

    Args:
        predictor: what predicts; it is moved to the device and stays there.
        batches: read once, lazily and in order. An error raised while reading them ends the pass.
        sinks: what accumulates the predictions.
        hardware: device and precision.
        transform: changes each batch on the device.
        callbacks: e.g. a progress bar.

    Raises:
        InputError: if this machine cannot do what ``hardware`` asks for.
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
    """Predict every clip of a split once; of several processes each predicts a share.

    A test-time method that learns from the clips it predicts meets all of them, in order, in every process.

    Args:
        predictor: as :func:`as_configured` prepares it.
        datasets: the clips; their configuration says how many make a batch.
        domain: of which domain.
        split: which split.
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
    """The predictor as a configuration tests it: with ``evaluation.fold_batch_norm``, folded."""
    if not config.evaluation.fold_batch_norm:
        return predictor
    return predictor.folded(config.model.num_frames, config.data.image_size)


def _pass_trainer(
    predictor: Predictor, hardware: TrainerConfig, callbacks: Sequence[Callback], limit_batches: int | None = None
) -> pl.Trainer:
    # Test-time methods may ask for gradients, which inference mode forbids.
    return make_trainer(
        hardware, callbacks=callbacks, inference_mode=predictor.is_plain, limit_test_batches=limit_batches
    )


def _run(trainer: pl.Trainer, module: InferenceModule, batches: Iterable[ClipBatch]) -> None:
    try:
        with quiet(), interruptible():
            trainer.test(module, dataloaders=batches, verbose=False)
    finally:
        module.end_pass()
