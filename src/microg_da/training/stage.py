"""One stage of training: run it to its end, from wherever it stands, and leave the chosen detector."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint, ProgressBar, Timer
from rich.console import Console

from microg_da.adaptation.base import TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import VALIDATOR, AugmentConfig, TrainingConfig
from microg_da.data.datamodule import StageData
from microg_da.errors import InputError
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.files import replacing, write_json
from microg_da.inference.sinks import ScoreSink
from microg_da.logs import log_level
from microg_da.models.activation_checkpointing import checkpoint_stages
from microg_da.models.detector import ActionDetector
from microg_da.runs.detectors import describe_detector, test_time_method
from microg_da.runs.folder import Run, is_leader
from microg_da.training.callbacks import training_display
from microg_da.training.interruption import (
    PREVIOUS,
    FinishEpoch,
    SaveLast,
    TwoCheckpoints,
    checkpoint_to_continue,
    interruptible,
)
from microg_da.training.module import DetectorModule
from microg_da.training.trackers import loggers
from microg_da.types import Stage
from microg_da.validation.observations import Observations


def train_stage(
    run: Run,
    stage: str,
    detector: ActionDetector,
    method: TrainingMethod,
    data: StageData,
    training: TrainingConfig,
    augment: AugmentConfig,
    console: Console,
) -> float:
    """Train, choose a checkpoint by the run's ``selection``, and load it into ``detector``.

    A stage that was interrupted continues from its last epoch.

    Returns:
        Seconds of training, those before an interruption included.
    """
    config = run.config
    folder = run.stage_folder(stage)
    scores = observations = None
    if data.validate_on is not None:
        truth = data.datasets.get(data.validate_on, "val", labelled=False).annotations()
        metrics = DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
        scores = ScoreSink(metrics, data.validate_on)
    if data.observe:
        observations = Observations(detector.num_classes, detector.feature_dim)
    if training.activation_checkpointing:
        checkpoint_stages(detector.backbone)
    module = DetectorModule(
        detector,
        method,
        training,
        augment,
        seed=config.seed,
        stage=stage,
        scores=scores,
        observations=observations,
        target_clips=data.clips_to_look_at("target") if data.unlabelled is not None else (),
    )
    monitor = _monitor(config.selection, data)
    best = ModelCheckpoint(folder, filename="best", monitor=monitor, mode="max", enable_version_counter=False)
    checkpoints = [best, SaveLast(folder)] if monitor else [SaveLast(folder)]
    timer = Timer()
    curves = run.path / "metrics" / stage
    if is_leader():
        _set_aside(curves)
    trainer = make_trainer(
        run,
        max_epochs=training.epochs,
        logger=loggers(run, stage),
        callbacks=[*checkpoints, timer, *training_display(console, stage), FinishEpoch()],
        plugins=[TwoCheckpoints()],
        gradient_clip_val=training.clip_gradient_norm,
        accumulate_grad_batches=training.accumulate,
        limit_val_batches=1.0 if scores is not None or observations is not None else 0,
    )
    last = checkpoint_to_continue(folder, console)
    with quiet(), interruptible():
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    if is_leader():
        _join_curves(curves)
    # -inf is the score of a collapsed epoch, or of one that could not be scored; with nothing better the last counts.
    if monitor and best.best_model_path and best.best_model_score > float("-inf"):  # type: ignore[operator]
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    method.after_training(detector)
    return float(timer.time_elapsed("train"))


def _monitor(selection: str, data: StageData) -> str | None:
    """The logged value whose maximum chooses a checkpoint; None for the last epoch.

    A label-free validator compares a detector across domains, so it chooses in the adaptation stage; stages of one
    labelled domain are chosen by their own validation mAP.
    """
    if selection == "last":
        return None
    if selection.startswith(VALIDATOR) and data.observe:
        return f"validator/{selection.removeprefix(VALIDATOR)}"
    return "val/map" if data.validate_on is not None else None


def make_trainer(
    run: Run, *, callbacks: list[Callback] | None = None, logger: Any = False, **options: Any
) -> pl.Trainer:
    """A Lightning trainer with the run's hardware settings."""
    trainer = run.config.trainer
    try:
        with quiet():
            return pl.Trainer(
                accelerator=trainer.accelerator,
                devices=trainer.devices,
                num_nodes=trainer.num_nodes,
                strategy=trainer.strategy,
                precision=trainer.precision,  # type: ignore[arg-type]
                default_root_dir=run.path,
                logger=logger,
                callbacks=callbacks,
                enable_checkpointing=any(isinstance(item, Checkpoint) for item in callbacks or ()),
                enable_progress_bar=any(isinstance(item, ProgressBar) for item in callbacks or ()),
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                **options,
            )
    except (pl.utilities.exceptions.MisconfigurationException, ValueError) as error:
        raise InputError(f"trainer: {error}") from error


def save_detector(run: Run, stage: Stage, predictor: Predictor, seconds: float) -> None:
    """Write the finished detector of a stage and its test-time method; the file tells that the stage is done."""
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
    write_json(run.stage_folder(stage) / "stage.json", {"seconds": seconds, "selection": run.config.selection})
    with replacing(run.detector_file(stage)) as temporary:
        torch.save(content, temporary)
    (run.stage_folder(stage) / PREVIOUS).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------- curves across resumes


def _set_aside(folder: Path) -> None:
    """Keep the curves of the part before an interruption: Lightning's logger begins its file anew."""
    current = folder / "metrics.csv"
    if current.exists():
        current.rename(folder / f"metrics.part{len(list(folder.glob('metrics.part*.csv')))}.csv")


def _join_curves(folder: Path) -> None:
    """One file of all parts; where parts overlap, the later one counts."""
    parts = sorted(folder.glob("metrics.part*.csv"), key=lambda path: int(path.name.split("part")[1].split(".")[0]))
    if not parts:
        return
    joined = pd.DataFrame()
    for path in [*parts, folder / "metrics.csv"]:
        try:
            table = pd.read_csv(path)
        except (pd.errors.EmptyDataError, FileNotFoundError):
            continue
        joined = pd.concat([joined[joined["epoch"] < table["epoch"].min()] if len(joined) else joined, table])
    with replacing(folder / "metrics.csv") as temporary:
        joined.to_csv(temporary, index=False)
    for path in parts:
        path.unlink()


# ----------------------------------------------------------------------------------------------------------- quiet

_NOISE = (
    r".*does not have many workers.*",
    r".*The number of training batches.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*Experiment logs directory .* exists.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*torch.jit.script.* is deprecated.*",
    r".*Trying to infer the `batch_size`.*",
    r".*module\(s\) in eval mode.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide Lightning's remarks on what this package decided on purpose; anything else still shows."""
    names = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")
    with warnings.catch_warnings(), log_level(logging.WARNING, names):
        for pattern in _NOISE:
            warnings.filterwarnings("ignore", message=pattern)
        yield
