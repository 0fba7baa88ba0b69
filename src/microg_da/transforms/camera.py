"""A rolling camera: one map of the image plane for each moment, applied to frames, boxes, masks and points.

Angles are in degrees clockwise. Pixel coordinates are continuous: the first pixel spans 0 to 1. A view has the size of
the original frame. Only the parts of the view outside the frame are filled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import cv2
import numpy as np
import torch

from microg_da.errors import InputError, unknown_name
from microg_da.transforms.affine import clip_boxes, move_boxes

Fill = Literal["reflect", "blur"]
FILLS: tuple[Fill, ...] = get_args(Fill)

MARGIN = 0.01
"""Minimum distance of people from each side of the view, as a share of the view."""

BLACK = 24
"""Maximum colour value of a black pixel."""
BAR_LIGHT = 0.02
"""Share of pixels in a row or column of a bar that may be brighter, because of compression."""
_OUTLINE = 48
"""Number of points that represent the ellipse in a box."""


@dataclass(frozen=True)
class RollDistribution:
    """Distribution of the roll of a clip.

    Attributes:
        kind: a key of :attr:`PARAMETERS`.
        parameters: ``()`` for ``uniform``; mean in degrees and concentration for ``von-mises``; mean and standard
            deviation in degrees for ``normal``; the angles in degrees for ``fixed``.
    """

    kind: str = "uniform"
    parameters: tuple[float, ...] = ()

    PARAMETERS: ClassVar[dict[str, str]] = {
        "uniform": "",
        "von-mises": "MEAN,CONCENTRATION",
        "normal": "MEAN,DEVIATION",
        "fixed": "DEGREES,DEGREES,…",
    }

    @classmethod
    def parse(cls, text: str, where: str = "rolls") -> RollDistribution:
        """Read ``uniform``, ``von-mises:MEAN,CONCENTRATION``, ``normal:MEAN,DEVIATION`` or ``fixed:90,180,…``.

        Raises:
            InputError: for another text.
        """
        kind, _, rest = text.partition(":")
        if kind not in cls.PARAMETERS:
            raise unknown_name("distribution of rolls", kind, cls.PARAMETERS, where)
        try:
            numbers = tuple(float(part) for part in rest.split(",")) if rest else ()
        except ValueError:
            numbers = (math.nan,)
        needed = {"uniform": len(numbers) == 0, "fixed": len(numbers) > 0}.get(kind, len(numbers) == 2)
        wide = kind not in ("von-mises", "normal") or (len(numbers) == 2 and numbers[1] >= 0)
        if not needed or not wide or not all(map(math.isfinite, numbers)):
            form = f"{kind}:{cls.PARAMETERS[kind]}" if cls.PARAMETERS[kind] else kind
            raise InputError(f"{where}: {text!r} is not {form}, with finite numbers and a width of 0 or more")
        return cls(kind, numbers)

    def __str__(self) -> str:
        return self.kind + (":" + ",".join(f"{number:g}" for number in self.parameters) if self.parameters else "")

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one angle in degrees, in [0, 360)."""
        if self.kind == "von-mises":
            mean, concentration = self.parameters
            angle = math.degrees(rng.vonmises(math.radians(mean), concentration))
        elif self.kind == "normal":
            mean, deviation = self.parameters
            angle = rng.normal(mean, deviation)
        elif self.kind == "fixed":
            angle = self.parameters[int(rng.integers(len(self.parameters)))]
        else:
            angle = rng.uniform(0.0, 360.0)
        return float(angle % 360.0)


@dataclass(frozen=True)
class CameraMotion:
    """Movement of a camera during a clip.

    Attributes:
        roll: roll at second 0, in degrees clockwise.
        spin: change of the roll, in degrees per second.
        drift: velocity to the right and down, in heights of the frame per second.
        zoom: factor; values above 1 enlarge.
        pan: shift to the right and down at second 0, in heights of the frame.
    """

    roll: float
    spin: float = 0.0
    drift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    pan: tuple[float, float] = (0.0, 0.0)

    def matrix(self, seconds: float, size: Sequence[int]) -> np.ndarray:
        """Return the ``(2, 3)`` map from a frame of this size to the view, in continuous pixel coordinates."""
        height, width = size
        centre = np.array([width / 2, height / 2])
        linear = self.zoom * turn(self.roll + self.spin * seconds)
        shift = (np.array(self.pan) + np.array(self.drift) * seconds) * height
        return np.column_stack([linear, centre - linear @ centre + shift])


def turn(degrees: float) -> np.ndarray:
    """Return the ``(2, 2)`` map that turns clockwise, without rounding at multiples of 90°."""
    quarter, rest = divmod(degrees % 360.0, 90.0)
    cos, sin = math.cos(math.radians(rest)), math.sin(math.radians(rest))
    turned = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), int(quarter)) @ turned)


def draw_motion(rng: np.random.Generator, rolls: RollDistribution, spin: float, drift: float) -> CameraMotion:
    """Draw a random motion.

    Args:
        rng: the random generator.
        rolls: the distribution of the roll.
        spin: the maximum speed of rotation, in degrees per second; the sign is random.
        drift: the maximum speed of translation, in heights of the frame per second; the direction is random.
    """
    roll = rolls.draw(rng)
    speed, direction = drift * rng.random(), rng.uniform(0.0, 2 * math.pi)
    return CameraMotion(
        roll=roll,
        spin=float(rng.uniform(-1.0, 1.0) * spin),
        drift=(float(speed * math.cos(direction)), float(speed * math.sin(direction))),
    )


def keep_inside(motion: CameraMotion, seen: Sequence[tuple[float, np.ndarray]], size: Sequence[int]) -> CameraMotion:
    """Add a pan and, if necessary, reduce the zoom of a motion, so that points stay in the view.

    The zoom is the largest and the pan the smallest with which all points have a distance of :data:`MARGIN` to the
    border.

    Args:
        motion: the motion. Its zoom is never increased, and its pan is replaced.
        seen: moments in seconds, and the points ``(N, 2)`` in pixels of the frame that must be visible at each moment.
        size: height and width of the frame.
    """
    height, width = size
    centred = replace(motion, pan=(0.0, 0.0))
    free = (1 - 2 * MARGIN) * np.array([width, height])
    zoom = motion.zoom
    points = [(seconds, cloud) for seconds, cloud in seen if len(cloud)]
    if not points:
        return centred
    for _ in range(200):  # drift does not scale with the zoom, so each step removes only a part of the excess
        low, high = _extent(replace(centred, zoom=zoom), points, size)
        ratio = float(min(1.0, (free / np.maximum(high - low, 1e-9)).min()))
        if ratio >= 1.0 - 1e-9:
            break
        zoom *= ratio
    low, high = _extent(replace(centred, zoom=zoom), points, size)
    edge = MARGIN * np.array([width, height])
    # The smallest shift: points inside stay, points outside are moved to the margin.
    pan = np.clip(0.0, edge - low, np.maximum(edge + free - high, edge - low)) / height
    return replace(centred, zoom=zoom, pan=(float(pan[0]), float(pan[1])))


def outline(boxes: np.ndarray) -> np.ndarray:
    """Return points ``(48 K, 2)`` on the ellipses inside boxes ``(K, 4)``."""
    angles = np.linspace(0.0, 2 * math.pi, _OUTLINE, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.asarray((centre[:, None] + half[:, None] * circle).reshape(-1, 2))


def mask_outline(mask: np.ndarray) -> np.ndarray:
    """Return the corners ``(N, 2)`` of the convex hull of a mask's pixels; none for an empty mask."""
    points = cv2.findNonZero(mask.astype(np.uint8))
    if points is None:
        return np.empty((0, 2))
    hull = cv2.convexHull(points)[:, 0].astype(float)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    return np.asarray((hull[:, None] + corners).reshape(-1, 2))


def without_bars(image: np.ndarray) -> np.ndarray:
    """Replace the black bars of a frame uint8 ``(H, W, 3)`` by the mirror image of the picture between them.

    Otherwise the bars would turn with the picture and reveal the roll. A frame without bars, or a completely black
    frame, is returned unchanged.
    """
    bright = image.max(axis=2) > BLACK
    rows, columns = (np.flatnonzero(bright.mean(axis=axis) > BAR_LIGHT) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return image
    (height, width), top, left = image.shape[:2], int(rows[0]), int(columns[0])
    bottom, right = height - 1 - int(rows[-1]), width - 1 - int(columns[-1])
    if not any((top, bottom, left, right)):
        return image
    inside = np.ascontiguousarray(image[top : height - bottom, left : width - right])
    return np.asarray(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REFLECT))


def view_frame(image: np.ndarray, matrix: np.ndarray, fill: Fill = "reflect") -> np.ndarray:
    """Map a frame uint8 ``(H, W, 3)`` to the view of the camera.

    Args:
        image: the frame.
        matrix: see :meth:`CameraMotion.matrix`.
        fill: content outside the frame: ``"reflect"`` for its mirror image, ``"blur"`` for a blurred mirror image.

    Raises:
        InputError: for another ``fill``.
    """
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    image = without_bars(image)
    seen = warp(image, matrix, image.shape[:2])
    if fill == "reflect":
        return seen
    height, width = image.shape[:2]
    reach = max(height // 6, 1)
    flat = warp(cv2.blur(image, (reach, reach), borderType=cv2.BORDER_REFLECT), matrix, (height, width))
    edge = max(height // 40, 1)
    inside = cv2.copyMakeBorder(np.full((height, width), 255, np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1] / edge, 1.0)
    weight = warp(depth.astype(np.float32), matrix, (height, width), border=cv2.BORDER_CONSTANT)[..., None]
    return np.asarray(np.rint(seen * weight + flat * (1 - weight)).astype(np.uint8))


def warp(
    image: np.ndarray, matrix: np.ndarray, size: Sequence[int], border: int = cv2.BORDER_REFLECT, shrink: bool = False
) -> np.ndarray:
    """Map an image ``(H, W)`` or ``(H, W, C)`` to another height and width with bilinear interpolation.

    Args:
        image: uint8 or float32.
        matrix: ``(2, 3)`` in continuous pixel coordinates.
        size: height and width of the result.
        border: border mode of OpenCV.
        shrink: smooth an image before strong reduction.
    """
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    if shrink and scale < 0.7:
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / scale)
    # In OpenCV the origin is the centre of the first pixel.
    moved = matrix.astype(float).copy()
    moved[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return np.asarray(cv2.warpAffine(image, moved, (int(size[1]), int(size[0])), borderMode=border))


def view_boxes(boxes: np.ndarray, matrix: np.ndarray, size: Sequence[int], kind: str = "ellipse") -> np.ndarray:
    """Map boxes ``(K, 4)`` in pixels to the view of the camera, clipped to the view.

    By default, the result bounds the mapped ellipse inside a box: see :func:`microg_da.transforms.affine.move_boxes`.
    """
    height, width = size
    linear, centre = matrix[:, :2], np.array([width / 2, height / 2])
    shift = matrix[:, 2] + linear @ centre - centre
    turned = move_boxes(
        torch.from_numpy(boxes.astype(np.float64)),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.from_numpy(linear.astype(np.float64))[None],
        size,
        kind,
        clip=False,
    )
    return np.asarray(clip_boxes(turned + torch.from_numpy(np.tile(shift, 2)), size).numpy())


def view_mask(mask: np.ndarray, matrix: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Map a mask ``(H, W)`` bool to the view of the camera. A pixel is set if at least half of it is covered."""
    covered = warp(mask.astype(np.float32), matrix, size, border=cv2.BORDER_CONSTANT)
    return np.asarray(covered >= 0.5)


def mask_box(mask: np.ndarray) -> np.ndarray | None:
    """Return the bounding box ``(4,)`` of a mask's pixels, including whole pixels; None for an empty mask.

    Args:
        mask: ``(H, W)`` bool.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def _extent(
    motion: CameraMotion, points: Sequence[tuple[float, np.ndarray]], size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    seen = np.concatenate([_apply(motion.matrix(seconds, size), cloud) for seconds, cloud in points])
    return seen.min(axis=0), seen.max(axis=0)


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])
