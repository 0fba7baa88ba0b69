"""Matching of an adapted detector's class rates to those of the source domain."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from rich.console import Console

from microg_da.adaptation.class_rates import rate_thresholds
from microg_da.adaptation.predictor import Predictor
from microg_da.data.datamodule import StageData
from microg_da.inference.trainer import resolve_device
from microg_da.terminal import message_console, progress_bar


def match_class_rates(
    predictor: Predictor, data: StageData, rates: Sequence[float], *, console: Console | None = None
) -> float:
    """Shift the logits of each class so that its rate among target people equals the rate of the source.

    The function uses the people of target training clips without their labels. The shift does not change the order of
    people in a class or its average precision. A test-time method receives the logits before the shift.

    Args:
        predictor: the predictor to change. Afterwards it is on the CPU, in evaluation mode.
        data: the clips.
        rates: ``(C,)`` the fraction of source people with each class.
        console: the terminal for a progress bar.

    Returns:
        The duration in seconds.
    """
    start = time.perf_counter()
    device = resolve_device(data.datasets.config.trainer)
    predictor.to(device).detector.eval()
    with progress_bar(console or message_console()) as bar, predictor.testing(), torch.no_grad():
        clips = data.unaugmented_clips("target", device).shown_in(bar)
        logits_of_batches = [predictor(batch).logits.detach().float().cpu() for batch in clips]
    predictor.to("cpu")
    if logits_of_batches:
        predictor.shift_decisions(-rate_thresholds(torch.cat(logits_of_batches), torch.tensor(rates)))
    return time.perf_counter() - start
