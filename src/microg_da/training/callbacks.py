"""Display of the progress of a training stage."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import Tensor

from microg_da.inference.display import pass_display


def training_display(console: Console, label: str) -> list[Callback]:
    """Return callbacks that print a line for each epoch and, on a terminal, a progress bar of the steps."""
    return [EpochLines(console, label), *pass_display(console, label)]


class EpochLines(Callback):
    """Print epoch, loss, validation mAP and seconds in one line for each epoch."""

    def __init__(self, console: Console, label: str) -> None:
        self.console = console
        self.label = label
        self._start = 0.0
        self._validated = False

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()
        self._validated = False

    def on_validation_epoch_end(self, *_: Any) -> None:
        """Record that the scores belong to this epoch."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Print a summary of the epoch."""
        metrics = _reduce_metrics(trainer)
        if not trainer.is_global_zero:
            return
        parts = [f"{self.label} epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        if "train/loss" in metrics:
            parts.append(f"loss {float(metrics['train/loss']):.4f}")
        if self._validated and "val/map" in metrics:
            parts.append(f"val mAP {100 * float(metrics['val/map']):.1f}")
        parts.append(f"{time.perf_counter() - self._start:.1f} s")
        self.console.print("  " + "  ·  ".join(parts), highlight=False)


def _reduce_metrics(trainer: pl.Trainer) -> dict[str, Tensor]:
    """Return the epoch's metrics over all processes. All processes must call this at the same point."""
    return trainer.callback_metrics
