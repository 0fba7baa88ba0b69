"""Placement of the panels of people: near their boxes, without overlap, and away from faces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Rectangle = tuple[int, int, int, int]
"""Pixels ``x1 y1 x2 y2``."""

_CELLS = 24
"""The number of positions along each side of the frame, in addition to those at the box."""


class Layout:
    """The panels of one frame, which are placed one by one.

    Args:
        size: height and width of the frame.
        boxes: ``(4,)`` pixels of every person.
        rolls: degrees clockwise by which each person is turned; NaN counts as upright.
        keep_free: rectangles that no panel may cover.
    """

    def __init__(
        self,
        size: tuple[int, int],
        boxes: Sequence[np.ndarray],
        rolls: Sequence[float],
        keep_free: Sequence[Rectangle] = (),
    ) -> None:
        self._size = size
        self._boxes = np.array(boxes, float).reshape(-1, 4)
        self._heads = np.array([_head(box, roll) for box, roll in zip(self._boxes, rolls, strict=True)]).reshape(-1, 4)
        self._taken: list[Rectangle] = list(keep_free)

    def place(self, card: tuple[int, int], box: np.ndarray) -> tuple[int, int] | None:
        """Return left and top of a person's panel of a given height and width; None if there is no space."""
        height, width = card
        if height > self._size[0] or width > self._size[1]:
            return None
        corners = self._candidates(height, width, box)
        panels = np.concatenate([corners, corners + np.array([width, height])], axis=1)
        free = ~(_overlap(panels, np.array(self._taken, float).reshape(-1, 4)) > 0).any(axis=1)
        if not free.any():
            return None
        panels = panels[free]
        best = panels[self._cost(panels, box).argmin()].astype(int).tolist()
        self._taken.append((best[0], best[1], best[2], best[3]))
        return best[0], best[1]

    def nearest(self, card: tuple[int, int], box: np.ndarray) -> tuple[int, int]:
        """Return left and top of a panel without free space: at the box, over other panels."""
        return int(box[0]), max(0, int(box[1]) - card[0])

    def _candidates(self, height: int, width: int, box: np.ndarray) -> np.ndarray:
        """Return ``(N, 2)`` left and top corners inside the frame: first around the box, then in the whole frame."""
        x1, y1, x2, y2 = box.tolist()
        around = [(x1, y1 - height), (x2 - width, y1 - height), (x2, y1), (x1 - width, y1), (x1, y2)]
        around += [(x1, y2 - height), (x2 - width, y2 - height), (x1, y1), (x2 - width, y1)]
        room = np.array([self._size[1] - width, self._size[0] - height])
        columns, rows = (np.linspace(0, most, _CELLS).round() for most in room)
        everywhere = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        return np.concatenate([np.clip(np.array(around, float), 0, room), everywhere])

    def _cost(self, panels: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Return the cost of each position: covered faces and people, and the distance to the box."""
        area = (panels[0, 2] - panels[0, 0]) * (panels[0, 3] - panels[0, 1])
        people = _overlap(panels, self._boxes).sum(axis=1) / area
        # A panel over a small face loses little of its own area but hides the whole face.
        faces = _share(panels, self._heads).sum(axis=1)
        gap = np.maximum(np.maximum(panels[:, :2] - box[2:], box[:2] - panels[:, 2:]), 0)
        distance = np.hypot(gap[:, 0], gap[:, 1]) / math.hypot(*self._size)
        order = np.minimum(np.arange(len(panels)) * 0.005, 0.06)
        cost: np.ndarray = people + 3 * faces + 6 * distance + order
        return cost


def _head(box: np.ndarray, roll: float) -> np.ndarray:
    """Return the likely region of a person's head: the half of the box in the direction of the roll."""
    angle = math.radians(0 if math.isnan(roll) else roll)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    middle = centre + half * [0.6 * math.sin(angle), -0.6 * math.cos(angle)]
    return np.concatenate([middle - 0.4 * half, middle + 0.4 * half])


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the ``(N, M)`` areas of overlap of rectangles ``(N, 4)`` and ``(M, 4)``."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    areas: np.ndarray = sides.clip(0).prod(axis=2)
    return areas


def _share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return :func:`_overlap` as shares of the areas of ``b``."""
    shares: np.ndarray = _overlap(a, b) / (b[:, 2:] - b[:, :2]).prod(axis=1).clip(1)
    return shares
