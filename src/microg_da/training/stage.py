"""One training stage: train from the current state to the end, and load the chosen checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from rich.console import Console

from microg_da.adaptation.base import TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import VALIDATOR, AugmentConfig, Config, TrainingConfig
from microg_da.data.datamodule import StageData
from microg_da.files import replacing
from microg_da.inference.scoring import split_metrics
from microg_da.inference.sinks import MixingSink, ScoreSink
from microg_da.inference.trainer import interruptible, make_trainer, quiet
from microg_da.models.activation_checkpointing import checkpoint_stages
from microg_da.models.detector import ActionDetector
from microg_da.processes import is_leader
from microg_da.runs.detectors import describe_detector, test_time_method
from microg_da.runs.folder import Run
from microg_da.training.callbacks import training_display
from microg_da.training.curves import join_curves, set_aside
from microg_da.training.interruption import (
    PREVIOUS,
    FinishEpoch,
    SaveLast,
    TwoCheckpoints,
    checkpoint_to_continue,
)
from microg_da.training.module import DetectorModule
from microg_da.training.optimizer import clips_per_step, scaled_to_batch
from microg_da.training.trackers import loggers
from microg_da.types import Stage
from microg_da.validation import validators_for
from microg_da.validation.observations import Observations


@dataclass(frozen=True)
class StagePlan:
    """Inputs of one training stage.

    Attributes:
        name: the name of the stage.
        method: computes losses from batches.
        data: the clips of the stage.
        training: length, optimiser and schedule.
        augment: train-time augmentation.
    """

    name: Stage
    method: TrainingMethod
    data: StageData
    training: TrainingConfig
    augment: AugmentConfig


def train_stage(run: Run, plan: StagePlan, detector: ActionDetector, console: Console) -> float:
    """Train, choose a checkpoint by the run's ``selection``, and load it into ``detector``.

    A stage that was interrupted continues from its last epoch.

    Returns:
        Seconds of training, including the time before an interruption.
    """
    folder = run.stage_folder(plan.name)
    plan.data.augment = plan.augment
    module = _stage_module(run, plan, detector)
    _say_learning_rate(run, plan, console)
    best = _best_checkpoint(run, plan, folder)
    timer = Timer()
    trainer = _stage_trainer(run, plan, module, [*([best] if best else []), SaveLast(folder), timer], console)
    curves = run.path / "metrics" / plan.name
    if is_leader():
        set_aside(curves)
    last = checkpoint_to_continue(folder, console)
    with quiet(), interruptible():
        trainer.fit(module, datamodule=plan.data, ckpt_path=last, weights_only=True)
    if is_leader():
        join_curves(curves)
    if best is not None:
        _load_best(best, module)
    plan.method.after_training(detector)
    return float(timer.time_elapsed("train"))


def adaptation_training(config: Config, method: TrainingMethod) -> TrainingConfig:
    """Return the training settings of the adaptation stage, as configured and as the method requires."""
    settings = config.adaptation
    epochs = settings.epochs if method.has_epochs else 0
    training = replace(config.training, epochs=epochs, lr=settings.lr, cycles=settings.cycles)
    return method.stage_training(training) if epochs else training


def _say_learning_rate(run: Run, plan: StagePlan, console: Console) -> None:
    """Print the learning rate if it differs from the configured one."""
    processes = make_trainer(run.config.trainer).world_size
    lr = scaled_to_batch(plan.training, processes).lr
    if lr != plan.training.lr:
        console.print(
            f"  {plan.name}: learning rate {lr:.3g} at {clips_per_step(plan.training, processes)} clips a step "
            f"({plan.training.lr:.3g} at {plan.training.lr_batch_size})",
            highlight=False,
        )


def save_detector(run: Run, stage: Stage, predictor: Predictor, seconds: float) -> None:
    """Write the finished detector of a stage and its test-time method; the file marks the stage as complete."""
    if not is_leader():
        return
    detector, method = predictor.detector, predictor.method
    content = {
        **describe_detector(run.config).as_dict(),
        "test_time_method": test_time_method(run.config, method),
        "state_dict": {name: value.detach().cpu() for name, value in detector.state_dict().items()},
    }
    if method is not None:
        with replacing(run.method_file(stage)) as temporary:
            torch.save(method.cpu().state_dict(), temporary)
    run.finish_stage(stage, seconds)
    with replacing(run.detector_file(stage)) as temporary:
        torch.save(content, temporary)
    (run.stage_folder(stage) / PREVIOUS).unlink(missing_ok=True)


def _stage_module(run: Run, plan: StagePlan, detector: ActionDetector) -> DetectorModule:
    """Return the module, with the sinks that the validation of the stage fills."""
    data = plan.data
    scores = observations = mixing = None
    if data.validate_on is not None:
        scores = ScoreSink(split_metrics(data.datasets, data.validate_on, "val"), data.validate_on)
    if data.observe:
        observations = Observations(detector.num_classes, detector.feature_dim, data.datasets.class_rates)
        if run.config.selection == f"{VALIDATOR}mixval":
            # Only this validator needs an extra pass over the target validation clips in each epoch.
            mixing = MixingSink(detector.num_classes)
    if plan.training.activation_checkpointing:
        checkpoint_stages(detector.backbone)
    return DetectorModule(
        detector,
        plan.method,
        plan.training,
        plan.augment,
        seed=run.config.seed,
        stage=plan.name,
        scores=scores,
        observations=observations,
        mixing=mixing,
        validators=validators_for(run.config.selection),
        target_clips=data.unaugmented_clips("target") if data.unlabelled is not None else (),
    )


def _stage_trainer(
    run: Run, plan: StagePlan, module: DetectorModule, callbacks: list[pl.Callback], console: Console
) -> pl.Trainer:
    training = plan.training
    return make_trainer(
        run.config.trainer,
        root=run.path,
        max_epochs=training.epochs,
        logger=loggers(run, plan.name),
        callbacks=[*callbacks, *training_display(console, plan.name), FinishEpoch()],
        plugins=[TwoCheckpoints()],
        gradient_clip_val=training.clip_gradient_norm,
        accumulate_grad_batches=training.accumulate,
        limit_train_batches=training.max_batches_per_epoch or 1.0,
        limit_val_batches=1.0 if module.validates else 0,
        # A stage with fewer epochs is validated after its last epoch.
        check_val_every_n_epoch=min(training.validate_every, training.epochs),
    )


def _best_checkpoint(run: Run, plan: StagePlan, folder: Path) -> ModelCheckpoint | None:
    """Return the callback that keeps the best epoch by the run's ``selection``; None if the last epoch is kept."""
    monitor = _monitor(run.config.selection, plan.data)
    if monitor is None:
        return None
    return ModelCheckpoint(folder, filename="best", monitor=monitor, mode="max", enable_version_counter=False)


def _monitor(selection: str, data: StageData) -> str | None:
    """Return the logged value whose maximum selects a checkpoint; None for the last epoch.

    A label-free validator compares a detector across domains, so it selects in the adaptation stage. In stages with one
    labelled domain, the validation mAP selects.
    """
    if selection == "last":
        return None
    if selection.startswith(VALIDATOR) and data.observe:
        return f"validator/{selection.removeprefix(VALIDATOR)}"
    return "val/map" if data.validate_on is not None else None


def _load_best(best: ModelCheckpoint, module: DetectorModule) -> None:
    """Load the best epoch into the module; if there is none, keep the last epoch.

    The score of a collapsed epoch is -inf, and that of an epoch without a score is NaN.
    """
    score = best.best_model_score
    if not best.best_model_path or score is None or not score > float("-inf"):
        return
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
