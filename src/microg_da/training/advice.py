"""Advice about a valid request for a run."""

from __future__ import annotations

import os

from microg_da.config import Config
from microg_da.data.options import parse_source
from microg_da.zoo import ZOO

_LARGE = 1_000_000
"""The number of parameters from which a network needs pretrained weights for the benchmark's 3,331 clips."""


def advice(config: Config) -> list[str]:
    """Return advice on settings of a run that may be unintended."""
    return [each for each in (start_advice(config), worker_advice(config)) if each is not None]


def worker_advice(config: Config) -> str | None:
    """Return advice if more processes load clips than this machine has cores, else None."""
    workers, cores = config.data.num_workers, os.cpu_count() or 1
    if workers <= cores:
        return None
    return f"data.num_workers={workers}: this machine has {cores} cores. data.num_workers={cores} can be faster."


def start_advice(config: Config) -> str | None:
    """Return advice if a large network starts from random weights on real clips, else None."""
    model = config.model
    drawn = parse_source(config.data.source).is_drawn
    if drawn or config.checkpoint is not None or model.checkpoint is not None or model.options.get("pretrained"):
        return None
    if model.name in ZOO and ZOO[model.name].parameters < _LARGE:
        return None
    recipe = model.name if model.name in ZOO else "slow_r50_8x8"
    return (
        f"{model.name} starts from random weights: model.checkpoint names no file. The benchmark started every model "
        f"from Kinetics-400 weights, and its scores need them. `fit --experiment microg4m/{recipe}` "
        f"is a recipe with such weights; docs/reproduce.md describes how to get them."
    )
