"""The Lightning module around a detector and an adaptation: one class for every model and every method."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from microg_da.adaptation.base import TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import AugmentConfig, TrainingConfig
from microg_da.data.datamodule import ClipsToLookAt
from microg_da.errors import InputError
from microg_da.inference.sinks import ScoreSink
from microg_da.models.adapters import learning_rate_scales
from microg_da.models.detector import ActionDetector
from microg_da.training.callbacks import BatchBar
from microg_da.training.schedules import learning_rate
from microg_da.transforms.augmentation import augment_training_batch
from microg_da.types import ClipBatch
from microg_da.validation import judge
from microg_da.validation.observations import Observations


class DetectorModule(pl.LightningModule):
    """Trains a detector with one method in one stage, and validates it.

    Args:
        detector: the network.
        method: what turns batches into losses; :class:`~microg_da.adaptation.base.Supervised` for plain training.
        training: length, optimiser and schedule.
        augment: train-time augmentation.
        seed: of everything random in the stage.
        stage: its name, part of the seed.
        scores: accumulates validation predictions of one domain, for scores against the annotation table.
        observations: accumulates validation predictions of both domains, for label-free validators.
        target_clips: all target training clips, for methods that look at them every epoch.
    """

    def __init__(
        self,
        detector: ActionDetector,
        method: TrainingMethod,
        training: TrainingConfig,
        augment: AugmentConfig,
        *,
        seed: int = 0,
        stage: str = "source",
        scores: ScoreSink | None = None,
        observations: Observations | None = None,
        target_clips: Iterable[ClipBatch] = (),
    ) -> None:
        super().__init__()
        self.detector = detector
        self.method = method
        self.training_config = training
        self.augment = augment
        self.seed = seed
        self.stage = stage
        self.scores = scores
        self.observations = observations
        self.target_clips = target_clips

    # ------------------------------------------------------------------------------------------------ training

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a run resumed at an epoch draws what an uninterrupted one draws."""
        torch.manual_seed(zlib.crc32(f"{self.seed}/{self.stage}/{self.current_epoch}/{self.global_rank}".encode()))
        self.detector.eval()
        target = (batch.to(self.device) for batch in self._clips_with_bar())
        self.method.before_epoch(self.detector, target, self.current_epoch)
        self.detector.train()

    def _clips_with_bar(self) -> Iterable[ClipBatch]:
        display, clips = self.trainer.progress_bar_callback, self.target_clips
        if isinstance(display, BatchBar) and isinstance(clips, ClipsToLookAt):
            return clips.shown_in(display.bar)
        return clips

    def training_step(self, batch: dict[str, ClipBatch], batch_idx: int) -> Tensor:
        """One step on a labelled batch and, where the method uses it, an unlabelled one."""
        source, target = batch.get("source"), batch.get("target")
        if target is not None and target.labels is not None and not self.method.uses_target_labels:
            raise RuntimeError("target labels reached a training batch; this is a defect of microg_da")
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
        """A step of the optimiser, and what the method does after it."""
        super().optimizer_step(*args, **kwargs)
        self.method.after_step(self.detector)

    @property
    def progress(self) -> float:
        """How much of the stage is done, in [0, 1)."""
        return min(self.global_step / max(self.trainer.estimated_stepping_batches, 1), 1.0)

    def _log_losses(self, total: Tensor, losses: dict[str, Tensor], batch_size: int) -> None:
        values = {"train/loss": total.detach()}
        if len(losses) > 1:
            values |= {f"train/{name}": loss.detach() for name, loss in losses.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)
        self.log("train/loss_step", total.detach(), prog_bar=True, logger=False, batch_size=batch_size)

    def configure_optimizers(self) -> Any:
        """The stage's optimiser, and its schedule step by step."""
        optimizer = build_optimizer(self, self.training_config)
        steps_per_epoch = max(self.trainer.estimated_stepping_batches / self.training_config.epochs, 1)

        def factor(step: int) -> float:
            return learning_rate(self.training_config, step / steps_per_epoch) / self.training_config.lr

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---------------------------------------------------------------------------------------------- validation

    def on_validation_epoch_start(self) -> None:
        """Let the method prepare for a pass over validation clips."""
        self._pass = ExitStack()
        predictor = Predictor(self.method.network(self.detector), self.method.companion)
        self._predictor = self._pass.enter_context(predictor.testing())

    def validation_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Accumulate predictions; they are scored at the end of the epoch."""
        prediction = self._predictor(batch)
        if self.scores is not None:
            self.scores.update(batch, prediction)
        if self.observations is not None:
            self.observations.update(batch, prediction)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation split and those of label-free validators."""
        self._pass.close()
        source_map = self._log_scores(self.scores) if self.scores is not None else None
        if self.observations is not None:
            # Target scores are an oracle's and must not reach a validator.
            of_source = self.scores is not None and self.scores.domain == "source"
            observed = self.observations.observed(source_map if of_source else None)
            self.observations.reset()
            scores, report = judge(observed)
            self.log_dict({f"validator/{name}": value for name, value in scores.items()})
            said = report.verdict != "too_few_people"
            self.log("collapse", float(report.collapsed) if said else float("nan"))

    def _log_scores(self, accumulated: ScoreSink) -> float | None:
        scores = accumulated.metrics.compute()
        accumulated.metrics.reset()
        names = ("map", "f1_macro", "recall_macro", "auroc_macro")
        # A validation split without positives has no mAP; NaN keeps the column and never becomes the best epoch.
        values = {f"val/{name}": float("nan") if scores[name] is None else float(scores[name]) for name in names}
        self.log_dict(values)
        return scores["map"]


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and normalisation layers are not decayed.

    With ``layer_decay`` below 1 every stage of the backbone learns that much slower than the one after it.
    """
    scales = learning_rate_scales(module, config.layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = scales[name], parameter.ndim > 1
            groups.setdefault(key, []).append(parameter)
    options = [
        {"params": parameters, "lr": scale * config.lr, "weight_decay": config.weight_decay if decayed else 0.0}
        for (scale, decayed), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return SGD(options, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(options, lr=config.lr)


def _not_finite(
    losses: dict[str, Tensor], source: ClipBatch | None, target: ClipBatch | None, epoch: int, step: int
) -> str:
    values = ", ".join(f"{name}={float(loss):.4g}" for name, loss in losses.items())
    keys = [f"{key.video_id}@{key.frame_stamp}" for part in (source, target) if part is not None for key in part.keys]
    return (
        f"the loss is not finite in epoch {epoch + 1}, step {step + 1} ({values}). Lower training.lr or set "
        f"training.clip_gradient_norm=1; the batch held {', '.join(keys)}."
    )
