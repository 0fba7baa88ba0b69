"""Backgrounds behind floating people: pictures of walls, rotated, or a drawn station module; both move slowly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from microg_da.errors import InputError
from microg_da.synthetic.geometry import Camera, look_at, rotation
from microg_da.synthetic.scenery import Room, paint_module
from microg_da.transforms.camera import turn, warp

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LEAST_SIDE = 64
"""Pixels of the smallest short side of a picture."""

SPIN, DRIFT = 3.0, 0.03
"""The largest speeds of a background: degrees and heights of the frame per second."""

_TRIES = 24
"""Parts of a picture that are looked at for one with something in it."""
_FLAT = 2.5
"""Levels: where the neighbourhood of a pixel deviates less, nothing is in it."""
_FOCAL = 0.9


class Background(Protocol):
    """The background behind people."""

    @property
    def name(self) -> str:
        """Its description for the provenance."""
        ...

    def frame(self, seconds: float) -> np.ndarray:
        """The picture at a moment, uint8 ``(H, W, 3)``, channels blue, green, red."""
        ...


@dataclass(frozen=True)
class Wall:
    """A part of a picture, turned.

    Attributes:
        path: the picture.
        middle: ``(x, y)`` of the part in the picture's pixels.
        scale: size in the frame against the picture.
        roll, spin: degrees clockwise, and per second.
        drift: pixels of the frame per second.
        size: height and width of the frame.
    """

    path: str
    middle: tuple[float, float]
    scale: float
    roll: float
    spin: float
    drift: tuple[float, float]
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name

    def frame(self, seconds: float) -> np.ndarray:
        """See :class:`Background`."""
        height, width = self.size
        linear = self.scale * turn(self.roll + self.spin * seconds)
        to = np.array([width / 2, height / 2]) + np.array(self.drift) * seconds
        matrix = np.column_stack([linear, to - linear @ np.array(self.middle)])
        return warp(_read_picture(self.path), matrix, self.size, shrink=True)


@dataclass(frozen=True)
class Module:
    """A station module of the simulator, seen by a camera at any roll.

    Attributes:
        room: the module.
        position: ``(3,)``, where the camera is at the moment 0.
        aim: ``(3,)``, where it looks.
        roll, spin: radians, and per second.
        drift: ``(3,)`` metres per second.
        size: height and width of the frame.
    """

    room: Room
    position: np.ndarray
    aim: np.ndarray
    roll: float
    spin: float
    drift: np.ndarray
    size: tuple[int, int]
    name: str = "drawn module"

    def frame(self, seconds: float) -> np.ndarray:
        """See :class:`Background`."""
        height, width = self.size
        side = max(height, width)
        position = (self.position + self.drift * seconds)[None]
        axes = look_at(position, self.aim[None], np.array([self.roll + self.spin * seconds]))
        square = self.room.background(Camera(position, axes, _FOCAL), np.eye(3), np.zeros(3), side)[0]
        top, left = (side - height) // 2, (side - width) // 2
        return np.ascontiguousarray(square[top : top + height, left : left + width, ::-1])


def find_pictures(folder: Path) -> tuple[str, ...]:
    """The pictures in a folder and below, sorted; each is read once, so that a damaged one shows at once.

    Raises:
        InputError: if there is none, or one cannot be read or is too small.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of background pictures")
    paths = tuple(str(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no pictures there ({', '.join(SUFFIXES)})")
    for path in paths:
        _read_picture(path)
    return paths


def draw_background(rng: np.random.Generator, pictures: Sequence[str], size: tuple[int, int]) -> Background:
    """A part of one of the pictures, or a drawn module where there are none."""
    if not pictures:
        return _draw_module(rng, size)
    path = pictures[int(rng.integers(len(pictures)))]
    return _draw_wall(rng, path, size)


def _draw_wall(rng: np.random.Generator, path: str, size: tuple[int, int]) -> Wall:
    """The part with the least flat area of some; a texture of a whole module is mostly empty."""
    picture, flat = _read_picture(path), _flat_sums(path)
    radius = math.hypot(*size) / 2
    scale = max(1.05 * 2 * radius / min(picture.shape[:2]), float(rng.uniform(0.7, 1.3)))
    reach = radius / scale
    span = np.array([picture.shape[1], picture.shape[0]])
    middles = reach + rng.random((_TRIES, 2)) * np.maximum(span - 2 * reach, 0.0)
    middle = middles[int(np.argmin([_flat_share(flat, each, reach) for each in middles]))]
    angle, speed = rng.uniform(0, 2 * math.pi), DRIFT * size[0] * rng.random()
    return Wall(
        path=path,
        middle=(float(middle[0]), float(middle[1])),
        scale=scale,
        roll=float(rng.uniform(0, 360)),
        spin=float(rng.uniform(-SPIN, SPIN)),
        drift=(float(speed * math.cos(angle)), float(speed * math.sin(angle))),
        size=size,
    )


def _draw_module(rng: np.random.Generator, size: tuple[int, int]) -> Module:
    room = paint_module(rng)
    middle, half = (room.low + room.high) / 2, (room.high - room.low) / 2
    position = middle + half * rng.uniform([-0.6, -0.4, -0.4], [0.0, 0.4, 0.4])
    facing = rotation("z", rng.uniform(-0.7, 0.7)) @ rotation("y", rng.uniform(-0.5, 0.5)) @ np.array([1.0, 0.0, 0.0])
    return Module(
        room=room,
        position=position,
        aim=position + 2.0 * facing,
        roll=float(rng.uniform(-math.pi, math.pi)),
        spin=float(np.deg2rad(rng.uniform(-SPIN, SPIN))),
        drift=rng.normal(0.0, DRIFT, 3),
        size=size,
    )


@lru_cache(maxsize=32)
def _read_picture(path: str) -> np.ndarray:
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except cv2.error:  # an empty file
        image = None
    if image is None:
        raise InputError(f"{path}: not a readable picture")
    if min(image.shape[:2]) < LEAST_SIDE:
        raise InputError(f"{path}: is {image.shape[1]}×{image.shape[0]} pixels; {LEAST_SIDE} is the least for a side")
    return image


@lru_cache(maxsize=32)
def _flat_sums(path: str) -> np.ndarray:
    """The summed area table of pixels around which a picture is flat."""
    grey = cv2.cvtColor(_read_picture(path), cv2.COLOR_BGR2GRAY).astype(np.float32)
    mean, square = cv2.blur(grey, (15, 15)), cv2.blur(grey * grey, (15, 15))
    return np.asarray(cv2.integral((square - mean * mean < _FLAT**2).astype(np.uint8)))


def _flat_share(sums: np.ndarray, middle: np.ndarray, reach: float) -> float:
    left, top = np.maximum(middle - 0.8 * reach, 0).astype(int)
    right, bottom = np.minimum((middle + 0.8 * reach).astype(int), [sums.shape[1] - 1, sums.shape[0] - 1])
    area = max((right - left) * (bottom - top), 1)
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return float(inside) / float(area)
