"""Progress bars of passes over clips and of training stages."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar
from rich.console import Console
from rich.progress import TaskID

from microg_da.terminal import progress_bar, shows_progress

LOSS_SECONDS = 0.5
"""Seconds between updates of the displayed loss. On a GPU each update waits for the step."""


def pass_display(console: Console | None, label: str) -> list[Callback]:
    """Return a progress bar of the batches for a terminal, or no callback for other outputs."""
    return [BatchBar(console, label)] if console is not None and shows_progress(console) else []


class BatchBar(ProgressBar):
    """Progress bar of the batches of an epoch, a validation or a test, which is erased at the end.

    Args:
        console: the terminal. Lines that are printed on it appear above the bar.
        label: description of the training or test.
    """

    def __init__(self, console: Console, label: str) -> None:
        super().__init__()
        self.bar = progress_bar(console)
        self.label = label
        self._tasks: dict[str, TaskID] = {}
        self._loss_shown = 0.0

    def disable(self) -> None:
        """Hide the bar. Lightning calls this in all processes except one."""
        self.bar.disable = True

    def enable(self) -> None:
        """Show the bar."""
        self.bar.disable = False

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Begin a bar of the epoch's steps."""
        self._begin("train", self._epoch(trainer), self.total_train_batches)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Advance by a step and, at intervals, show the loss."""
        now = time.monotonic()
        if now - self._loss_shown > LOSS_SECONDS and (loss := trainer.progress_bar_metrics.get("train/loss_step")):
            self._loss_shown = now
            self.bar.update(self._tasks["train"], description=f"{self._epoch(trainer)}, loss {loss:.3f}")
        self.bar.advance(self._tasks["train"])

    def on_train_epoch_end(self, *_: Any) -> None:
        """Erase the epoch's bar."""
        self._end("train")

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Begin a bar of the validation's batches, of all data sets together."""
        self._begin("validation", f"{self.label}: validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, *_: Any) -> None:
        """Advance by a batch."""
        self.bar.advance(self._tasks["validation"])

    def on_validation_end(self, *_: Any) -> None:
        """Erase the validation's bar."""
        self._end("validation")

    def on_test_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Begin a bar of the test's batches."""
        self._begin("test", self.label, sum(trainer.num_test_batches))

    def on_test_batch_end(self, *_: Any) -> None:
        """Advance by a batch."""
        self.bar.advance(self._tasks["test"])

    def on_test_end(self, *_: Any) -> None:
        """Erase the test's bar."""
        self._end("test")

    def on_exception(self, *_: Any) -> None:
        """Erase the bar before the error is printed."""
        self.bar.stop()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Erase the bar."""
        self.bar.stop()

    def _epoch(self, trainer: pl.Trainer) -> str:
        return f"{self.label} epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"

    def _begin(self, what: str, description: str, total: float) -> None:
        self.bar.start()
        self._tasks[what] = self.bar.add_task(description, total=total)

    def _end(self, what: str) -> None:
        self.bar.refresh()  # show the last batch before the bar is erased
        self.bar.remove_task(self._tasks.pop(what))
