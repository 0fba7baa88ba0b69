"""Solids in front of the scenery: chains of capsules, hulls and cuboids, drawn from back to front.

Every solid is projected for all frames at once. OpenCV then fills a few convex polygons for each solid: a dark outline,
the shaded side, the lit side and, on large parts, a highlight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import NamedTuple

import cv2
import numpy as np

from microg_da.synthetic.geometry import Array, Camera

Colour = tuple[float, float, float]
"""A colour as red, green, blue in 0…255."""
Paint = Sequence[int]
"""A rounded colour for OpenCV, so that it is not rounded for every polygon."""

NOBODY = -1
SUBPIXEL_BITS = 4
END_POINTS, BALL_POINTS = 6, 10
OUTLINE, SHADED, LIT, HIGHLIGHT = range(4)
TONES = np.array([0.30, 0.72, 1.0, 1.2])
SHRINK = np.array([1.0, 1.0, 0.72, 0.36])
SHIFT = np.array([0.0, 0.0, 0.24, 0.46])
OUTLINE_WIDTH = 0.0045
LEAST_HIGHLIT = 0.055
"""Minimum width of parts with a highlight. On thinner parts it would be smaller than a pixel."""
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


class _Part(NamedTuple):
    """Data of a solid for sorting and masks: the polygons ``first … last - 1`` and the person."""

    first: int
    last: int
    person: int
    nearer: float


@dataclass
class Stage:
    """Solids of one clip over ``T`` frames, in world coordinates. Points may be ``(T, 3)`` or ``(3,)``.

    The argument ``nearer`` of solids is subtracted from the depth in metres before sorting.

    Attributes:
        num_frames: T.
    """

    num_frames: int
    _segments: list[tuple[Array, Array, float, float, Colour]] = field(default_factory=list)
    _chains: list[_Part] = field(default_factory=list)
    _hulls: list[tuple[Array, Array, Colour, int, float]] = field(default_factory=list)
    _cuboids: list[tuple[Array, Array, Array, Colour]] = field(default_factory=list)
    _blocks: list[_Part] = field(default_factory=list)

    def chain(
        self,
        points: Sequence[Array],
        radii: Sequence[float],
        colours: Sequence[Colour],
        person: int = NOBODY,
        nearer: float = 0.0,
    ) -> None:
        """Add capsules from point to point, drawn as one solid: N points and radii, N - 1 colours."""
        first = len(self._segments)
        for place, colour in enumerate(colours):
            self._segments.append((points[place], points[place + 1], radii[place], radii[place + 1], colour))
        self._chains.append(_Part(first, len(self._segments), person, nearer))

    def hull(self, points: Array, radii: Array, colour: Colour, person: int = NOBODY, nearer: float = 0.0) -> None:
        """Add the convex hull of four balls at ``(T, 4, 3)`` with radii ``(4,)``."""
        self._hulls.append((points, radii, colour, person, nearer))

    def cuboid(
        self, centre: Array, axes: Array, half: tuple[float, float, float], colour: Colour, nearer: float = 0.0
    ) -> None:
        """Add a box whose axes are the columns of ``(T, 3, 3)`` or ``(3, 3)``."""
        number = len(self._cuboids)
        self._cuboids.append((centre, axes, np.asarray(half), colour))
        self._blocks.append(_Part(6 * number, 6 * number + 6, NOBODY, nearer))

    def project(self, camera: Camera, light: Array, size: int) -> Picture:
        """Project all solids to polygons on a canvas of ``size`` pixels, with light from ``light`` ``(3,)``."""
        picture = Picture(self.num_frames, size)
        light_in_image = camera.axes[:, :2] @ light
        if self._segments:
            self._project_chains(picture, camera, light_in_image)
        if self._hulls:
            self._project_hulls(picture, camera, light_in_image)
        if self._cuboids:
            self._project_cuboids(picture, camera, light)
        return picture

    def _over_frames(self, values: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """Join N constants or sequences into one ``(T, N, ...)`` array."""
        stacked = np.empty((self.num_frames, len(values), *shape))
        for number, value in enumerate(values):
            stacked[:, number] = value
        return stacked

    def _project_chains(self, picture: Picture, camera: Camera, light: Array) -> None:
        starts, ends, first, second, colours = zip(*self._segments, strict=True)
        points = self._over_frames([*starts, *ends], (3,)).reshape(self.num_frames, 2, len(starts), 3)
        image, depth = camera.project(points)
        radii = np.stack([first, second]) * camera.focal / depth
        # Four tones: (T, tone, end, N, 2) centres and (T, tone, end, N) radii.
        centres = image[:, None] + SHIFT[:, None, None, None] * (light[:, None, None] * radii[..., None])[:, None]
        widths = radii[:, None] * SHRINK[:, None, None]
        widths[:, OUTLINE] += OUTLINE_WIDTH
        outlines = _capsules(centres[:, :, 0], centres[:, :, 1], widths[:, :, 0], widths[:, :, 1])
        polygons = picture.to_pixels(outlines.reshape(self.num_frames, -1, 2 * END_POINTS, 2))
        offset = picture.add_polygons([list(frame) for frame in polygons])
        count, palette = len(colours), _palette(colours)
        depths = np.add.reduceat(depth.mean(1), [part.first for part in self._chains], axis=-1)
        for number, part in enumerate(self._chains):
            members = range(part.first, part.last)
            strokes = [
                (offset + tone * count + member, palette[member][tone])
                for tone in range(4)
                for member in members
                if tone != HIGHLIGHT or first[member] >= LEAST_HIGHLIT
            ]
            picture.add_part(strokes, depths[:, number] / len(members) - part.nearer, part.person)

    def _project_hulls(self, picture: Picture, camera: Camera, light: Array) -> None:
        points, radii, colours, people, nearer = zip(*self._hulls, strict=True)
        image, depth = camera.project(np.stack(points, axis=1))
        radius = np.stack(radii) * camera.focal / depth
        middle = image.mean(2, keepdims=True)
        angles = np.linspace(0.0, 2 * np.pi, BALL_POINTS, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        shrink, shift = SHRINK[:, None, None, None], SHIFT[:, None, None, None]
        centres = (
            middle[:, None]
            + (image - middle)[:, None] * shrink
            + shift * light[:, None, None, None] * radius[:, None, ..., None]
        )
        widths = radius[:, None] * shrink[..., 0]
        widths[:, OUTLINE] += OUTLINE_WIDTH
        cloud = centres[..., None, :] + widths[..., None, None] * circle
        flat = picture.to_pixels(cloud.reshape(self.num_frames, 4 * len(points), -1, 2))
        offset = picture.add_polygons([[cv2.convexHull(piece) for piece in frame] for frame in flat])
        count, palette = len(points), _palette(colours)
        for number in range(count):
            strokes = [(offset + tone * count + number, palette[number][tone]) for tone in range(4)]
            picture.add_part(strokes, depth[:, number].mean(-1) - nearer[number], people[number])

    def _project_cuboids(self, picture: Picture, camera: Camera, light: Array) -> None:
        centres, axes, halves, colours = zip(*self._cuboids, strict=True)
        centre, axis = self._over_frames(centres, (3,)), self._over_frames(axes, (3, 3))
        corners = centre[:, :, None] + (CUBE * np.stack(halves)[:, None]) @ axis.swapaxes(-1, -2)
        columns = axis.swapaxes(-1, -2)
        normals = np.stack([-columns, columns], axis=3).reshape(*centre.shape[:2], 6, 3)
        image, _ = camera.project(corners)
        middles = centre[:, :, None] + normals * np.repeat(np.stack(halves), 2, axis=-1)[..., None]
        visible = ((middles - camera.position[:, None, None]) * normals).sum(-1) < 0.0
        shade = 0.62 + 0.45 * np.clip(normals @ light, -0.5, 1.0)
        tints = (np.asarray(colours)[None, :, None] * shade[..., None]).reshape(self.num_frames, -1, 3)
        polygons = picture.to_pixels(image[:, :, FACES].reshape(self.num_frames, -1, 4, 2))
        offset = picture.add_polygons([list(frame) for frame in polygons])
        depth = camera.project(centre)[1]
        shown = visible.reshape(self.num_frames, -1).tolist()
        faces: list[Strokes] = [list(enumerate(paints, offset)) for paints in _paints(tints)]
        for number, part in enumerate(self._blocks):
            span = slice(part.first, part.last)
            strokes = [list(compress(frame[span], flags[span])) for frame, flags in zip(faces, shown, strict=True)]
            picture.add_changing_part(strokes, depth[:, number] - part.nearer, part.person)


Strokes = list[tuple[int, Paint]]
"""Numbers of polygons with their colours, in the order of drawing."""


@dataclass
class Picture:
    """Polygons of ``T`` frames.

    Attributes:
        num_frames: T.
        size: side of the canvas in pixels.
    """

    num_frames: int
    size: int

    def __post_init__(self) -> None:
        self._polygons: list[list[np.ndarray]] = [[] for _ in range(self.num_frames)]
        self._strokes: list[list[Strokes]] = []
        self._depths: list[Array] = []
        self._people: list[int] = []

    def to_pixels(self, image: Array) -> np.ndarray:
        """Convert positions in units of the side to OpenCV's fixed-point pixels."""
        pixels = np.clip(image * self.size - 0.5, -4.0 * self.size, 5.0 * self.size)
        fixed: np.ndarray = np.rint(pixels * 2.0**SUBPIXEL_BITS).astype(np.int32, order="C")
        return fixed

    def add_polygons(self, polygons: Sequence[list[np.ndarray]]) -> int:
        """Append the same number of polygons to every frame; return the number of the first polygon."""
        offset = len(self._polygons[0]) if self._polygons else 0
        for frame, new in zip(self._polygons, polygons, strict=True):
            frame.extend(new)
        return offset

    def add_part(self, strokes: Strokes, depth: Array, person: int) -> None:
        """Add a solid with the same strokes in all frames and the depth ``(T,)``."""
        self.add_changing_part([strokes] * self.num_frames, depth, person)

    def add_changing_part(self, strokes: list[Strokes], depth: Array, person: int) -> None:
        """Add a solid with different strokes in each frame."""
        self._strokes.append(strokes)
        self._depths.append(depth)
        self._people.append(person)

    def draw(self, canvas: np.ndarray, frame: int) -> None:
        """Draw all polygons of one frame on a uint8 RGB canvas, from back to front."""
        polygons, fill = self._polygons[frame], cv2.fillConvexPoly
        depths = np.array([depth[frame] for depth in self._depths])
        for part in np.argsort(-depths, kind="stable").tolist():
            for number, colour in self._strokes[part][frame]:
                fill(canvas, polygons[number], colour, cv2.LINE_8, SUBPIXEL_BITS)

    def mask(self, frame: int, person: int) -> np.ndarray:
        """Return the mask of one person without occlusion, ``(size, size)`` bool."""
        canvas = np.zeros((self.size, self.size), np.uint8)
        for polygon in self._of(frame, person):
            cv2.fillConvexPoly(canvas, polygon, 1, cv2.LINE_8, SUBPIXEL_BITS)
        return canvas.astype(bool)

    def extent(self, frame: int, person: int) -> Array:
        """Return the box ``(4,)`` around one person in units of the side, without clipping."""
        points = np.concatenate([polygon.reshape(-1, 2) for polygon in self._of(frame, person)])
        return (np.concatenate([points.min(0), points.max(0)]) / 2.0**SUBPIXEL_BITS + 0.5) / self.size

    def _of(self, frame: int, person: int) -> list[np.ndarray]:
        parts = [strokes[frame] for strokes, owner in zip(self._strokes, self._people, strict=True) if owner == person]
        return [self._polygons[frame][number] for strokes in parts for number, _ in strokes]


def _capsules(start: Array, end: Array, first: Array, second: Array) -> Array:
    """Return outlines ``(..., 2 * END_POINTS, 2)`` of capsules whose end circles may have different radii."""
    across = end - start
    length = np.maximum(np.sqrt((across**2).sum(-1)), 1e-6)
    heading = np.arctan2(across[..., 1], across[..., 0])[..., None]
    # The outer tangents touch both circles at cos(angle) = (r0 - r1) / d; one circle may contain the other.
    touch = np.arccos(np.clip((first - second) / length, -1.0, 1.0))[..., None]
    steps = np.linspace(-1.0, 1.0, END_POINTS)
    angles = np.stack([heading + touch * steps, heading + np.pi + (np.pi - touch) * steps], axis=-2)
    radii = np.stack([second, first], axis=-1)[..., None]
    centres = np.stack([end, start], axis=-2)[..., None, :]
    # Coordinates are processed separately, because numpy is slow along an axis of two.
    outlines = np.empty((*angles.shape, 2))
    outlines[..., 0] = centres[..., 0] + radii * np.cos(angles)
    outlines[..., 1] = centres[..., 1] + radii * np.sin(angles)
    return outlines.reshape(*start.shape[:-1], 2 * END_POINTS, 2)


def _palette(colours: Sequence[Colour]) -> list[list[Paint]]:
    return _paints(np.asarray(colours)[:, None] * TONES[:, None])


def _paints(colours: Array) -> list[list[Paint]]:
    """Return colours ``(M, N, 3)`` as M lists of N."""
    rounded = np.rint(np.minimum(np.maximum(colours, 0), 255)).astype(int)
    return [list(map(tuple, row)) for row in rounded.tolist()]
