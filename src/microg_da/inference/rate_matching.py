"""Decisions of an adapted detector at the class rates of the source."""

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
    """Shift each class's logits until target people have the class at the rate of the source.

    The people are those of the target's training clips; their labels are not read. The order of people in a class does
    not change, and so neither does its average precision. A test-time method sees the logits as they were.

    Args:
        predictor: comes back on the CPU, in evaluation mode.
        data: the clips.
        rates: ``(C,)`` the fraction of source people with each class.
        console: where a terminal shows a progress bar.

    Returns:
        The seconds that it takes.
    """
    start = time.perf_counter()
    device = resolve_device(data.datasets.config.trainer)
    predictor.to(device).detector.eval()
    with progress_bar(console or message_console()) as bar, predictor.testing(), torch.no_grad():
        clips = data.unaugmented_clips("target", device).shown_in(bar)
        said = [predictor(batch).logits.detach().float().cpu() for batch in clips]
    predictor.to("cpu")
    if said:
        predictor.shift_decisions(-rate_thresholds(torch.cat(said), torch.tensor(rates)))
    return time.perf_counter() - start
