"""Motion of floating people: the map from original frames to the picture over time, and the choice of a position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from microg_da.transforms.camera import turn

_LOOKED_AT = 5
"""Number of frames in which a position is evaluated."""
_POINTS = 100
"""Number of points that represent a mask."""
_STEADY = 0.2
"""Standard deviation, in seconds, of the smoothing of a person's path."""
_WHOLE = 0.02
"""Maximum share of the outline at the border of the frame for a person who counts as complete."""


@dataclass(frozen=True)
class Float:
    """The motion of a person in a clip.

    Attributes:
        path: ``(frames, 2)``, the smoothed centre of the person in original pixels.
        key: the frame at which the motion starts from its origin.
        fps: frames per second.
        roll: degrees clockwise at ``key``.
        spin: degrees per second.
        drift: pixels per second, right and down.
        scale: scale from the original to the picture.
        place: ``(x, y)``, position of the centre at ``key``.
    """

    path: np.ndarray
    key: int
    fps: float
    roll: float
    spin: float
    drift: tuple[float, float]
    scale: float
    place: tuple[float, float]

    def roll_at(self, frame: int) -> float:
        """Return the roll in a frame, in degrees clockwise."""
        return self.roll + self.spin * (frame - self.key) / self.fps

    def matrix(self, frame: int) -> np.ndarray:
        """Return the ``(2, 3)`` map from original pixels to pixels of the picture in a frame."""
        seconds = (frame - self.key) / self.fps
        linear = self.scale * turn(self.roll_at(frame))
        middle = np.array(self.place) + np.array(self.drift) * seconds
        return np.column_stack([linear, middle - linear @ self.path[frame]])


@dataclass(frozen=True)
class Looks:
    """The parts of a person that should be visible or hidden.

    Attributes:
        body: ``(N, 2)`` points of the masks of some frames, relative to the path, with roll and drift.
        cut: ``(M, 2)`` points at which the border of the original frame cuts the person.
        cut_share: share of these points in the outline.
        now: ``(L, 2)``, the points of ``body`` at the key frame.
    """

    body: np.ndarray
    cut: np.ndarray
    cut_share: float
    now: np.ndarray


def smooth_path(masks: np.ndarray, fps: float) -> np.ndarray:
    """Return the centre of a person in each frame, ``(frames, 2)``, smoothed by a Gaussian of a fifth of a second.

    Args:
        masks: ``(frames, H, W)`` bool, without empty masks.
        fps: frames per second.
    """
    frames = len(masks)
    middles = np.empty((frames, 2))
    for number, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        middles[number] = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
    width = _STEADY * fps
    offsets = np.arange(frames)
    weights = np.exp(-0.5 * ((offsets[:, None] - offsets) / max(width, 1e-6)) ** 2)
    return np.asarray(weights @ middles / weights.sum(axis=1, keepdims=True))


def find_place(
    motion: Float,
    masks: np.ndarray,
    size: Sequence[int],
    others: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> tuple[Float, np.ndarray]:
    """Choose a position for a person; return the motion and the box.

    A complete person remains complete and is scaled down if the picture is too small. A person who is cut by the
    border of the original frame is placed at the border of the picture, so that the cut is outside. People do not
    overlap if possible.

    Args:
        motion: the motion; its position is replaced, and its scale may be reduced.
        masks: ``(frames, H, W)`` bool.
        size: height and width of the picture.
        others: boxes of people with a position, in pixels.
        rng: random generator for ties.
    """
    height, width = size
    looks = _looks(motion, masks)
    whole = looks.cut_share <= _WHOLE
    if whole:
        extent = np.ptp(looks.body, axis=0)
        factor = float(min(1.0, (0.94 * np.array([width, height]) / np.maximum(extent, 1e-6)).min()))
        looks = replace(looks, body=looks.body * factor, cut=looks.cut * factor, now=looks.now * factor)
        motion = replace(motion, scale=motion.scale * factor)
    reach = np.linspace(0.08, 0.92, 11) if whole else np.linspace(-0.25, 1.25, 17)
    places = np.stack(np.meshgrid(reach * width, reach * height), axis=-1).reshape(-1, 2)
    places += rng.uniform(-0.02, 0.02, places.shape) * height
    costs = _costs(looks, places, size, others) + 0.25 * rng.random(len(places))
    best = places[int(np.argmin(costs))]
    now = looks.now + best
    return replace(motion, place=(float(best[0]), float(best[1]))), np.concatenate([now.min(axis=0), now.max(axis=0)])


def _costs(looks: Looks, places: np.ndarray, size: Sequence[int], others: Sequence[np.ndarray]) -> np.ndarray:
    height, width = size
    seen = _inside(looks.body, places, size)
    now = _inside(looks.now, places, size)
    costs = 1.5 * (1 - seen) + 10 * np.maximum(0.0, 0.6 - np.minimum(seen, now))
    if len(looks.cut):
        costs += 4 * min(1.0, 8 * looks.cut_share) * _inside(looks.cut, places, size)
    middle = np.abs(places / [width, height] - 0.5).max(axis=1)
    costs += 0.4 * middle
    low, high = looks.now.min(axis=0) + places, looks.now.max(axis=0) + places
    for box in others:
        common = np.minimum(high, box[2:]) - np.maximum(low, box[:2])
        areas = np.minimum(np.prod(high - low, axis=1), np.prod(box[2:] - box[:2]))
        costs += 3 * np.prod(np.maximum(common, 0.0), axis=1) / np.maximum(areas, 1.0)
    return np.asarray(costs)


def _inside(points: np.ndarray, places: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return for each position the share of points inside the picture."""
    height, width = size
    there = points[None] + places[:, None]
    return np.asarray(((there >= 0) & (there <= [width, height])).all(axis=2).mean(axis=1))


def _looks(motion: Float, masks: np.ndarray) -> Looks:
    chosen = {motion.key, *np.linspace(0, len(masks) - 1, _LOOKED_AT).astype(int).tolist()}
    centred = replace(motion, place=(0.0, 0.0))
    body, cut, outline_points, now = [], [np.empty((0, 2))], 0, np.empty((0, 2))
    for frame in sorted(chosen):
        matrix = centred.matrix(frame)
        points = _mask_points(masks[frame]) @ matrix[:, :2].T + matrix[:, 2]
        body.append(points)
        if frame == motion.key:
            now = points
        outline = _outline_points(masks[frame])
        at_border = _at_border(outline, masks.shape[1:])
        outline_points += len(outline)
        cut.append((outline[at_border] + 0.5) @ matrix[:, :2].T + matrix[:, 2])
    cuts = np.concatenate(cut)
    return Looks(np.concatenate(body), cuts, len(cuts) / max(outline_points, 1), now)


def _mask_points(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    chosen = np.linspace(0, len(rows) - 1, min(_POINTS, len(rows))).astype(int)
    return np.stack([columns[chosen], rows[chosen]], axis=1) + 0.5


def _outline_points(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.concatenate([contour[:, 0] for contour in contours]).astype(float)


def _at_border(points: np.ndarray, size: Sequence[int]) -> np.ndarray:
    height, width = size
    return np.asarray(((points <= 1) | (points >= np.array([width, height]) - 2)).any(axis=1))
