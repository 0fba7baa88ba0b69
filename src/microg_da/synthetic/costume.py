"""Appearance of people: skin, hair and clothes, and their solids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microg_da.synthetic.figure import ANKLES, ELBOWS, HANDS, HIPS, KNEES, SHOULDERS, TOES, WRISTS, Joint
from microg_da.synthetic.geometry import Array, cross, unit
from microg_da.synthetic.stage import Colour, Stage

SKINS = np.array([[236, 196, 168], [222, 174, 140], [196, 146, 110], [150, 104, 76], [108, 74, 56]], dtype=float)
HAIRS = np.array(
    [[40, 30, 26], [78, 52, 34], [128, 86, 48], [190, 150, 90], [120, 118, 116], [24, 22, 24]], dtype=float
)
CASUAL = np.array(
    [[178, 48, 44], [44, 92, 168], [60, 134, 82], [206, 160, 60], [120, 66, 140], [228, 226, 220], [60, 62, 70],
     [60, 150, 160], [216, 120, 60]],
    dtype=float,
)  # fmt: skip
TROUSERS = np.array([[48, 54, 84], [56, 56, 60], [120, 104, 80], [84, 88, 96], [36, 38, 44]], dtype=float)
EYES = (30.0, 26.0, 26.0)
FLIGHT = np.array(
    [[52, 84, 168], [36, 46, 84], [44, 120, 120], [176, 52, 48], [104, 60, 128], [86, 104, 60]], dtype=float
)


@dataclass(frozen=True)
class Costume:
    """Colours of one person of a scene.

    Attributes:
        skin, hair, shirt, legs, shoes: colours as red, green, blue.
        short_sleeves: bare forearms.
        badge: a patch on the chest, or None.
    """

    skin: Colour
    hair: Colour
    shirt: Colour
    legs: Colour
    shoes: Colour
    short_sleeves: bool
    badge: Colour | None


def draw_costume(rng: np.random.Generator, weightless: bool) -> Costume:
    """Draw street clothes on Earth; overalls, polo shirts and some white caps in microgravity."""

    def pick(palette: Array) -> Colour:
        red, green, blue = np.clip(palette[rng.integers(len(palette))] * rng.uniform(0.88, 1.12, 3), 0, 255).tolist()
        return red, green, blue

    shirt, legs, hair = pick(FLIGHT if weightless else CASUAL), pick(TROUSERS), pick(HAIRS)
    if weightless:
        suit, cap = rng.random() < 0.25, rng.random() < 0.2
        return Costume(
            pick(SKINS),
            (232.0, 232.0, 228.0) if cap else hair,
            shirt,
            shirt if suit else pick(TROUSERS[[0, 1, 4]]),
            (226.0, 226.0, 222.0),
            not suit,
            pick(CASUAL),
        )
    return Costume(pick(SKINS), hair, shirt, legs, pick(TROUSERS), bool(rng.random() < 0.45), None)


def put_on_stage(stage: Stage, joints: Array, costume: Costume, person: int) -> None:
    """Add the limbs, trunk and head of a person with joints ``(T, 21, 3)`` in the world."""
    forearm = costume.skin if costume.short_sleeves else costume.shirt
    for side in range(2):
        leg = [joints[:, names[side]] for names in (HIPS, KNEES, ANKLES, TOES)]
        arm = [joints[:, names[side]] for names in (SHOULDERS, ELBOWS, WRISTS, HANDS)]
        stage.chain(leg, (0.090, 0.063, 0.048, 0.044), (costume.legs, costume.legs, costume.shoes), person)
        stage.chain(arm, (0.062, 0.048, 0.042, 0.060), (costume.shirt, forearm, costume.skin), person, 0.02)
    _trunk(stage, joints, costume, person)
    _head(stage, joints, costume, person)


def _trunk(stage: Stage, joints: Array, costume: Costume, person: int) -> None:
    pelvis, chest = joints[:, Joint.PELVIS], joints[:, Joint.CHEST]
    stage.chain([joints[:, hip] for hip in HIPS], (0.092, 0.092), (costume.legs,), person, -0.01)
    upper = 0.85 * joints[:, SHOULDERS] + 0.15 * chest[:, None]
    lower = 0.8 * joints[:, HIPS] + 0.2 * chest[:, None]
    stage.hull(np.concatenate([upper, lower], axis=1), np.array([0.085, 0.085, 0.095, 0.095]), costume.shirt, person)
    if costume.badge is not None:
        across = joints[:, Joint.LEFT_SHOULDER] - joints[:, Joint.RIGHT_SHOULDER]
        front = unit(cross(across, chest - pelvis))
        spot = chest - 0.22 * (chest - pelvis) + 0.22 * across
        stage.chain([spot + 0.075 * front, spot + 0.085 * front], (0.026, 0.026), (costume.badge,), person, 0.02)


def _head(stage: Stage, joints: Array, costume: Costume, person: int) -> None:
    neck, head, nose = joints[:, Joint.NECK], joints[:, Joint.HEAD], joints[:, Joint.NOSE]
    gaze, up = unit(nose - head), unit(head - neck)
    side = cross(up, gaze)
    skin = costume.skin
    stage.chain([joints[:, Joint.CHEST], head], (0.052, 0.050), (skin,), person, -0.02)
    stage.chain([head - 0.02 * up, head + 0.025 * up], (0.098, 0.108), (skin,), person)
    # From the front, the hair is behind the face, and only its rim is visible.
    back = head - 0.034 * gaze + 0.035 * up
    stage.chain([back - 0.02 * up, back], (0.100, 0.112), (costume.hair,), person, -0.012)
    for sign in (-1.0, 1.0):
        eye = head + 0.098 * gaze + 0.038 * sign * side + 0.02 * up
        stage.chain([eye, eye], (0.007, 0.007), (EYES,), person)
    stage.chain([head + 0.095 * gaze - 0.015 * up, nose - 0.02 * up], (0.014, 0.012), (skin,), person)
