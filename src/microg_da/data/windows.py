"""Checks whether the window of a model fits into the clips of a data source."""

from __future__ import annotations

from microg_da.config import ModelConfig
from microg_da.errors import InputError


def window_problem(model: ModelConfig, source: str, length: int | None) -> str | None:
    """Return a message if the window is longer than the clips, else None.

    Args:
        model: the window, and the treatment of a window that does not fit.
        source: the SOURCE, for the message.
        length: the number of frames of the shortest clip; None if unknown.

    Raises:
        InputError: if the window does not fit and ``model.impossible_window`` is ``refuse``.
    """
    needed = (model.num_frames - 1) * model.sampling_rate + 1
    if length is None or needed <= length:
        return None
    problem = (
        f"the window of {model.num_frames} frames, {model.sampling_rate} apart, spans {needed} frames, and clips "
        f"of {source} have {length}"
    )
    if model.impossible_window == "refuse":
        raise InputError(
            f"{problem}. Choose a smaller model.num_frames or model.sampling_rate, or repeat the clips' ends: "
            f"model.impossible_window=clamp."
        )
    return problem
