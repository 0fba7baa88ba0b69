"""Lightning trainers and devices of a configuration."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from pytorch_lightning.callbacks import Callback, Checkpoint, ProgressBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from microg_da.config import TrainerConfig
from microg_da.errors import InputError, first_line
from microg_da.logs import log_level


def make_trainer(
    hardware: TrainerConfig,
    *,
    root: Path | None = None,
    callbacks: Sequence[Callback] = (),
    logger: Any = False,
    **options: Any,
) -> pl.Trainer:
    """Create a Lightning trainer without output except that of ``callbacks`` and ``logger``.

    Args:
        hardware: devices, strategy and precision.
        root: Lightning's default folder; None for the working folder.
        callbacks: callbacks; checkpoints and progress bars are used only if they are in this list.
        logger: ``logger`` of :class:`pytorch_lightning.Trainer`.
        options: other arguments of :class:`pytorch_lightning.Trainer`.

    Raises:
        InputError: if this machine does not support the settings in ``hardware``.
    """
    with quiet(), _refusing():
        return pl.Trainer(
            **asdict(hardware),
            default_root_dir=root,
            logger=logger,
            callbacks=list(callbacks),
            enable_checkpointing=any(isinstance(item, Checkpoint) for item in callbacks),
            enable_progress_bar=any(isinstance(item, ProgressBar) for item in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **options,
        )


def resolve_device(hardware: TrainerConfig) -> torch.device:
    """Return the device of this process that a Lightning trainer with the same settings uses.

    Raises:
        InputError: if this machine does not support the settings in ``hardware``.
    """
    with quiet(), _refusing():
        device: torch.device = Fabric(**asdict(hardware)).device
        return device


def one_process(hardware: TrainerConfig) -> TrainerConfig:
    """Return the same hardware settings with the first device only."""
    devices = hardware.devices
    if isinstance(devices, str) and "," in devices:
        devices = [int(part) for part in devices.split(",") if part.strip()]
    first: Any = list(devices)[:1] if isinstance(devices, Sequence) and not isinstance(devices, str) else 1
    return replace(hardware, devices=first, num_nodes=1, strategy="auto")


def on_device(hardware: TrainerConfig, device: str) -> TrainerConfig:
    """Return settings for one process on a device, e.g. ``"cpu"`` or ``"cuda:1"``.

    ``"auto"`` is the first device of ``hardware``.

    Raises:
        InputError: if torch does not know the device.
    """
    if device == "auto":
        return one_process(hardware)
    with _refusing():
        chosen = torch.device(device)
    devices: Any = 1 if chosen.index is None or chosen.type == "cpu" else [chosen.index]
    return one_process(replace(hardware, accelerator=chosen.type, devices=devices))


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"trainer: {first_line(error)}") from error


# --------------------------------------------------------------------------------------------- Lightning's messages

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
    """Hide Lightning's messages about deliberate settings of this package; other messages are shown."""
    names = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric")
    with warnings.catch_warnings(), log_level(logging.WARNING, names):
        for pattern in _NOISE:
            warnings.filterwarnings("ignore", message=pattern)
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block; without this, Lightning ends the process with status 1."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
