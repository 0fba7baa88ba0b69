"""The human figure: joints and their computation from angles and hand positions.

In the body's frame x points forward, y to the left and z from pelvis to head; the pelvis is the origin. The order of
sides is left, right.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from microg_da.synthetic.geometry import Array, unit


class Joint(IntEnum):
    """Rows of a joint array ``(T, 21, 3)``."""

    PELVIS = 0
    CHEST = 1
    NECK = 2
    HEAD = 3
    NOSE = 4
    LEFT_HIP = 5
    RIGHT_HIP = 6
    LEFT_KNEE = 7
    RIGHT_KNEE = 8
    LEFT_ANKLE = 9
    RIGHT_ANKLE = 10
    LEFT_TOE = 11
    RIGHT_TOE = 12
    LEFT_SHOULDER = 13
    RIGHT_SHOULDER = 14
    LEFT_ELBOW = 15
    RIGHT_ELBOW = 16
    LEFT_WRIST = 17
    RIGHT_WRIST = 18
    LEFT_HAND = 19
    RIGHT_HAND = 20


HIPS = [Joint.LEFT_HIP, Joint.RIGHT_HIP]
KNEES = [Joint.LEFT_KNEE, Joint.RIGHT_KNEE]
ANKLES = [Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE]
TOES = [Joint.LEFT_TOE, Joint.RIGHT_TOE]
SHOULDERS = [Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER]
ELBOWS = [Joint.LEFT_ELBOW, Joint.RIGHT_ELBOW]
WRISTS = [Joint.LEFT_WRIST, Joint.RIGHT_WRIST]
HANDS = [Joint.LEFT_HAND, Joint.RIGHT_HAND]

THIGH, SHIN, FOOT = 0.44, 0.43, 0.19
SPINE, NECK, HEAD = 0.50, 0.10, 0.13
UPPER_ARM, FOREARM, HAND = 0.29, 0.27, 0.11
HIP_HALF_WIDTH, SHOULDER_HALF_WIDTH = 0.09, 0.18
SOLE = 0.05
LEFT_RIGHT = np.array([1.0, -1.0])


@dataclass
class Posture:
    """Angles of trunk and legs at ``T`` moments; zero is upright with straight legs.

    Attributes:
        trunk: ``(T,)`` forward lean of the trunk against the body's z axis.
        hips: ``(T, 2)`` flexion of the thighs against the body's z axis.
        knees: ``(T, 2)`` flexion of the knees.
        spread: ``(T,)`` sideways angle of each thigh.
        nod: ``(T,)`` forward lean of the head against the trunk.
        turn: ``(T,)`` turn of the head to the left.
    """

    trunk: Array
    hips: Array
    knees: Array
    spread: Array
    nod: Array
    turn: Array


def torso_and_legs(posture: Posture) -> Array:
    """Return joints ``(T, 21, 3)`` in the body's frame, with arms along the trunk."""
    joints = np.zeros((len(posture.trunk), len(Joint), 3))
    forward, up = chest_axes(posture)
    left = np.array([0.0, 1.0, 0.0])
    joints[:, Joint.CHEST] = SPINE * up
    joints[:, Joint.NECK] = joints[:, Joint.CHEST] + NECK * up
    nod, turn = posture.nod[:, None], posture.turn[:, None]
    joints[:, Joint.HEAD] = joints[:, Joint.NECK] + HEAD * (np.cos(nod) * up + np.sin(nod) * forward)
    gaze = np.cos(turn) * (np.cos(nod) * forward - np.sin(nod) * up) + np.sin(turn) * left
    joints[:, Joint.NOSE] = joints[:, Joint.HEAD] + 0.11 * gaze
    side = LEFT_RIGHT[:, None] * left
    joints[:, SHOULDERS] = (joints[:, Joint.CHEST] - 0.03 * up)[:, None] + SHOULDER_HALF_WIDTH * side
    joints[:, HIPS] = HIP_HALF_WIDTH * side
    spread = posture.spread[:, None] * LEFT_RIGHT
    joints[:, KNEES] = joints[:, HIPS] + THIGH * _leg_direction(posture.hips, spread)
    bend = posture.hips - posture.knees
    joints[:, ANKLES] = joints[:, KNEES] + SHIN * _leg_direction(bend, 0.4 * spread)
    joints[:, TOES] = joints[:, ANKLES] + FOOT * _leg_direction(bend + 1.35, spread)
    return joints


def chest_axes(posture: Posture) -> tuple[Array, Array]:
    """Return the trunk's forward and up directions in the body's frame, each ``(T, 3)``."""
    zero, sin, cos = np.zeros_like(posture.trunk), np.sin(posture.trunk), np.cos(posture.trunk)
    return np.stack([cos, zero, -sin], axis=-1), np.stack([sin, zero, cos], axis=-1)


def place_arms(joints: Array, wrists: Array, poles: Array) -> None:
    """Bend both arms, in place, so that the wrists are as near to ``wrists`` as the length of the arms allows.

    Args:
        joints: ``(T, 21, 3)`` with shoulders.
        wrists: ``(T, 2, 3)`` requested positions of the wrists.
        poles: ``(2, 3)`` or ``(T, 2, 3)``, directions of the elbows.
    """
    shoulders = joints[:, SHOULDERS]
    reach = wrists - shoulders
    length = np.linalg.norm(reach, axis=-1, keepdims=True)
    direction = reach / np.maximum(length, 1e-9)
    length = np.clip(length, abs(UPPER_ARM - FOREARM) + 0.05, UPPER_ARM + FOREARM - 1e-4)
    along = (UPPER_ARM**2 - FOREARM**2 + length**2) / (2 * length)
    aside = np.sqrt(np.maximum(UPPER_ARM**2 - along**2, 0.0))
    pole = np.broadcast_to(poles, reach.shape)
    pole = unit(pole - (pole * direction).sum(-1, keepdims=True) * direction)
    joints[:, ELBOWS] = shoulders + along * direction + aside * pole
    joints[:, WRISTS] = shoulders + length * direction
    joints[:, HANDS] = joints[:, WRISTS] + HAND * unit(joints[:, WRISTS] - joints[:, ELBOWS])


def _leg_direction(flexion: Array, spread: Array) -> Array:
    direction = np.empty((*flexion.shape, 3))
    aside = np.cos(spread)
    direction[..., 0] = np.sin(flexion) * aside
    direction[..., 1] = np.sin(spread)
    direction[..., 2] = -np.cos(flexion) * aside
    return direction


def angle_at(joints: Array, first: int, middle: int, last: int) -> Array:
    """Return the angle in degrees ``(T,)`` at ``middle`` between two neighbouring joints; 180 is a straight limb."""
    one = unit(joints[:, first] - joints[:, middle])
    two = unit(joints[:, last] - joints[:, middle])
    angles: Array = np.degrees(np.arccos(np.clip((one * two).sum(-1), -1.0, 1.0)))
    return angles
