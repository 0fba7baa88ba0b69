"""Rooms: boxes with six painted faces, which are rendered by ray casting.

A scene is painted once for all clips of its source video: on Earth a room with floor, walls, windows, doors and
pictures, in microgravity a station module with racks, handrails, laptops, bags and cables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from microg_da.synthetic.geometry import Array, Camera
from microg_da.synthetic.stage import Colour

FACE = 176
"""Side of a painted face in pixels. Faces are in two rows of three, in the order +x -x +y -y +z -z."""


@dataclass(frozen=True)
class Room:
    """A box with painted inner faces.

    Attributes:
        atlas: ``(2 * FACE, 3 * FACE, 3)`` uint8, the painted faces.
        low: ``(3,)`` corner with the smallest coordinates, in the room's frame, in metres.
        high: ``(3,)`` the opposite corner.
    """

    atlas: np.ndarray
    low: Array
    high: Array

    def background(self, camera: Camera, axes: Array, origin: Array, size: int) -> np.ndarray:
        """Return the camera's view of the room, ``(T, size, size, 3)`` uint8.

        Args:
            camera: the camera in world coordinates.
            axes: ``(3, 3)``, whose columns are the axes of the room in the world.
            origin: ``(3,)``, origin of the room in the world.
            size: side of the image in pixels.
        """
        # A camera inside a wall is moved into the room.
        eyes = np.clip((camera.position - origin) @ axes, self.low + 0.05, self.high - 0.05)
        grid = (((np.arange(size) + 0.5) / size - 0.5) / camera.focal).astype(np.float32)
        frames = [self._look(eye, view, grid) for eye, view in zip(eyes, camera.axes @ axes, strict=True)]
        return np.stack(frames)

    def _look(self, eye: Array, view: Array, grid: np.ndarray) -> np.ndarray:
        """Return one frame; rows of ``view`` ``(3, 3)`` are right, down and depth of the image, in the room's frame."""
        right, down, depth = view.astype(np.float32)
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        starts, scales = ((eye - middle) / half).astype(np.float32), (1.0 / half).astype(np.float32)
        rays, hits = [], []
        for axis, start in enumerate(starts):
            ray = right[axis] * grid + (down[axis] * grid + depth[axis])[:, None]
            ray[np.abs(ray) < 1e-6] = 1e-6
            ray *= scales[axis]
            # One of the two walls across this axis is in front of the eye, the other behind it.
            hits.append(np.maximum((1 - start) / ray, (-1 - start) / ray))
            rays.append(ray)
        step = np.minimum(np.minimum(hits[0], hits[1]), hits[2])
        on_x, on_z = _flags(step == hits[0]), _flags(step == hits[2])
        to_x, to_y, to_z = (_flags(ray > 0) for ray in rays)
        for ray, start in zip(rays, starts, strict=True):
            ray *= step
            ray += 1 + start
            ray *= np.float32((FACE - 1) / 2)
        x, y, z = rays
        # Masked cv2.copyTo is several times as fast as numpy.where. It writes into its last argument.
        below: np.ndarray = cv2.copyTo(y, on_z, np.float32(FACE - 1) - z)
        across: np.ndarray = cv2.copyTo(y, on_x, x)
        # The order of faces in the atlas is +x -x +y / -y +z -z.
        column: np.ndarray = cv2.copyTo(1 - to_x, on_x, cv2.copyTo(2 - to_z, on_z, 2 * to_y))
        row = 1 - (on_x | (to_y & ~on_z))
        across += column * np.float32(FACE)
        below += row * np.float32(FACE)
        return cv2.remap(self.atlas, across, below, cv2.INTER_LINEAR)


def _flags(condition: np.ndarray) -> np.ndarray:
    return condition.view(np.uint8)


def paint_earth_room(rng: np.random.Generator) -> Room:
    """Paint a room with a floor of planks, tiles or carpet, and decorated walls."""
    half = np.array([rng.uniform(3.6, 4.6), rng.uniform(3.6, 4.6)])
    height = rng.uniform(2.6, 3.1)
    wall = _muted(rng, 130, 215, 0.10)
    faces = [_wall(rng, wall * rng.uniform(0.9, 1.05)) for _ in range(4)]
    faces += [_ceiling(rng), _floor(rng)]
    return Room(_atlas(faces), np.array([-half[0], -half[1], 0.0]), np.array([half[0], half[1], height]))


def paint_module(rng: np.random.Generator) -> Room:
    """Paint a station module along x, with racks on four sides and a hatch at both ends."""
    half = rng.uniform(1.35, 1.65)
    length = rng.uniform(3.6, 4.4)
    base = _muted(rng, 125, 185, 0.06)
    faces = [_hatch(rng, base) for _ in range(2)] + [_racks(rng, base * rng.uniform(0.85, 1.08)) for _ in range(4)]
    # The background is soft and pale, because the camera focuses on people.
    faces = [
        cv2.addWeighted(cv2.GaussianBlur(face, (0, 0), 2.0), 0.45, _plain(rng, base, 3.0), 0.55, 0.0) for face in faces
    ]
    return Room(_atlas(faces), np.array([-length, -half, -half]), np.array([length, half, half]))


def _atlas(faces: list[np.ndarray]) -> np.ndarray:
    occlusion = _occlusion()
    lit = [(face * occlusion).astype(np.uint8) for face in faces]
    return np.concatenate([np.concatenate(lit[:3], axis=1), np.concatenate(lit[3:], axis=1)], axis=0)


@cache
def _occlusion() -> Array:
    """Return the light on a face, ``(FACE, FACE, 3)``, which is weaker in corners."""
    edge = np.abs(np.linspace(-1.0, 1.0, FACE)) ** 6
    return np.repeat((1.0 - 0.30 * np.maximum.outer(edge, edge))[..., None], 3, axis=-1)


def _muted(rng: np.random.Generator, low: float, high: float, saturation: float = 0.22) -> Array:
    return rng.uniform(low, high) * (1.0 + saturation * rng.uniform(-1.0, 1.0, 3))


def _plain(rng: np.random.Generator, colour: Array, grain: float = 6.0) -> np.ndarray:
    noise = cv2.resize(rng.normal(0.0, 1.0, (22, 22)).astype(np.float32), (FACE, FACE), interpolation=cv2.INTER_CUBIC)
    fine = rng.normal(0.0, 0.5, (FACE, FACE)).astype(np.float32)
    grained = grain * (noise + fine)
    # Channels are processed separately, because numpy is slow along an axis of three.
    channels = [np.clip(level + grained, 0, 255).astype(np.uint8) for level in colour[:, None, None]]
    return np.asarray(cv2.merge(channels))


def _colour(values: Array) -> Colour:
    # numpy.clip takes ten times as long for few values.
    red, green, blue = (min(max(value, 0.0), 255.0) for value in values.tolist())
    return red, green, blue


def _box(face: np.ndarray, x: float, y: float, width: float, height: float, colour: Array, border: float = 0.6) -> None:
    first, last = (int(x), int(y)), (int(x + width), int(y + height))
    cv2.rectangle(face, first, last, _colour(colour), -1)
    if border:
        cv2.rectangle(face, first, last, _colour(colour * border), 1)


def _wall(rng: np.random.Generator, colour: Array) -> np.ndarray:
    face = _plain(rng, colour, 4.0)
    pattern = rng.integers(4)
    if pattern == 0:
        for stripe in range(0, FACE, int(rng.integers(8, 18))):
            cv2.line(face, (stripe, 0), (stripe, FACE), _colour(colour * 0.93), 1)
    elif pattern == 1:
        for row, course in enumerate(range(0, FACE, 9)):
            cv2.line(face, (0, course), (FACE, course), _colour(colour * 0.86), 1)
            for joint in range((row % 2) * 9, FACE, 18):
                cv2.line(face, (joint, course), (joint, course + 9), _colour(colour * 0.86), 1)
    elif pattern == 2:
        _box(face, 0, FACE * 0.62, FACE, FACE * 0.38, colour * 0.78)
    for _ in range(int(rng.integers(2, 5))):
        x, kind = rng.uniform(4, FACE - 50), rng.integers(4)
        if kind == 0:
            _window(rng, face, x)
        elif kind == 1:
            _box(face, x, FACE * 0.30, 26, FACE * 0.70, _muted(rng, 70, 150))
            cv2.circle(face, (int(x + 22), int(FACE * 0.66)), 1, (220, 210, 150), -1)
        elif kind == 2:
            width, height, y = rng.uniform(10, 26), rng.uniform(12, 28), rng.uniform(25, 55)
            _box(face, x, y, width, height, _muted(rng, 60, 120), 0.5)
            _box(face, x + 2, y + 2, width - 4, height - 4, _muted(rng, 110, 220, 0.4), 0)
        else:
            _shelf(rng, face, x)
    _box(face, 0, FACE - 7, FACE, 7, colour * 0.55, 0)
    return face


def _window(rng: np.random.Generator, face: np.ndarray, x: float) -> None:
    top, width, height = FACE * 0.2, rng.uniform(26, 44), FACE * 0.38
    _box(face, x - 2, top - 2, width + 4, height + 4, np.array([235.0, 232, 225]))
    sky, ground = np.array([175.0, 205, 235]) * rng.uniform(0.8, 1.05), _muted(rng, 80, 130, 0.3)
    _box(face, x, top, width, height, sky, 0)
    _box(face, x, top + height * 0.65, width, height * 0.35, ground, 0)
    cv2.line(face, (int(x + width / 2), int(top)), (int(x + width / 2), int(top + height)), (235, 232, 225), 2)


def _shelf(rng: np.random.Generator, face: np.ndarray, x: float) -> None:
    wood, top = _muted(rng, 80, 140), FACE * rng.uniform(0.38, 0.6)
    _box(face, x, top, 34, FACE - top, wood)
    for y in np.arange(top + 3, FACE - 18, 20):
        _box(face, x + 2, y, 30, 16, wood * 0.55, 0)
        left = x + 3
        while left < x + 28:
            width = rng.uniform(2, 5)
            _box(face, left, y + rng.uniform(1, 6), width, 15, _muted(rng, 80, 190, 0.5), 0)
            left += width + 1


def _ceiling(rng: np.random.Generator) -> np.ndarray:
    face = _plain(rng, _muted(rng, 195, 225, 0.04), 3.0)
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(20, FACE - 60, 2)
        _box(face, x, y, 40, 12, np.array([255.0, 252, 240]), 0.8)
    return face


def _floor(rng: np.random.Generator) -> np.ndarray:
    kind = rng.integers(3)
    colour = _muted(rng, 75, 150, 0.14) * np.array([1.1, 1.0, 0.85])
    face = _plain(rng, colour, 5.0)
    if kind == 0:
        for row, x in enumerate(range(0, FACE, 10)):
            tone = colour * rng.uniform(0.88, 1.1)
            _box(face, x, 0, 10, FACE, tone, 0.75)
            for y in range(int(rng.integers(0, 40)), FACE, 44 + row % 5):
                cv2.line(face, (x, y), (x + 10, y), _colour(colour * 0.7), 1)
    elif kind == 1:
        for x in range(0, FACE, 16):
            for y in range(0, FACE, 16):
                _box(face, x, y, 16, 16, colour * (1.0 if (x + y) // 16 % 2 else rng.uniform(0.78, 0.9)), 0.8)
    else:
        x, y = rng.uniform(20, 60, 2)
        carpet = _muted(rng, 70, 160, 0.4)
        _box(face, x, y, 90, 80, carpet, 0.7)
        _box(face, x + 6, y + 6, 78, 68, carpet * 1.15, 0.8)
    return face


def _racks(rng: np.random.Generator, colour: Array) -> np.ndarray:
    face = _plain(rng, colour, 4.0)
    left = 0.0
    while left < FACE:
        width, top = rng.uniform(26, 44), 0.0
        while top < FACE:
            height = rng.uniform(20, 60)
            panel = colour * rng.uniform(0.78, 1.12)
            _box(face, left, top, width, height, panel, 0.6)
            _fitting(rng, face, left, top, width, height, panel)
            top += height
        left += width
    for _ in range(int(rng.integers(1, 3))):
        _handrail(rng, face)
        _cable(rng, face)
    return face


def _fitting(
    rng: np.random.Generator, face: np.ndarray, x: float, y: float, width: float, height: float, panel: Array
) -> None:
    kind = rng.integers(6)
    if kind == 0:
        for line in np.arange(y + 4, y + height - 4, 4):
            cv2.line(face, (int(x + 4), int(line)), (int(x + width - 4), int(line)), _colour(panel * 0.6), 1)
    elif kind == 1:
        _box(face, x + 4, y + 4, width - 8, min(height - 8, 22), np.array([30.0, 34, 44]), 0.4)
        _box(
            face, x + 6, y + 6, width - 12, min(height - 12, 17), np.array([70.0, 120, 170]) * rng.uniform(0.6, 1.3), 0
        )
    elif kind == 2:
        bag = np.array([225.0, 220, 205]) * rng.uniform(0.75, 1.0)
        _box(face, x + 3, y + 3, width - 6, height - 6, bag, 0.7)
        cv2.line(face, (int(x + width / 2), int(y + 3)), (int(x + width / 2), int(y + height - 3)), (60, 80, 120), 2)
    elif kind == 3:
        for _ in range(5):
            spot = (int(x + rng.uniform(5, width - 5)), int(y + rng.uniform(5, height - 5)))
            cv2.circle(face, spot, 2, _colour(_muted(rng, 90, 220, 0.6)), -1)
    elif kind == 4:
        _box(face, x + width / 2 - 6, y + 5, 12, 5, np.array([240.0, 240, 235]), 0.7)


def _handrail(rng: np.random.Generator, face: np.ndarray) -> None:
    x, y, length = rng.uniform(15, 90), rng.uniform(15, FACE - 15), rng.uniform(40, 75)
    bar = np.array([[128.0, 140, 168], [196, 186, 150], [206, 210, 214]])[rng.integers(3)]
    along = rng.random() < 0.75
    first, last = ((x, y), (x + length, y)) if along else ((y, x), (y, x + length))
    start, end = np.array(first).astype(int), np.array(last).astype(int)
    cv2.line(face, tuple(start + 3), tuple(end + 3), (40, 40, 44), 3, cv2.LINE_AA)
    cv2.line(face, tuple(start), tuple(end), _colour(bar), 3, cv2.LINE_AA)
    for foot in (start, end):
        cv2.circle(face, tuple(int(value) for value in foot), 3, _colour(bar * 0.6), -1, cv2.LINE_AA)


def _cable(rng: np.random.Generator, face: np.ndarray) -> None:
    ends, slack = rng.uniform(0, FACE, (2, 2)), rng.normal(0.0, 22.0, 2)
    steps = np.linspace(0.0, 1.0, 16)[:, None]
    curve = ends[0] + steps * (ends[1] - ends[0]) + 4 * steps * (1 - steps) * slack
    colour = np.array([[40.0, 42, 46], [60, 90, 160], [200, 200, 205], [170, 70, 50]])[rng.integers(4)]
    cv2.polylines(face, [curve.astype(np.int32)], False, _colour(colour), 1, cv2.LINE_AA)


def _hatch(rng: np.random.Generator, colour: Array) -> np.ndarray:
    face = _racks(rng, colour * 0.92)
    centre = (FACE // 2 + int(rng.integers(-10, 11)), FACE // 2 + int(rng.integers(-10, 11)))
    radius = int(rng.integers(34, 52))
    cv2.circle(face, centre, radius + 7, _colour(colour * 1.1), -1, cv2.LINE_AA)
    cv2.circle(face, centre, radius + 7, _colour(colour * 0.5), 2, cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.circle(face, centre, radius, (22, 26, 34), -1, cv2.LINE_AA)
        cv2.circle(face, centre, radius * 2 // 3, (52, 60, 72), -1, cv2.LINE_AA)
    else:
        cv2.circle(face, centre, radius, (8, 10, 18), -1, cv2.LINE_AA)
        blue = np.array([70.0, 120, 190]) * rng.uniform(0.8, 1.2)
        cv2.ellipse(face, centre, (radius - 1, radius - 1), float(rng.uniform(0, 360)), 0, 180, _colour(blue), -1)
    return face
