"""Gestures by action id, and gestures towards other people (PI). Gestures with objects are in ``handling``."""

from __future__ import annotations

import numpy as np

from microg_da.synthetic.arms import OUT, Gesture, Rig
from microg_da.synthetic.figure import HAND, LEFT_RIGHT, SHOULDERS
from microg_da.synthetic.geometry import Array, unit
from microg_da.synthetic.handling import CARRY, COMPUTE, POINT, READ, TOUCH, Carry, Compute, Point, Read, Touch

GRAB, WAVE, TALK, WATCH = 66, 69, 79, 80


class Wave(Gesture):
    """One hand that swings next to the head."""

    labels = frozenset({WAVE})
    poles = OUT

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._rate, self._both = rng.uniform(1.3, 1.8), rng.random() < 0.5

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        wrists = self.resting(times, rig)
        swing = np.sin(2 * np.pi * self._rate * times + self._phase)
        for side in {0, 1} if self._both else {self.side}:
            sign = LEFT_RIGHT[side]
            wrists[:, side] = rig.at_chest(0.12, sign * (0.38 + 0.22 * swing), 0.42 - 0.08 * np.abs(swing))
        return wrists


class Talk(Gesture):
    """Hands that move in front of the chest towards another person."""

    labels = frozenset({TALK})

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._rate, self._both = rng.uniform(1.0, 1.5), rng.random() < 0.7
        self._lag = rng.uniform(0.6, 2.2)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        wrists = self.resting(times, rig)
        for side in (0, 1) if self._both else (self.side,):
            beat = np.sin(2 * np.pi * self._rate * times + self._phase + self._lag * side)
            wrists[:, side] = rig.at_chest(
                0.36 + 0.05 * beat, (0.22 + 0.06 * beat) * LEFT_RIGHT[side], -0.10 + 0.17 * beat
            )
        return wrists


class Watch(Gesture):
    """Arms at rest, face towards another person."""

    labels = frozenset({WATCH})


class Grab(Gesture):
    """One or both hands on another person's upper arm or shoulder. ``goals`` is set when that person is placed."""

    labels = frozenset({GRAB})
    goals: Array

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._both = rng.random() < 0.6

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        wrists = self.resting(times, rig)
        for side in (0, 1) if self._both else (self.side,):
            shoulder = rig.joints[:, SHOULDERS[side]]
            toward = self.goals[:, side] - shoulder
            wrists[:, side] = self.goals[:, side] - (HAND - 0.02) * unit(toward)
        return wrists


GESTURES: dict[int, type[Gesture]] = {
    CARRY: Carry,
    READ: Read,
    POINT: Point,
    TOUCH: Touch,
    COMPUTE: Compute,
    WAVE: Wave,
    TALK: Talk,
    WATCH: Watch,
    GRAB: Grab,
}
