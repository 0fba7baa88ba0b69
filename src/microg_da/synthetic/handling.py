"""Gestures of object manipulation (OM) and their objects, rails and seats."""

from __future__ import annotations

import numpy as np

from microg_da.synthetic.arms import OUT, Gesture, Rig, Solid
from microg_da.synthetic.figure import HAND, LEFT_RIGHT, SHOULDERS, Joint
from microg_da.synthetic.geometry import Array, rotation, unit
from microg_da.synthetic.stage import Colour

CARRY, POINT, READ, TOUCH, COMPUTE = 17, 43, 48, 59, 62

CARDBOARD, COVER, PAGE = (214.0, 140.0, 52.0), (190.0, 44.0, 50.0), (250.0, 248.0, 238.0)
GOAL, PANEL, LAMP = (228.0, 56.0, 164.0), (62.0, 70.0, 84.0), (84.0, 232.0, 112.0)
SCREEN, SILVER, DESK, RAIL, WOOD, STEEL = (
    (120.0, 226.0, 255.0),
    (206.0, 210.0, 216.0),
    (150.0, 116.0, 84.0),
    (52.0, 112.0, 228.0),
    (118.0, 78.0, 48.0),
    (96.0, 88.0, 82.0),
)


class Carry(Gesture):
    """Both hands at the sides of a box, or one hand with a bag."""

    labels = frozenset({CARRY})

    def __init__(
        self, rng: np.random.Generator, weightless: bool, seated: bool = False, one_handed: bool = False
    ) -> None:
        super().__init__(rng, weightless, seated)
        if one_handed:
            self._both = False

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._half = tuple(rng.uniform([0.13, 0.17, 0.13], [0.19, 0.23, 0.19]))
        self._centre = np.array([rng.uniform(0.32, 0.38), 0.0, rng.uniform(-0.32, -0.18)])
        self._colour = _near(rng, CARDBOARD)
        self._both = rng.random() < 0.65
        self._tilt = rng.uniform(-0.3, 0.3)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        forward, _, up = self._centre
        if self._both:
            return np.stack(
                [rig.at_chest(forward - 0.06, sign * (self._half[1] + 0.02), up) for sign in LEFT_RIGHT], axis=1
            )
        wrists = self.resting(times, rig)
        wrists[:, self.side] = rig.at_chest(0.30, 0.26 * LEFT_RIGHT[self.side], -0.26)
        return wrists

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        axes = rig.axes() @ rotation("y", self._tilt)
        if self._both:
            return [Solid("carried", rig.at_chest(*self._centre), axes, self._half, self._colour, 0.02)]
        hand = rig.joints[:, Joint.LEFT_HAND if self.side == 0 else Joint.RIGHT_HAND]
        half = (0.15, 0.09, 0.15)
        below = -rig.up if self.weightless else np.array([0.0, 0.0, -1.0])
        return [Solid("carried", hand + 0.15 * below, axes, half, self._colour, 0.04)]


class HandOverHand(Gesture):
    """Movement along a rail: one hand holds while the other reaches ahead."""

    poles = OUT

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._offset = rng.uniform(0.22, 0.30)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        cycle = (0.9 * times + self._phase)[:, None] % 1.0 + np.array([0.0, 0.5])
        cycle = cycle % 1.0
        ahead = 0.30 * np.cos(2 * np.pi * cycle)
        lifted = 0.10 * np.clip(np.sin(2 * np.pi * cycle), -1.0, 0.0)
        return np.stack(
            [rig.at_chest(self._offset + lifted[:, s], 0.07 * LEFT_RIGHT[s], 0.18 + ahead[:, s]) for s in range(2)],
            axis=1,
        )

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        centre = rig.at_chest(self._offset + 0.06, 0.0, 0.0)
        return [Solid("rail", centre, rig.axes(), (0.035, 0.035, 1.1), RAIL, -0.05)]


class PullWithLuggage(HandOverHand):
    """One hand at the rail and a bag in the other hand."""

    labels = frozenset({CARRY})

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        super().prepare(rng)
        self._bag = Carry(rng, self.weightless, one_handed=True)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        wrists, side = super().wrists(times, rig), self._bag.side
        wrists[:, side] = self._bag.wrists(times, rig)[:, side]
        return wrists

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        return [*self._bag.solids(times, rig), *super().solids(times, rig)]


class Read(Gesture):
    """Both hands hold an open book in front of the face. The person has the labels read and hold."""

    labels = frozenset({READ, CARRY})
    nod = 0.35

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._centre = np.array([rng.uniform(0.34, 0.40), 0.0, rng.uniform(-0.10, 0.02)])
        self._tilt = rng.uniform(0.5, 0.9)
        self._colour = _near(rng, COVER)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        forward, _, up = self._centre
        return np.stack([rig.at_chest(forward - 0.10, 0.22 * sign, up - 0.08) for sign in LEFT_RIGHT], axis=1)

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        axes = rig.axes() @ rotation("y", self._tilt)
        pages: list[Solid] = []
        for sign in LEFT_RIGHT:
            leaf = axes @ rotation("z", 0.35 * sign)
            centre = rig.at_chest(*self._centre) + 0.16 * sign * leaf[..., 1]
            pages.append(Solid("cover", centre + 0.020 * leaf[..., 0], leaf, (0.018, 0.17, 0.23), self._colour, 0.03))
            pages.append(Solid("page", centre - 0.018 * leaf[..., 0], leaf, (0.018, 0.16, 0.22), PAGE, 0.04))
        return pages


class Point(Gesture):
    """One straight arm towards a distant object."""

    labels = frozenset({POINT})

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        sideways, upward = rng.uniform(-0.15, 0.75), rng.uniform(-0.15, 0.45)
        sign = LEFT_RIGHT[self.side]
        self._direction = unit(np.array([np.cos(sideways), sign * np.sin(sideways), np.tan(upward)]))
        self._colour = _near(rng, GOAL)
        self._far = rng.uniform(0.26, 0.36)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        wrists = self.resting(times, rig)
        wrists[:, self.side] = rig.joints[:, SHOULDERS[self.side]] + 0.56 * self._direction
        return wrists

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        hand = rig.joints[:, Joint.LEFT_HAND if self.side == 0 else Joint.RIGHT_HAND]
        centre = hand + self._far * self._direction
        upright = np.eye(3)
        solids = [Solid("goal", centre, upright, (0.18, 0.18, 0.18), self._colour)]
        if rig.floor is not None:
            foot = centre.copy()
            foot[:, 2] = (centre[:, 2] - 0.18 + rig.floor) / 2
            half = (centre[0, 2] - 0.18 - rig.floor) / 2
            solids.append(Solid("post", foot, upright, (0.025, 0.025, half), (70, 66, 62), -0.02))
        return solids


class Touch(Gesture):
    """A flat hand on a control panel."""

    labels = frozenset({TOUCH})

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._reach = rng.uniform(0.36, 0.44)
        self._height = rng.uniform(-0.12, 0.14)
        self._rate, self._colour = rng.uniform(0.5, 0.9), _near(rng, PANEL)
        self._lamp = _near(rng, LAMP)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        wrists = self.resting(times, rig)
        stroke = 0.09 * np.sin(2 * np.pi * self._rate * times + self._phase)
        wrists[:, self.side] = self._panel(rig) + np.stack(
            [np.full_like(times, -HAND), 0.10 * LEFT_RIGHT[self.side] + 0 * times, stroke], axis=-1
        )
        return wrists

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        face, upright, thickness = self._panel(rig), np.eye(3), 0.06
        body = face + np.array([thickness, 0.0, 0.0])
        solids = [Solid("panel", body, upright, (thickness, 0.27, 0.25), self._colour, -0.1)]
        if rig.floor is not None:
            half = (float(face[0, 2]) - 0.25 - rig.floor) / 2
            pole = body - np.array([0.0, 0.0, 0.25 + half])
            solids.append(Solid("pole", pole, upright, (0.05, 0.07, half), self._colour, -0.12))
        for number in range(4):
            spot = face + np.array([-0.01, 0.19 if number % 2 else -0.19, 0.17 - 0.17 * (number // 2)])
            solids.append(Solid("lamp", spot, upright, (0.050, 0.08, 0.08), self._lamp, -0.05))
        return solids

    def _panel(self, rig: Rig) -> Array:
        # A panel does not move with the body; the first row is the keyframe.
        chest = rig.joints[0, Joint.CHEST]
        return np.broadcast_to(chest + np.array([self._reach + HAND, 0.0, self._height]), rig.up.shape)


class Compute(Gesture):
    """Both hands over the keys of a laptop."""

    labels = frozenset({COMPUTE})
    nod = 0.28

    def prepare(self, rng: np.random.Generator) -> None:  # noqa: D102
        self._height = rng.uniform(-0.30, -0.22)
        self._screen = _near(rng, SCREEN)
        self._desk = _near(rng, DESK)

    def wrists(self, times: Array, rig: Rig) -> Array:  # noqa: D102
        typing = 0.035 * np.sin(2 * np.pi * 2.1 * times[:, None] + self._phase + np.array([0.0, np.pi]))
        keys = self._keys(rig)
        return np.stack(
            [
                keys + np.stack([-0.13 + 0 * times, 0.10 * LEFT_RIGHT[s] + 0 * times, 0.06 + typing[:, s]], axis=-1)
                for s in range(2)
            ],
            axis=1,
        )

    def solids(self, times: Array, rig: Rig) -> list[Solid]:  # noqa: D102
        keys, tilt = self._keys(rig), rotation("y", 0.30)
        hinge = keys + np.array([0.15, 0.0, 0.0])
        up = tilt @ np.array([0.0, 0.0, 1.0])
        solids = [
            Solid("keys", keys, np.eye(3), (0.15, 0.24, 0.024), self._screen, -0.01),
            Solid("lid", hinge + 0.19 * up + np.array([0.012, 0, 0]), tilt, (0.014, 0.24, 0.19), SILVER, -0.05),
            Solid(
                "screen", hinge + 0.19 * up - np.array([0.008, 0, 0]), tilt, (0.020, 0.225, 0.175), self._screen, -0.03
            ),
        ]
        top = keys + np.array([0.05, 0.0, -0.03])
        if rig.floor is None:
            arm = keys + np.array([0.20, 0.0, -0.16])
            return [*solids, Solid("bracket", arm, rotation("y", -0.6), (0.025, 0.025, 0.2), (120, 124, 130), -0.1)]
        solids.append(Solid("desk", top, np.eye(3), (0.27, 0.42, 0.018), self._desk, -0.06))
        half = (top[0, 2] - rig.floor) / 2
        for x, y in ((0.22, 0.38), (0.22, -0.38), (-0.22, 0.38), (-0.22, -0.38)):
            leg = top + np.array([x, y, -half])
            solids.append(Solid("leg", leg, np.eye(3), (0.022, 0.022, half), self._desk, -0.06))
        return solids

    def _keys(self, rig: Rig) -> Array:
        chest = rig.joints[0, Joint.CHEST]
        return np.broadcast_to(chest + np.array([0.44, 0.0, self._height]), rig.up.shape)


def seat(rig: Rig, colour: Colour) -> list[Solid]:
    """Return the seat of a person: a chair, or in microgravity a board with straps."""
    upright = np.eye(3)

    def board(x: float, z: float, half: tuple[float, float, float], nearer: float) -> Solid:
        return Solid("seat", np.broadcast_to(np.array([x, 0.0, z]), rig.up.shape), upright, half, colour, nearer)

    solids = [board(0.10, -0.12, (0.22, 0.22, 0.025), -0.18), board(-0.135, 0.16, (0.02, 0.21, 0.24), -0.02)]
    if rig.floor is None:
        return solids
    half = (-0.12 - rig.floor) / 2
    for x, y in ((0.29, 0.19), (0.29, -0.19), (-0.10, 0.19), (-0.10, -0.19)):
        foot = np.broadcast_to(np.array([x, y, -0.12 - half]), rig.up.shape)
        solids.append(Solid("seat", foot, upright, (0.02, 0.02, half), colour, -0.18))
    return solids


def _near(rng: np.random.Generator, colour: Colour, spread: float = 14.0) -> Colour:
    """Return a random colour near ``colour``."""
    red, green, blue = np.clip(np.asarray(colour) + rng.normal(0.0, spread, 3), 0, 255).tolist()
    return red, green, blue
