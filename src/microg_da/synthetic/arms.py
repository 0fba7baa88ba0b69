"""Bodies before the arms are posed, and idle arms.

A gesture is drawn once and gives the positions of the wrists and its solids at any time. All coordinates are in the
body's frame, so a carried object stays in the hand in any orientation of the body.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from microg_da.synthetic.figure import LEFT_RIGHT, SHOULDERS, Joint
from microg_da.synthetic.geometry import Array
from microg_da.synthetic.stage import Colour

DOWN_AND_OUT = np.array([[-0.35, 0.5, -0.8], [-0.35, -0.5, -0.8]])
OUT = np.array([[-0.2, 1.0, -0.35], [-0.2, -1.0, -0.35]])


class Rig(NamedTuple):
    """A body before the arms are posed, in its own frame.

    Attributes:
        joints: ``(T, 21, 3)`` positions.
        forward: ``(T, 3)``, direction of the chest.
        up: ``(T, 3)``, direction from pelvis to head.
        floor: z of the floor, or None.
    """

    joints: Array
    forward: Array
    up: Array
    floor: float | None

    def at_chest(self, forward: Array | float, left: Array | float, up: Array | float) -> Array:
        """Return a point ``(T, 3)`` from coordinates along the axes of the chest."""
        point: Array = (
            self.joints[:, Joint.CHEST]
            + np.asarray(forward)[..., None] * self.forward
            + np.asarray(left)[..., None] * np.array([0.0, 1.0, 0.0])
            + np.asarray(up)[..., None] * self.up
        )
        return point

    def axes(self) -> Array:
        """Return forward, left and up of the chest as the columns of ``(T, 3, 3)``."""
        left = np.broadcast_to(np.array([0.0, 1.0, 0.0]), self.up.shape)
        return np.stack([self.forward, left, self.up], axis=-1)


class Solid(NamedTuple):
    """A cuboid in the body's frame, see :meth:`microg_da.synthetic.stage.Stage.cuboid`."""

    name: str
    centre: Array
    axes: Array
    half: tuple[float, float, float]
    colour: Colour
    nearer: float = 0.0


class Gesture:
    """Arms at rest, which hang on Earth and float in front of the chest in microgravity.

    Attributes:
        labels: the action ids of the gesture.
        nod: added to the lean of the head.
        poles: ``(2, 3)`` directions of the elbows.

    Args:
        rng: the random generator for all parameters of one performance.
        weightless: whether idle arms float.
        seated: whether idle hands lie on the lap.
    """

    labels: frozenset[int] = frozenset()
    nod: float = 0.0
    poles: Array = DOWN_AND_OUT

    def __init__(self, rng: np.random.Generator, weightless: bool, seated: bool = False) -> None:
        self.weightless, self.seated = weightless, seated
        self._phase = rng.uniform(0.0, 2 * np.pi)
        if self.weightless:
            self._hang = np.array([rng.uniform(0.18, 0.38), rng.uniform(-0.02, 0.16), rng.uniform(-0.42, -0.22)])
        elif self.seated:
            self._hang = np.array([rng.uniform(0.26, 0.34), rng.uniform(-0.08, 0.02), -0.36])
        else:
            self._hang = np.array([rng.uniform(0.0, 0.08), rng.uniform(0.03, 0.10), -0.53])
        self._hangs = self._hang + rng.normal(0.0, 0.03 if self.weightless else 0.012, (2, 3))
        self.side = int(rng.integers(2))
        self.prepare(rng)

    def prepare(self, rng: np.random.Generator) -> None:
        """Draw the parameters of the gesture."""

    def wrists(self, times: Array, rig: Rig) -> Array:
        """Return the positions of the wrists, ``(T, 2, 3)``."""
        return self.resting(times, rig)

    def solids(self, times: Array, rig: Rig) -> list[Solid]:
        """Return objects that are held, touched or used. The method is called after the arms are posed."""
        return []

    def resting(self, times: Array, rig: Rig) -> Array:
        """Return the wrists of idle arms, ``(T, 2, 3)``."""
        drift = (0.03 if self.weightless else 0.008) * np.sin(1.3 * times + self._phase)
        # Hanging arms follow gravity, floating ones follow the trunk.
        up = rig.up if self.weightless or self.seated else np.array([0.0, 0.0, 1.0])
        forward = rig.forward if self.weightless or self.seated else np.array([1.0, 0.0, 0.0])
        offset = [
            (hang[0] + drift)[:, None] * forward
            + np.array([0.0, sign * hang[1], 0.0])
            + (hang[2] + drift)[:, None] * up
            for hang, sign in zip(self._hangs, LEFT_RIGHT, strict=True)
        ]
        wrists: Array = rig.joints[:, SHOULDERS] + np.stack(offset, axis=1)
        return wrists


class WalkingArms(Gesture):
    """Arms that swing opposite to the legs."""

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        knees = rig.joints[:, [Joint.RIGHT_KNEE, Joint.LEFT_KNEE], 0]
        wrists = self.resting(times, rig)
        wrists[..., 0] += 0.75 * knees
        wrists[..., 2] += 0.25 * np.abs(knees)
        return wrists
