"""Things nobody handles: chairs and objects that rest or fall on Earth, what floats about in microgravity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from microg_da.synthetic.figure import Joint
from microg_da.synthetic.geometry import Array, rotation, rotation_about, unit
from microg_da.synthetic.performance import Body, Performance
from microg_da.synthetic.postures import SIT
from microg_da.synthetic.stage import Colour, Stage

GRAVITY = 9.81
WOOD = (118.0, 78.0, 48.0)


def furnish(stage: Stage, performance: Performance, bodies: Sequence[Body]) -> None:
    """On Earth, a chair under everybody who sits."""
    if performance.weightless:
        return
    for actor, body in zip(performance.actors, bodies, strict=True):
        if actor.posture == SIT:
            _chair(stage, body.joints[:, Joint.PELVIS], actor.facing)


def _chair(stage: Stage, pelvis: Array, facing: Array) -> None:
    # The chair does not breathe with the sitter.
    seat = pelvis[0] + facing @ np.array([0.10, 0.0, -0.12])
    stage.cuboid(seat, facing, (0.22, 0.22, 0.025), WOOD, nearer=-0.18)
    stage.cuboid(seat + facing @ np.array([-0.235, 0.0, 0.28]), facing, (0.02, 0.21, 0.24), WOOD, nearer=-0.02)
    half = seat[2] / 2
    for x, y in ((0.19, 0.19), (0.19, -0.19), (-0.2, 0.19), (-0.2, -0.19)):
        stage.cuboid(seat + facing @ np.array([x, y, -half]), facing, (0.02, 0.02, half), WOOD, nearer=-0.18)


def surround(stage: Stage, rng: np.random.Generator, performance: Performance, eye: Array, times: Array) -> None:
    """A few loose objects beside and behind the people, seen from ``eye`` ``(3,)``."""
    for _ in range(int(rng.integers(3))):
        length, width, height = rng.uniform(0.06, 0.16, 3).tolist()
        red, green, blue = (rng.uniform(60, 200) * (1 + 0.5 * rng.uniform(-1, 1, 3))).tolist()
        thing = _Thing((length, width, height), (red, green, blue))
        if performance.weightless:
            float_about(stage, rng, performance.centre, eye, thing, times)
        else:
            rest_or_fall(stage, rng, performance.centre, thing, times)


class _Thing(NamedTuple):
    half: tuple[float, float, float]
    colour: Colour


def rest_or_fall(stage: Stage, rng: np.random.Generator, centre: Array, thing: _Thing, times: Array) -> None:
    """Something that lies on the floor, or is let go some time before or after the keyframe."""
    side = rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 1.8)
    place = np.array([centre[0] + side, centre[1] + rng.uniform(0.3, 1.6), thing.half[2]])
    height = np.zeros_like(times)
    if rng.random() < 0.4:
        fall = np.maximum(times - rng.uniform(-0.5, 0.3), 0.0)
        height = np.maximum(rng.uniform(0.8, 1.6) - 0.5 * GRAVITY * fall**2, 0.0)
    positions = place + np.outer(height, [0.0, 0.0, 1.0])
    stage.cuboid(positions, rotation("z", rng.uniform(0, np.pi)), *thing)


def float_about(stage: Stage, rng: np.random.Generator, centre: Array, eye: Array, thing: _Thing, times: Array) -> None:
    """Something that drifts and tumbles beside the people's line of sight."""
    view = unit(centre - eye)
    anywhere = rng.normal(0.0, 1.0, 3)
    aside = unit(anywhere - (anywhere @ view) * view)
    place = centre + rng.uniform(0.7, 1.3) * aside + rng.uniform(-0.3, 1.0) * view
    positions = place + np.outer(times, rng.normal(0.0, 0.12, 3))
    turn = rotation_about(rng.normal(0.0, 0.9, 3), times) @ rotation_about(rng.normal(0.0, 1.5, 3))
    stage.cuboid(positions, turn, *thing)
