"""Loose objects, which rest or fall on Earth and float in microgravity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from microg_da.synthetic.geometry import Array, rotation, rotation_about, unit
from microg_da.synthetic.performance import Performance
from microg_da.synthetic.stage import Colour, Stage

GRAVITY = 9.81


def surround(stage: Stage, rng: np.random.Generator, performance: Performance, eye: Array, times: Array) -> None:
    """Add a few loose objects next to and behind the people, in the view from ``eye`` ``(3,)``."""
    for _ in range(int(rng.integers(3))):
        length, width, height = rng.uniform(0.06, 0.16, 3).tolist()
        red, green, blue = (rng.uniform(70, 170) * (1 + 0.15 * rng.uniform(-1, 1, 3))).tolist()
        thing = _Thing((length, width, height), (red, green, blue))
        if performance.weightless:
            float_about(stage, rng, performance.centre, eye, thing, times)
        else:
            rest_or_fall(stage, rng, performance.centre, thing, times)


class _Thing(NamedTuple):
    half: tuple[float, float, float]
    colour: Colour


def rest_or_fall(stage: Stage, rng: np.random.Generator, centre: Array, thing: _Thing, times: Array) -> None:
    """Add an object that lies on the floor, or falls from some time before or after the keyframe."""
    side = rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 1.8)
    place = np.array([centre[0] + side, centre[1] + rng.uniform(0.3, 1.6), thing.half[2]])
    height = np.zeros_like(times)
    if rng.random() < 0.4:
        fall = np.maximum(times - rng.uniform(-0.5, 0.3), 0.0)
        height = np.maximum(rng.uniform(0.8, 1.6) - 0.5 * GRAVITY * fall**2, 0.0)
    positions = place + np.outer(height, [0.0, 0.0, 1.0])
    stage.cuboid(positions, rotation("z", rng.uniform(0, np.pi)), *thing)


def float_about(stage: Stage, rng: np.random.Generator, centre: Array, eye: Array, thing: _Thing, times: Array) -> None:
    """Add an object that drifts and rotates next to the line of sight to the people."""
    view = unit(centre - eye)
    anywhere = rng.normal(0.0, 1.0, 3)
    aside = unit(anywhere - (anywhere @ view) * view)
    place = centre + rng.uniform(0.7, 1.3) * aside + rng.uniform(-0.3, 1.0) * view
    positions = place + np.outer(times, rng.normal(0.0, 0.12, 3))
    turn = rotation_about(rng.normal(0.0, 0.9, 3), times) @ rotation_about(rng.normal(0.0, 1.5, 3))
    stage.cuboid(positions, turn, *thing)
