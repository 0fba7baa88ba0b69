"""Person movement (PM): movements of trunk and legs, with and without a floor.

Joint angles define an action: ``sit`` is bent hips and knees, with or without a chair, and ``stand`` is straight legs,
with or without a floor. In microgravity, relaxed people have the neutral body posture, with slightly bent hips, knees
and neck.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from microg_da.synthetic.figure import LEFT_RIGHT, Posture
from microg_da.synthetic.geometry import Array

POSTURES = BEND, CROUCH, SIT, STAND, WALK = 1, 3, 11, 12, 14

STRIDES_PER_SECOND = 0.95
"""Double steps per second on Earth."""

Moves = Callable[[Array], Posture]


def draw_posture(action: int, rng: np.random.Generator, weightless: bool) -> Moves:
    """Draw a posture as a function of time in seconds. The function is not random."""
    if action == WALK:
        return _pull_along(rng) if weightless else _gait(rng)
    ease = 1.0 if weightless else 0.0
    trunk, hip, knee = {
        STAND: (0.05 + 0.10 * ease, 0.04 + 0.22 * ease, 0.08 + 0.34 * ease),
        SIT: (0.06 + 0.10 * ease, 1.48 - 0.05 * ease, 1.52 - 0.10 * ease),
        BEND: (1.25, 0.10 + 0.10 * ease, 0.12 + 0.15 * ease),
        CROUCH: (0.50, 2.05, 2.45),
    }[action]
    spread_of_angles = 0.05 + 0.03 * ease
    trunk += rng.normal(0.0, spread_of_angles)
    hips = hip + rng.normal(0.0, spread_of_angles) + rng.normal(0.0, 0.5 * spread_of_angles, 2)
    knees = knee + rng.normal(0.0, spread_of_angles) + rng.normal(0.0, 0.5 * spread_of_angles, 2)
    knees = np.maximum(knees, 0.02)
    spread = rng.uniform(0.06, 0.16) + (0.12 if action == CROUCH else 0.0)
    turn, phase = rng.uniform(-0.35, 0.35), rng.uniform(0.0, 2 * np.pi)
    nod = 0.10 + 0.15 * ease + rng.normal(0.0, 0.08) - (0.5 if action == BEND else 0.0)

    def posture(times: Array) -> Posture:
        breath = np.sin(1.6 * times + phase)
        sway = 0.015 * breath if not weightless else 0.05 * breath
        return Posture(
            trunk=trunk + 0.3 * sway,
            hips=hips + np.outer(sway, LEFT_RIGHT),
            knees=knees + np.outer(sway, LEFT_RIGHT),
            spread=np.full_like(times, spread),
            nod=np.full_like(times, nod),
            turn=turn + 0.1 * breath,
        )

    return posture


def _gait(rng: np.random.Generator) -> Moves:
    phase, swing = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.50, 0.62)
    lean, turn = rng.uniform(0.04, 0.12), rng.uniform(-0.2, 0.2)

    def posture(times: Array) -> Posture:
        step = gait_phase(times, phase)[:, None] + np.array([0.0, np.pi])
        return Posture(
            trunk=np.full_like(times, lean),
            hips=0.12 + swing * np.sin(step),
            knees=0.15 + 0.95 * np.maximum(0.0, np.cos(step)) ** 1.5,
            spread=np.full_like(times, 0.03),
            nod=np.full_like(times, 0.08),
            turn=np.full_like(times, turn),
        )

    return posture


def gait_phase(times: Array, phase: float) -> Array:
    """Return the phase of a walker in a double step, in radians."""
    return 2 * np.pi * STRIDES_PER_SECOND * times + phase


def _pull_along(rng: np.random.Generator) -> Moves:
    phase, hips, knees = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.05, 0.35), rng.uniform(0.25, 0.7)

    def posture(times: Array) -> Posture:
        flutter = 0.22 * np.sin(3.2 * times + phase)
        return Posture(
            trunk=0.12 + 0.0 * times,
            hips=hips + np.outer(flutter, LEFT_RIGHT),
            knees=knees + 0.6 * np.outer(flutter, LEFT_RIGHT),
            spread=np.full_like(times, 0.08),
            nod=np.full_like(times, -0.35),
            turn=np.full_like(times, 0.0),
        )

    return posture
