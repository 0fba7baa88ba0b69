"""Learning-rate schedules as pure functions of the (fractional) epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

from microg_da.config import TrainingConfig


def learning_rate(config: TrainingConfig, epoch: float) -> float:
    """Return the learning rate at a point of a stage.

    The warm-up rises linearly from ``warmup_start * lr`` to the value of the schedule at the end of the warm-up, as in
    the benchmark. With several ``cycles`` the whole schedule is repeated.

    Args:
        config: the settings of the stage.
        epoch: the completed epochs, e.g. 2.5 in the middle of the third epoch.
    """
    length = config.epochs / config.cycles
    epoch -= length * min(int(epoch / length), config.cycles - 1)
    factor = _SCHEDULES[config.schedule]
    if epoch < config.warmup_epochs:
        end = factor(config, config.warmup_epochs)
        done = epoch / config.warmup_epochs
        return config.lr * (config.warmup_start + (end - config.warmup_start) * done)
    return config.lr * factor(config, epoch)


def _cosine(config: TrainingConfig, epoch: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(epoch * config.cycles / config.epochs, 1.0)))


def _steps(config: TrainingConfig, epoch: float) -> float:
    stage = sum(epoch >= start for start in config.step_epochs) - 1
    return config.relative_lrs[stage]


def _constant(config: TrainingConfig, epoch: float) -> float:
    return 1.0


_SCHEDULES: dict[str, Callable[[TrainingConfig, float], float]] = {
    "cosine": _cosine,
    "steps": _steps,
    "constant": _constant,
}
