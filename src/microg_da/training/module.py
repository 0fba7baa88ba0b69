"""The Lightning module that trains, validates and tests a detector with any model and any method."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from microg_da.adaptation.base import Losses, NoArguments, Supervised, Task, TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import AugmentConfig, TrainingConfig
from microg_da.data.clip_module import ClipDataModule
from microg_da.data.datamodule import UnaugmentedClips
from microg_da.errors import InputError
from microg_da.inference.display import BatchBar
from microg_da.inference.module import PassModule
from microg_da.inference.scoring import split_metrics
from microg_da.inference.sinks import MixingSink, ScoreSink, Sink
from microg_da.models.detector import ActionDetector
from microg_da.training.optimizer import build_optimizer, scaled_to_batch
from microg_da.training.schedules import learning_rate
from microg_da.transforms.augmentation import augment_training_batch
from microg_da.types import ClipBatch, LabelledClipBatch, Split, Stage
from microg_da.validation import validate
from microg_da.validation.observations import Observations


class DetectorModule(PassModule):
    """Lightning module of one training stage: it trains, validates and tests a detector, and predicts with it.

    The module works with any Lightning trainer. ``validate`` logs the metrics of ``scores`` as ``val/map`` and so on,
    and those of label-free validators as ``validator/NAME``. ``test`` logs ``test/map`` and so on and keeps the
    predictions in ``scores``. ``predict`` returns a :class:`~microg_da.types.Prediction` for each batch.

    With a :class:`~microg_da.data.clip_module.ClipDataModule`, the data module selects the domain that is scored, and
    the method reads training clips before training as in :func:`microg_da.fit`. Other data needs ``scores``; methods
    that read clips before training also need ``target_clips`` and a call of their ``before_training``.

    Example:
        >>> import pytorch_lightning as pl
        >>> from microg_da import ClipDataModule, DetectorModule, create_detector, load_config
        >>> config = load_config("ava2microg", [
        ...     "data.image_size=48", "training.batch_size=4", "synthetic.train_clips=8", "synthetic.val_clips=4",
        ...     "synthetic.test_clips=4", "synthetic.workers=0",
        ... ])
        >>> data = ClipDataModule(config, unlabelled=None)
        >>> module = DetectorModule(create_detector("r2plus1d_micro"), augment=config.augment)
        >>> trainer = pl.Trainer(
        ...     max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.fit(module, datamodule=data)
        >>> (scores,) = trainer.test(module, datamodule=data, verbose=False)
        >>> 0 <= scores["test/map"] <= 1
        True
        >>> [prediction] = trainer.predict(module, datamodule=data)
        >>> prediction.logits.shape[1]
        50

    Args:
        detector: the network.
        method: computes losses from batches, e.g. from :func:`microg_da.create_adaptation`; None for training on labels
            alone.
        training: length, optimiser and schedule; None for the defaults.
        augment: train-time augmentation; None for the defaults.
        seed: seed of all random values in the stage.
        stage: name of the stage; it is part of the seed.
        scores: accumulates predictions of one domain and scores them against the annotation table.
        observations: accumulates predictions of both domains for label-free validators.
        mixing: mixes target people for the validator ``mixval``.
        validators: names of the validators that score the observations; None for all.
        target_clips: all target training clips, for methods that read them every epoch.
    """

    def __init__(
        self,
        detector: ActionDetector,
        method: TrainingMethod | None = None,
        training: TrainingConfig | None = None,
        augment: AugmentConfig | None = None,
        *,
        seed: int = 0,
        stage: Stage = "source",
        scores: ScoreSink | None = None,
        observations: Observations | None = None,
        mixing: MixingSink | None = None,
        validators: Sequence[str] | None = None,
        target_clips: Iterable[ClipBatch] = (),
    ) -> None:
        super().__init__()
        self.detector = detector
        self.method = method or _plain(detector)
        self.training_config = training or TrainingConfig()
        self.augment = augment or AugmentConfig()
        self.seed = seed
        self.stage = stage
        self.scores = scores
        self.observations = observations
        self.mixing = mixing
        self.validators = validators
        self.target_clips = target_clips
        self._scores_are_given = scores is not None

    # ------------------------------------------------------------------------------------- scores from a data module

    def setup(self, stage: str) -> None:
        """Run the method's ``before_training`` on the training clips of a ``ClipDataModule``, on the device."""
        data = self._clip_data()
        if stage != "fit" or data is None:
            return
        device = self.trainer.strategy.root_device
        self.to(device)
        source, self.target_clips = data.training_clips(device)
        self.detector.eval()
        self.method.before_training(self.detector, source, self.target_clips)
        self.detector.train()

    def on_train_end(self) -> None:
        """Run the method's ``after_training`` with a ``ClipDataModule``; runs do this after they choose an epoch."""
        if self._clip_data() is not None:
            self.method.after_training(self.detector)

    def on_validation_epoch_start(self) -> None:
        """Begin a pass with empty scores."""
        self._take_scores("val")
        super().on_validation_epoch_start()

    def on_test_epoch_start(self) -> None:
        """Begin a pass with empty scores."""
        self._take_scores("test")
        super().on_test_epoch_start()

    def _clip_data(self) -> ClipDataModule | None:
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, ClipDataModule) else None

    def _take_scores(self, split: Split) -> None:
        """Score a split against the annotations of a ``ClipDataModule``, unless ``scores`` is given."""
        data = self._clip_data()
        if data is not None and not self._scores_are_given:
            domain = data.scored_domain(split)
            self.scores = ScoreSink(split_metrics(data.datasets, domain, split), domain).to(self.device)

    # ------------------------------------------------------------------------------------------------ training

    def on_train_epoch_start(self) -> None:
        """Seed the epoch, so that a resumed run draws the same random values as an uninterrupted run."""
        torch.manual_seed(zlib.crc32(f"{self.seed}/{self.stage}/{self.current_epoch}/{self.global_rank}".encode()))
        self.detector.eval()
        target = (batch.to(self.device) for batch in self._clips_with_bar())
        self.method.before_epoch(self.detector, target, self.current_epoch)
        self.detector.train()

    def training_step(self, batch: dict[str, ClipBatch], batch_idx: int) -> Tensor:
        """Compute the loss of a labelled batch and, if the method uses it, an unlabelled batch.

        Raises:
            RuntimeError: if the batch has target labels and the method is not an oracle, or source labels are missing.
        """
        source, target = batch.get("source"), batch.get("target")
        if isinstance(target, LabelledClipBatch) and not self.method.uses_target_labels:
            raise RuntimeError("a training batch has target labels; this is a bug in microg_da")
        if source is not None and not isinstance(source, LabelledClipBatch):
            raise RuntimeError("a training batch has no source labels; this is a bug in microg_da")
        labelled = None if source is None else augment_training_batch(source, self.augment)
        unlabelled = None
        if target is not None:
            unlabelled = augment_training_batch(target, self.augment, self.method.turns(target))
        losses = self.method.step_losses(self.detector, labelled, unlabelled, self.progress)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise InputError(_not_finite(losses, source, target, self.current_epoch, batch_idx))
        self._log_losses(total, losses, len(source or target or ()))
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step of the optimiser and call the method's ``after_step``."""
        super().optimizer_step(*args, **kwargs)
        self.method.after_step(self.detector)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser of the stage, with a learning rate that is set in every step."""
        training = scaled_to_batch(self.training_config, self.trainer.world_size)
        optimizer = build_optimizer(self, training, {"method": self.method.own_lr_scale})
        steps_per_epoch = max(self.trainer.estimated_stepping_batches / training.epochs, 1)

        def factor(step: int) -> float:
            return learning_rate(training, step / steps_per_epoch) / training.lr

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    @property
    def progress(self) -> float:
        """The completed fraction of the stage, in [0, 1)."""
        return min(self.global_step / max(self.trainer.estimated_stepping_batches, 1), 1.0)

    def _clips_with_bar(self) -> Iterable[ClipBatch]:
        display, clips = self.trainer.progress_bar_callback, self.target_clips
        if isinstance(display, BatchBar) and isinstance(clips, UnaugmentedClips):
            return clips.shown_in(display.bar)
        return clips

    def _augmented(self, batch: ClipBatch | None) -> ClipBatch | None:
        return None if batch is None else augment_training_batch(batch, self.augment)

    def _log_losses(self, total: Tensor, losses: Losses, batch_size: int) -> None:
        values = {"train/loss": total.detach()}
        if len(losses) > 1:
            values |= {f"train/{name}": loss.detach() for name, loss in losses.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)
        self.log("train/loss_step", total.detach(), prog_bar=True, logger=False, batch_size=batch_size)

    # ---------------------------------------------------------------------------------- validation, test, prediction

    @property
    def validates(self) -> bool:
        """Whether any sink accumulates predictions of a validation."""
        return bool(self.sinks())

    def current_predictor(self) -> Predictor:
        """Return the network that the stage trains, with the test-time method of the training method."""
        return Predictor(self.method.network(self.detector), self.method.companion)

    def sinks(self) -> Sequence[Sink]:
        """Return the sinks that are set, among scores, observations and mixtures."""
        sinks: list[Sink | None] = [self.scores, self.observations, self.mixing]
        return [sink for sink in sinks if sink is not None]

    def begin_pass(self) -> None:
        """Empty the sinks before a pass."""
        super().begin_pass()
        if self.scores is not None:
            self.scores.metrics.reset()
        self._reset_observations()

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation split and those of label-free validators."""
        super().on_validation_epoch_end()
        source_map = self._log_scores("val")
        if self.scores is not None:
            self.scores.metrics.reset()
        if self.observations is not None:
            self._log_validators(self.observations, source_map)
            self._reset_observations()

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test split."""
        super().on_test_epoch_end()
        self._log_scores("test")

    def _log_scores(self, split: Split) -> float | None:
        """Log the scores of a split; return its mAP if it belongs to the source domain."""
        if self.scores is None:
            return None
        found = self.scores.metrics.scores()
        # The mAP of a split without positives is NaN: the column exists, and the epoch cannot become the best.
        names = ["map", "f1_macro", "recall_macro", "auroc_macro", *(["top1"] if found.is_single_label else [])]
        self.log_dict({f"{split}/{name}": float(getattr(found, name)) for name in names})
        # Target scores need target labels, so validators must not receive them.
        return found.map if self.scores.domain == "source" else None

    def _reset_observations(self) -> None:
        if self.observations is not None:
            self.observations.reset()
        if self.mixing is not None:
            self.mixing.mixed.reset()

    def _log_validators(self, observations: Observations, source_map: float | None) -> None:
        classifier = self.method.network(self.detector).head.projection.weight
        mixed = None if self.mixing is None else self.mixing.mixed.compute()
        observed = observations.observed(source_map, classifier, mixed)
        scores, report = validate(observed, names=self.validators)
        self.log_dict({f"validator/{name}": value for name, value in scores.items()})
        is_known = report.verdict != "too_few_people"
        self.log("collapse", float(report.collapsed) if is_known else float("nan"))


def _plain(detector: ActionDetector) -> Supervised:
    """Return the method that trains on labels alone."""
    return Supervised(NoArguments(), Task(detector.feature_dim, detector.num_classes, (0,) * detector.num_classes))


def _not_finite(
    losses: dict[str, Tensor], source: ClipBatch | None, target: ClipBatch | None, epoch: int, step: int
) -> str:
    values = ", ".join(f"{name}={float(loss):.4g}" for name, loss in losses.items())
    keys = [f"{key.video_id}@{key.frame_stamp}" for part in (source, target) if part is not None for key in part.keys]
    return (
        f"the loss is not finite in epoch {epoch + 1}, step {step + 1} ({values}). Lower training.lr or set "
        f"training.clip_gradient_norm=1. Clips of the batch: {', '.join(keys)}."
    )
