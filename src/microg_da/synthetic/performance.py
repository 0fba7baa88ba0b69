"""Positions and actions of the people of a clip as functions of time.

The frame of the group is the frame of the world: x points to the right of the camera, y away from it, z up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from microg_da.synthetic import gestures as g
from microg_da.synthetic.arms import Gesture, Rig, Solid, WalkingArms
from microg_da.synthetic.figure import (
    ANKLES,
    ELBOWS,
    SHOULDERS,
    SOLE,
    TOES,
    chest_axes,
    place_arms,
    torso_and_legs,
)
from microg_da.synthetic.geometry import Array, apply, rotation, rotation_about
from microg_da.synthetic.handling import (
    CARRY,
    COMPUTE,
    POINT,
    READ,
    STEEL,
    TOUCH,
    WOOD,
    HandOverHand,
    PullWithLuggage,
    seat,
)
from microg_da.synthetic.postures import BEND, CROUCH, SIT, STAND, WALK, Moves, draw_posture

Choice = TypeVar("Choice")

POSTURE_WEIGHTS = {STAND: 0.26, SIT: 0.26, WALK: 0.16, BEND: 0.16, CROUCH: 0.16}
SOLO_GESTURES: dict[int, dict[int | None, float]] = {
    STAND: {None: 0.04, CARRY: 0.06, READ: 0.16, POINT: 0.22, TOUCH: 0.16, COMPUTE: 0.16, g.WAVE: 0.18},
    SIT: {None: 0.04, CARRY: 0.06, READ: 0.16, POINT: 0.20, TOUCH: 0.12, COMPUTE: 0.24, g.WAVE: 0.16},
    WALK: {None: 0.65, CARRY: 0.35},
    BEND: {None: 0.40, CARRY: 0.25, TOUCH: 0.35},
    CROUCH: {None: 0.25, CARRY: 0.25, TOUCH: 0.20, READ: 0.15, POINT: 0.15},
}
"""Relative frequencies of the gestures of a single person by posture (None: idle)."""

CAST_SIZE = 5
WALKING_SPEED, PULLING_SPEED = 0.85, 0.40
KEYFRAME_ALONE = np.zeros(1)


class Body(NamedTuple):
    """One person at ``T`` moments: joints ``(T, 21, 3)`` and the solids that belong to the gesture."""

    joints: Array
    solids: list[Solid]

    def moved(self, turn: Array, offset: Array) -> Body:
        """Return the body after a rotation ``(T, 3, 3)`` about the origin and a shift ``(T, 3)``."""
        solids = [
            solid._replace(centre=apply(turn, solid.centre) + offset, axes=turn @ solid.axes) for solid in self.solids
        ]
        return Body(self.joints @ turn.swapaxes(-1, -2) + offset[:, None], solids)


@dataclass
class Actor:
    """One person of a clip.

    Attributes:
        posture: the id of the person movement.
        gesture: the gesture of the arms.
        moves: angles of trunk and legs as a function of time.
        place: ``(3,)`` position of the pelvis at the keyframe.
        facing: ``(3, 3)`` with forward, left and up of the body as columns, at the keyframe.
        velocity: ``(3,)`` metres a second.
        spin: ``(3,)`` radians a second about an axis through the pelvis.
        member: index of the person in the scene.
        labels: all action ids.
        floor: height of the floor, or None in microgravity.
        seated: whether the person has a seat.
        holds: the actor whose arm the person grabs.
    """

    posture: int
    gesture: Gesture
    moves: Moves
    place: Array
    facing: Array
    velocity: Array
    spin: Array
    member: int
    labels: frozenset[int]
    floor: float | None
    seated: bool
    holds: int | None = None

    def perform(self, times: Array, partner: Array | None) -> Body:
        """Return the body at ``T`` moments, keyframe first; ``partner`` are the joints of the grabbed person."""
        posture = self.moves(times)
        posture.nod = posture.nod + self.gesture.nod
        joints = torso_and_legs(posture)
        forward, up = chest_axes(posture)
        position = self.place + np.outer(times, self.velocity)
        if self.floor is not None:
            # The height of a walking person changes, so that the lower foot is on the floor.
            position[:, 2] = SOLE - joints[:, [*ANKLES, *TOES], 2].min(1)
        axes = rotation_about(self.spin, times) @ self.facing
        rig = Rig(joints, forward, up, None if self.floor is None else -float(position[0, 2]))
        if partner is not None:
            self.gesture.goals = _arms_of(partner, position, axes)  # type: ignore[attr-defined]
        place_arms(joints, self.gesture.wrists(times, rig), self.gesture.poles)
        solids = self.gesture.solids(times, rig)
        if self.seated:
            solids += seat(rig, WOOD if rig.floor is not None else STEEL)
        return Body(joints, solids).moved(axes, position)


def _arms_of(partner: Array, position: Array, axes: Array) -> Array:
    """Return the centres of the partner's upper arms ``(T, 2, 3)`` in the person's frame, by the nearest hand."""
    arms = 0.6 * partner[:, SHOULDERS] + 0.4 * partner[:, ELBOWS]
    local = (arms - position[:, None]) @ axes
    # The people face each other, so the partner's right arm is at the left hand.
    return local[:, ::-1] if local[0, 0, 1] < local[0, 1, 1] else local


@dataclass
class Performance:
    """The people of one clip.

    Attributes:
        actors: 1…3 people.
        weightless: whether there is no floor.
        drift: ``(3,)`` velocity of the group, zero on Earth.
        spin: ``(3,)`` rotation of the group in radians per second, zero on Earth.
        centre: ``(3,)`` centre of this rotation.
        extent: ``(N, 3)`` all joints at the keyframe.
    """

    actors: list[Actor]
    weightless: bool
    drift: Array = field(default_factory=lambda: np.zeros(3))
    spin: Array = field(default_factory=lambda: np.zeros(3))
    centre: Array = field(default_factory=lambda: np.zeros(3))
    extent: Array = field(default_factory=lambda: np.zeros((0, 3)))
    _latest: tuple[bytes, list[Body]] | None = field(default=None, repr=False)

    def at(self, times: Array) -> list[Body]:
        """Return all people at ``T`` moments in seconds from the keyframe, which must be first for fixed objects."""
        bodies = self._before_drift(times)
        if not self.weightless:
            return bodies
        turn = rotation_about(self.spin, times)
        offset = self.centre + np.outer(times, self.drift) - turn @ self.centre
        return [body.moved(turn, offset) for body in bodies]

    def _before_drift(self, times: Array) -> list[Body]:
        """Return all people without the drift of the group; the last result is cached for the camera and the frames."""
        moments = times.tobytes()
        if self._latest is None or self._latest[0] != moments:
            bodies: list[Body] = []
            for actor in self.actors:
                bodies.append(actor.perform(times, None if actor.holds is None else bodies[actor.holds].joints))
            self._latest = (moments, bodies)
        return self._latest[1]


def draw_performance(rng: np.random.Generator, weightless: bool, times: Array = KEYFRAME_ALONE) -> Performance:
    """Draw the people of one clip, and cache their bodies at ``times``, which start with the keyframe's 0."""
    number = rng.choice(3, p=[0.54, 0.40, 0.06]) + 1
    actors: list[Actor] = []
    if number >= 2 and rng.random() < 0.65:
        actors = _draw_pair(rng, weightless)
    elif number >= 2:
        actors = [_draw_solo(rng, weightless, np.array([x, rng.uniform(-0.2, 0.2), 0.0]), 0) for x in (-0.62, 0.62)]
    else:
        actors = [_draw_solo(rng, weightless, np.zeros(3), 0)]
    if number == 3:
        side = rng.choice([-1.0, 1.0])
        actors.append(
            _draw_solo(rng, weightless, np.array([side * rng.uniform(1.25, 1.45), rng.uniform(0.1, 0.5), 0.0]), 2)
        )
    for member, actor in zip(rng.permutation(CAST_SIZE), actors, strict=False):
        actor.member = int(member)
    performance = Performance(actors, weightless)
    if weightless:
        performance.drift, performance.spin = rng.normal(0.0, 0.05, 3), rng.normal(0.0, 0.08, 3)
    performance.extent = np.concatenate([body.joints[0] for body in performance.at(times)])
    performance.centre = (performance.extent.min(0) + performance.extent.max(0)) / 2
    return performance


def _draw_pair(rng: np.random.Generator, weightless: bool) -> list[Actor]:
    """Draw two people who face each other and talk, wave or watch, or one grabs the other."""
    kind = rng.choice(["talk", "listen", "wave", "watch", "grab"], p=[0.20, 0.24, 0.14, 0.10, 0.32])
    first, second = {
        "talk": (g.TALK, g.TALK),
        "listen": (g.TALK, g.WATCH),
        "wave": (g.WAVE, g.WATCH),
        "watch": (g.WATCH, g.WATCH),
        "grab": (g.WATCH, g.GRAB),
    }[kind]
    distance = rng.uniform(0.54, 0.62) if kind == "grab" else rng.uniform(0.95, 1.20)
    heading = rng.uniform(-0.5, 0.5) + (np.pi if rng.random() < 0.5 else 0.0)
    roll = rng.uniform(-0.2, 0.2) if weightless else 0.0
    actors = []
    for gesture, side in ((first, -1.0), (second, 1.0)):
        posture = _draw(rng, {STAND: 1.0} if kind == "grab" else {STAND: 0.6, SIT: 0.4})
        facing = rotation("z", heading + (np.pi if side > 0 else 0.0)) @ rotation("x", roll * side)
        place = rotation("z", heading) @ np.array([side * distance / 2, 0.0, 0.0])
        # The knees of a sitting person are between the chest and the other person.
        place = place - 0.18 * facing[:, 0] * (posture == SIT)
        actors.append(_actor(rng, weightless, posture, gesture, place, facing, still=True))
    actors[1].holds = 0 if kind == "grab" else None
    return actors


def _draw_solo(rng: np.random.Generator, weightless: bool, place: Array, number: int) -> Actor:
    """Draw a person without interaction; in microgravity the third person of a group has a random roll."""
    posture = _draw(rng, POSTURE_WEIGHTS)
    gesture = _draw(rng, SOLO_GESTURES[posture])
    # Views from the side, which show the posture, are the most frequent; views from behind are the rarest.
    yaw = rng.choice([-0.35, np.pi + 0.35]) + rng.uniform(-0.5, 0.5)
    facing = rotation("z", yaw)
    if weightless:
        facing = rotation_about(rng.normal(0.0, 0.08, 3)) @ facing
        if number == 2:
            facing = rotation("y", rng.uniform(-np.pi, np.pi)) @ facing
    return _actor(rng, weightless, posture, gesture, place, facing, still=False)


def _actor(
    rng: np.random.Generator,
    weightless: bool,
    posture: int,
    gesture: int | None,
    place: Array,
    facing: Array,
    still: bool,
) -> Actor:
    moves = draw_posture(posture, rng, weightless)
    kind: type[Gesture] = Gesture if gesture is None else g.GESTURES[gesture]
    if gesture is None and posture == WALK:
        kind = WalkingArms
    if posture == WALK and weightless:
        kind = PullWithLuggage if gesture == CARRY else HandOverHand
    velocity, spin = np.zeros(3), np.zeros(3)
    if posture == WALK:
        speed = PULLING_SPEED if weightless else WALKING_SPEED
        direction = facing @ (np.array([0.35, 0.0, 0.94]) if weightless else np.array([1.0, 0.0, 0.0]))
        velocity = speed * rng.uniform(0.85, 1.15) * direction
    elif weightless and not still:
        spin = rng.normal(0.0, 0.12, 3)
    labels = frozenset({posture}) | kind.labels
    made = kind(rng, weightless, seated=posture in (SIT, CROUCH))
    floor = None if weightless else 0.0
    # In microgravity some people float in a sitting posture, others are strapped to a seat.
    seated = posture == SIT and (not weightless or rng.random() < 0.7)
    return Actor(posture, made, moves, place, facing, velocity, spin, 0, labels, floor, seated)


def _draw(rng: np.random.Generator, weights: Mapping[Choice, float]) -> Choice:
    names, chances = list(weights), np.array(list(weights.values()))
    return names[rng.choice(len(names), p=chances / chances.sum())]
