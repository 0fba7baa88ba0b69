"""Rotations, a pinhole camera and linear algebra for drawing.

Lengths are in metres, angles in radians. The z axis of the world points up. ``T`` is the number of drawn frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
"""Arrays of points, vectors and angles."""


def rotation(axis: str, angle: Array | float) -> Array:
    """Return rotation matrices ``(..., 3, 3)`` about ``"x"``, ``"y"`` or ``"z"`` for angles ``(...)``."""
    angle = np.asarray(angle, dtype=np.float64)
    still, first, second = {"x": (0, 1, 2), "y": (1, 2, 0), "z": (2, 0, 1)}[axis]
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., still, still] = 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    matrix[..., first, first] = matrix[..., second, second] = cos
    matrix[..., first, second] = -sin
    matrix[..., second, first] = sin
    return matrix


def rotation_about(vector: Array, times: Array | float = 1.0) -> Array:
    """Return rotations ``(..., 3, 3)`` about ``vector`` ``(3,)`` by its length times ``times`` ``(...)``."""
    rate = float(np.sqrt(vector @ vector))
    x, y, z = vector / max(rate, 1e-12)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = (rate * np.asarray(times))[..., None, None]
    turned: Array = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    return turned


def apply(matrix: Array, points: Array) -> Array:
    """Rotate points ``(..., 3)`` by matrices ``(..., 3, 3)``."""
    return (matrix @ points[..., None])[..., 0]


def unit(vectors: Array) -> Array:
    """Scale vectors ``(..., 3)`` to length 1."""
    scaled: Array = vectors / np.maximum(np.sqrt((vectors * vectors).sum(-1, keepdims=True)), 1e-9)
    return scaled


def cross(one: Array, two: Array) -> Array:
    """Return cross products of vectors ``(..., 3)`` of the same shape, four times as fast as numpy for few vectors."""
    x1, y1, z1 = one[..., 0], one[..., 1], one[..., 2]
    x2, y2, z2 = two[..., 0], two[..., 1], two[..., 2]
    product = np.empty_like(one)
    product[..., 0] = y1 * z2 - z1 * y2
    product[..., 1] = z1 * x2 - x1 * z2
    product[..., 2] = x1 * y2 - y1 * x2
    return product


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at ``T`` moments.

    Attributes:
        position: ``(T, 3)`` positions.
        axes: ``(T, 3, 3)``, whose rows are right and down of the image and the direction of view.
        focal: focal length in units of the image's side.
    """

    position: Array
    axes: Array
    focal: float

    def project(self, points: Array) -> tuple[Array, Array]:
        """Return image positions ``(T, ..., 2)`` in units of the side (0…1 is inside) and depths ``(T, ...)``."""
        num_frames = len(points)
        flat = points.reshape(num_frames, -1, 3) - self.position[:, None]
        seen = flat @ self.axes.transpose(0, 2, 1)
        depth = np.maximum(seen[..., 2], 0.05)
        image = 0.5 + self.focal * seen[..., :2] / depth[..., None]
        shape = points.shape[:-1]
        return image.reshape(*shape, 2), depth.reshape(shape)


def look_at(position: Array, aim: Array, roll: Array | float) -> Array:
    """Return axes ``(T, 3, 3)`` of a rolled camera that looks from ``position`` to ``aim``, both ``(T, 3)``.

    With zero roll, up in the world is up in the image. Positive roll turns the image clockwise.
    """
    forward = unit(aim - position)
    right = unit(np.stack([forward[..., 1], -forward[..., 0], np.zeros(len(forward))], axis=-1))
    down = cross(forward, right)
    upright = np.stack([right, down, forward], axis=-2)
    return rotation("z", roll) @ upright
