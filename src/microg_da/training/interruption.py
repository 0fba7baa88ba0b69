"""Handles signals and machine failures: saves the run and prints how to continue."""

from __future__ import annotations

import re
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint
from rich.console import Console

from microg_da.errors import InputError, first_line
from microg_da.files import CANNOT_WRITE, replacing

GRACE = 8.0
"""Seconds in which an epoch may finish after a signal. Docker kills a process ten seconds after SIGTERM."""

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"

_DEAD_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (is killed|exited|are)")
_FAILED_SAVE = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos|basic_ios|iostream error")


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal.

    Attributes:
        status: the exit status for the shell or the scheduler: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or f"interrupted by {signal.Signals(number).name}")
        self.number = number
        self.status = 128 + number


# ----------------------------------------------------------------------------------------------------------- signals


@contextmanager
def stopping_cleanly(folder: Path) -> Iterator[None]:
    """Handle SIGTERM in the block like Ctrl-C. The message of the exception says how to continue the run."""
    with _handling(_raise, signal.SIGTERM):
        try:
            yield
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Interrupted) else signal.SIGINT
            raise Interrupted(
                number, f"interrupted by {signal.Signals(number).name}. {_resume_hint(folder)}"
            ) from error


class FinishEpoch(Callback):
    """Finish and save the current epoch on SIGINT or SIGTERM, then stop.

    If the rest of the epoch takes longer than ``GRACE``, or a second signal comes, the run stops at once and keeps the
    last finished epoch. The callback acts only in runs of one process, because the other processes would wait for a
    process that stops.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._deadline = 0.0
        self._epoch_start = 0.0

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Replace Lightning's signal handlers; Lightning restores the previous handlers at the end."""
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._remember)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Stop if a signal came in the epoch that has just been saved."""
        self._epoch_start = time.monotonic()
        self._stop_if(self._number is not None)

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop if the rest of the epoch takes too long."""
        if self._number is None:
            return
        batch = arguments[-1] + 1
        now = time.monotonic()
        rest = (now - self._epoch_start) / batch * (trainer.num_training_batches - batch)
        self._stop_if(now + rest > self._deadline)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Stop if the validation takes too long."""
        self._stop_if(self._number is not None and time.monotonic() > self._deadline)

    def on_fit_end(self, *_: Any) -> None:
        """Stop if a signal came in the last epoch of the stage."""
        self._stop_if(self._number is not None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._number is not None:
            _raise(number, frame)
        self._number = number
        self._deadline = time.monotonic() + GRACE

    def _stop_if(self, now: bool) -> None:
        if now:
            assert self._number is not None
            raise Interrupted(self._number)


@contextmanager
def _handling(handler: Any, number: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _raise(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


# ---------------------------------------------------------------------------------------------------------- failures


@contextmanager
def explaining_failures(folder: Path) -> Iterator[None]:
    """Convert machine failures into one message with the remedy and the command to continue.

    Raises:
        InputError: if the disk is full, a folder cannot be written, or a data-loading process died.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        where = f" {error.filename}" if error.filename else ""
        raise InputError(
            f"cannot write{where}: {error.strerror}. Free disk space or grant write permission. {_resume_hint(folder)}"
        ) from error
    except RuntimeError as error:
        if _DEAD_WORKER.search(str(error)):
            raise InputError(
                f"a data-loading process died ({first_line(error)}). The machine may be out of memory: lower "
                f"data.num_workers or training.batch_size in {folder / 'config.yaml'}. {_resume_hint(folder)}"
            ) from error
        if _FAILED_SAVE.search(str(error)):
            raise InputError(
                f"cannot write to {folder}: the disk may be full. Free disk space. {_resume_hint(folder)}"
            ) from error
        raise


def _resume_hint(folder: Path) -> str:
    return f"Continue with `python -m microg_da fit --resume {folder}`; finished epochs and stages are kept."


# ------------------------------------------------------------------------------------------------------- checkpoints


class SaveLast(Checkpoint):
    """Save a checkpoint after every epoch.

    Lightning's own callback saves the last epoch only if it saves the best epoch.

    Args:
        folder: the folder of the stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save the state from which the next epoch starts."""
        trainer.save_checkpoint(self.folder / LAST)


class TwoCheckpoints(TorchCheckpointIO):
    """Write each checkpoint atomically, and keep the previous ``last.ckpt`` as ``previous.ckpt``."""

    def save_checkpoint(self, checkpoint: dict[str, object], path: Any, storage_options: Any = None) -> None:
        """Write a temporary file next to the old checkpoint, then replace the checkpoint."""
        path = Path(path)
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)
            if path.name == LAST and path.exists():
                path.replace(path.with_name(PREVIOUS))


def checkpoint_to_continue(folder: Path, console: Console) -> Path | None:
    """Return the newest intact checkpoint of an interrupted stage, or None if there is none.

    A damaged checkpoint is renamed to ``….damaged``, and a message says so.
    """
    for name in (LAST, PREVIOUS):
        file = folder / name
        if not file.exists():
            continue
        if (problem := damage(file)) is None:
            return file
        console.print(
            f"[yellow]note[/yellow] {file} is damaged ({problem}): continuing from the previous checkpoint, if any",
            highlight=False,
            soft_wrap=True,
        )
        with suppress(OSError):
            file.replace(file.with_name(f"{name}.damaged"))
    return None


def damage(file: Path) -> str | None:
    """Return the damage of a file of ``torch.save``, by its checksums; None for an intact file."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        return first_line(error)
    return None if broken is None else f"its part {broken} is damaged"
