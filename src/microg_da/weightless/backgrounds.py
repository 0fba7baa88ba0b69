"""Slowly moving backgrounds for floating people: rotated pictures, or a drawn station module."""

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
"""Minimum short side of a picture, in pixels."""

SPIN, DRIFT = 3.0, 0.03
"""Maximum speeds of a background, in degrees and in heights of the frame per second."""

_TRIES = 24
"""Number of regions of a picture among which the region with the most detail is selected."""
_FLAT = 2.5
"""Standard deviation in levels below which the neighbourhood of a pixel counts as flat."""
_FOCAL = 0.9


class Background(Protocol):
    """Interface of backgrounds."""

    @property
    def name(self) -> str:
        """The name in the provenance."""
        ...

    def frame(self, seconds: float) -> np.ndarray:
        """Return the picture at a moment, uint8 ``(H, W, 3)`` with channels blue, green, red."""
        ...


@dataclass(frozen=True)
class Wall:
    """A rotated region of a picture.

    Attributes:
        path: the picture.
        middle: centre ``(x, y)`` of the region in pixels of the picture.
        scale: scale from the picture to the frame.
        roll, spin: degrees clockwise, and degrees per second.
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
        """The file name."""
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
    """A station module of the embedded data, in the view of a rolled camera.

    Attributes:
        room: the module.
        position: ``(3,)``, position of the camera at second 0.
        aim: ``(3,)``, point at which the camera looks.
        roll, spin: radians, and radians per second.
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
    """Return the sorted pictures in a folder and its subfolders; all pictures are read once as a check.

    Raises:
        InputError: if there is no picture, or a picture is unreadable or too small.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: the folder of background pictures does not exist")
    paths = tuple(str(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: the folder contains no pictures ({', '.join(SUFFIXES)})")
    for path in paths:
        _read_picture(path)
    return paths


def draw_background(rng: np.random.Generator, pictures: Sequence[str], size: tuple[int, int]) -> Background:
    """Draw a random region of one of the pictures, or a drawn module if there are no pictures."""
    if not pictures:
        return _draw_module(rng, size)
    path = pictures[int(rng.integers(len(pictures)))]
    return _draw_wall(rng, path, size)


def _draw_wall(rng: np.random.Generator, path: str, size: tuple[int, int]) -> Wall:
    """Return the least flat of some random regions, because large parts of a picture may be empty."""
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
        raise InputError(f"{path}: cannot read the picture: {error.strerror or error}") from error
    except cv2.error:  # an empty file
        image = None
    if image is None:
        raise InputError(f"{path}: not a readable picture")
    if min(image.shape[:2]) < LEAST_SIDE:
        raise InputError(f"{path}: {image.shape[1]}×{image.shape[0]} pixels; expected at least {LEAST_SIDE} per side")
    return image


@lru_cache(maxsize=32)
def _flat_sums(path: str) -> np.ndarray:
    """Return the summed area table of flat pixels."""
    grey = cv2.cvtColor(_read_picture(path), cv2.COLOR_BGR2GRAY).astype(np.float32)
    mean, square = cv2.blur(grey, (15, 15)), cv2.blur(grey * grey, (15, 15))
    return np.asarray(cv2.integral((square - mean * mean < _FLAT**2).astype(np.uint8)))


def _flat_share(sums: np.ndarray, middle: np.ndarray, reach: float) -> float:
    left, top = np.maximum(middle - 0.8 * reach, 0).astype(int)
    right, bottom = np.minimum((middle + 0.8 * reach).astype(int), [sums.shape[1] - 1, sums.shape[0] - 1])
    area = max((right - left) * (bottom - top), 1)
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return float(inside) / float(area)
