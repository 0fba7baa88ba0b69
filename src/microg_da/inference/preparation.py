"""Preparation of methods with the training clips of both domains before a test."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from microg_da.adaptation.base import Method, TestTimeMethod, TrainingMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.data.datamodule import StageData
from microg_da.inference.trainer import resolve_device
from microg_da.models.detector import ActionDetector
from microg_da.terminal import message_console, progress_bar
from microg_da.types import DOMAINS


def show_training_clips(
    detector: ActionDetector,
    method: Method,
    hook: Callable[..., None],
    data: StageData,
    *,
    console: Console | None = None,
) -> float:
    """Call a hook of a method with the training clips of both domains, on the configured device.

    Clips are opened when they are iterated. Target clips have no labels.

    Args:
        detector: the detector for the method. Afterwards it is on the CPU, in evaluation mode.
        method: the method. Afterwards it is on the CPU, in evaluation mode.
        hook: ``method.prepare`` or ``method.before_training``.
        data: the clips.
        console: the terminal for a progress bar.

    Returns:
        The duration in seconds.
    """
    device = resolve_device(data.datasets.config.trainer)
    start = time.perf_counter()
    detector.to(device).eval()
    method.to(device)
    with progress_bar(console or message_console()) as bar:
        hook(detector, *(data.unaugmented_clips(domain, device).shown_in(bar) for domain in DOMAINS))
    detector.cpu()
    method.cpu()
    return time.perf_counter() - start


def prepare_predictor(
    detector: ActionDetector, method: Method, data: StageData, *, console: Console | None = None
) -> Predictor:
    """Prepare a detector and a method without training steps for a test.

    Args:
        detector: the trained network; a method such as ``adabn`` changes it.
        method: a test-time method, or a training method without epochs.
        data: the clips that the method may read.
        console: the terminal for a progress bar.

    Raises:
        InputError: if the method needs clips that cannot be read.
        ValueError: if the method has training steps.
    """
    if isinstance(method, TrainingMethod):
        if method.has_epochs:
            raise ValueError(f"{type(method).__name__} has training steps; expected a method without epochs")
        show_training_clips(detector, method, method.before_training, data, console=console)
        method.after_training(detector)
        return Predictor(detector.eval(), method.companion)
    assert isinstance(method, TestTimeMethod)
    if type(method).prepare is not TestTimeMethod.prepare:
        show_training_clips(detector, method, method.prepare, data, console=console)
    return Predictor(detector.eval(), method.eval())
