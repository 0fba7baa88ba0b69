"""What stands in front of the scenery: capsules, hulls and cuboids, drawn from back to front.

Every solid is projected for all frames at once; OpenCV then fills a handful of convex polygons for each:
a dark outline, the shaded side, the lit side and a highlight towards the light.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from microg_da.synthetic.geometry import Array, Camera, unit

Colour = tuple[float, float, float]
"""Red, green, blue in 0…255."""

NOBODY = -1
SUBPIXEL_BITS = 4
ARC = 6
OUTLINE, SHADED, LIT, HIGHLIGHT = range(4)
TONES = np.array([0.30, 0.70, 1.0, 1.22])
SHRINK = np.array([1.0, 1.0, 0.72, 0.36])
SHIFT = np.array([0.0, 0.0, 0.24, 0.46])
OUTLINE_WIDTH = 0.0045
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


@dataclass
class Stage:
    """Solids of one clip over ``T`` frames, in world coordinates.

    Attributes:
        num_frames: T.
    """

    num_frames: int
    _limbs: list[tuple[Array, Array, float, float, Colour, int, float]] = field(default_factory=list)
    _hulls: list[tuple[Array, Array, Colour, int, float]] = field(default_factory=list)
    _cuboids: list[tuple[Array, Array, Array, Colour, int, float]] = field(default_factory=list)

    def limb(
        self,
        start: Array,
        end: Array,
        radii: tuple[float, float],
        colour: Colour,
        person: int = NOBODY,
        nearer: float = 0.0,
    ) -> None:
        """A capsule between two points ``(T, 3)`` or ``(3,)``; ``nearer`` metres are taken off its depth for sorting."""
        shape = (self.num_frames, 3)
        self._limbs.append((np.broadcast_to(start, shape), np.broadcast_to(end, shape), *radii, colour, person, nearer))

    def hull(self, points: Array, radii: Array, colour: Colour, person: int = NOBODY, nearer: float = 0.0) -> None:
        """The convex hull of balls at ``(T, N, 3)`` with radii ``(N,)``."""
        self._hulls.append((points, np.asarray(radii), colour, person, nearer))

    def cuboid(
        self,
        centre: Array,
        axes: Array,
        half: tuple[float, float, float],
        colour: Colour,
        person: int = NOBODY,
        nearer: float = 0.0,
    ) -> None:
        """A box at ``(T, 3)`` or ``(3,)`` whose axes are the columns of ``(T, 3, 3)`` or ``(3, 3)``."""
        frames = self.num_frames
        self._cuboids.append(
            (
                np.broadcast_to(centre, (frames, 3)),
                np.broadcast_to(axes, (frames, 3, 3)),
                np.asarray(half),
                colour,
                person,
                nearer,
            )
        )

    def project(self, camera: Camera, light: Array, size: int) -> Picture:
        """Everything as polygons on a canvas of ``size`` pixels, lit from the direction ``light`` ``(3,)``."""
        light_in_image = camera.axes[:, :2] @ light
        picture = Picture(self.num_frames)
        self._project_limbs(picture, camera, light_in_image, size)
        self._project_hulls(picture, camera, light_in_image, size)
        self._project_cuboids(picture, camera, light, size)
        return picture

    def _project_limbs(self, picture: Picture, camera: Camera, light: Array, size: int) -> None:
        if not self._limbs:
            return
        starts, ends, first, second, colours, people, nearer = zip(*self._limbs, strict=True)
        points = np.stack([np.stack(starts, axis=1), np.stack(ends, axis=1)], axis=2)
        image, depth = camera.project(points)
        radii = np.stack([first, second], axis=-1) * camera.focal / depth
        shift = light[:, None, None] * radii[..., None]
        outlines = [
            _capsules(
                image[:, :, 0] + SHIFT[tone] * shift[:, :, 0],
                image[:, :, 1] + SHIFT[tone] * shift[:, :, 1],
                radii[..., 0] * SHRINK[tone] + OUTLINE_WIDTH * (tone == OUTLINE),
                radii[..., 1] * SHRINK[tone] + OUTLINE_WIDTH * (tone == OUTLINE),
            )
            for tone in range(4)
        ]
        polygons = _fixed_point(np.stack(outlines, axis=2), size)
        picture.add(polygons, _tones(colours), depth.mean(-1) - np.asarray(nearer), people)

    def _project_hulls(self, picture: Picture, camera: Camera, light: Array, size: int) -> None:
        angles = np.linspace(0.0, 2 * np.pi, 10, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        for points, radii, colour, person, nearer in self._hulls:
            image, depth = camera.project(points)
            radius = radii * camera.focal / depth
            centre = image.mean(1, keepdims=True)
            tones = []
            for tone in range(4):
                shrink = SHRINK[tone]
                middle = centre + (image - centre) * shrink + SHIFT[tone] * light[:, None] * radius[..., None]
                round_ = (radius * shrink + OUTLINE_WIDTH * (tone == OUTLINE))[..., None, None] * circle
                tones.append((middle[:, :, None] + round_).reshape(len(points), -1, 2))
            cloud = _fixed_point(np.stack(tones, axis=1)[:, None], size)
            hulls = [[[cv2.convexHull(layer) for layer in cloud[t, 0]]] for t in range(len(cloud))]
            picture.add(hulls, _tones([colour]), depth.mean(-1, keepdims=True) - nearer, [person])

    def _project_cuboids(self, picture: Picture, camera: Camera, light: Array, size: int) -> None:
        if not self._cuboids:
            return
        centres, axes, halves, colours, people, nearer = zip(*self._cuboids, strict=True)
        centre, axis = np.stack(centres, axis=1), np.stack(axes, axis=1)
        corners = centre[:, :, None] + (CUBE * np.stack(halves)[:, None]) @ axis.swapaxes(-1, -2)
        image, _ = camera.project(corners)
        depth = camera.project(centre)[1]
        normals = np.stack([-axis[..., 0], axis[..., 0], -axis[..., 1], axis[..., 1], -axis[..., 2], axis[..., 2]], 2)
        middles = corners[:, :, FACES].mean(3)
        visible = ((middles - camera.position[:, None, None]) * normals).sum(-1) < 0.0
        shade = 0.62 + 0.45 * np.clip(normals @ light, -0.5, 1.0)
        picture.add_faces(
            _fixed_point(image[:, :, FACES], size),
            np.clip(np.asarray(colours)[None, :, None] * shade[..., None], 0, 255),
            visible,
            depth - np.asarray(nearer),
            people,
        )


@dataclass
class Picture:
    """Polygons in fixed-point pixels, ready to be filled; ``depths[i]`` is ``(T, N)`` of the i-th group."""

    num_frames: int
    _depths: list[Array] = field(default_factory=list)
    _items: list[tuple] = field(default_factory=list)  # type: ignore[type-arg]

    def add(self, polygons, colours: Array, depths: Array, people) -> None:  # type: ignore[no-untyped-def]
        """Solids of four tones each: polygons ``[T][N][4]``, colours ``(N, 4, 3)``."""
        palette = [[tuple(tone) for tone in item] for item in colours.tolist()]
        for number, person in enumerate(people):
            self._items.append((polygons, number, palette[number], None, person))
        self._depths.append(depths)

    def add_faces(self, polygons: Array, colours: Array, visible: Array, depths: Array, people) -> None:  # type: ignore[no-untyped-def]
        """Cuboids: polygons ``(T, N, 6, 4, 2)``, colours ``(T, N, 6, 3)``, ``visible`` ``(T, N, 6)``."""
        for number, person in enumerate(people):
            self._items.append((polygons, number, colours, visible, person))
        self._depths.append(depths)

    def draw(self, canvas: np.ndarray, frame: int) -> None:
        """Fill all polygons of one frame into a uint8 RGB canvas, back to front."""
        for number in self._back_to_front(frame):
            polygons, index, colours, visible, _ = self._items[number]
            if visible is None:
                for polygon, colour in zip(polygons[frame][index], colours, strict=True):
                    cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, SUBPIXEL_BITS)
            else:
                for face in np.flatnonzero(visible[frame, index]):
                    colour = colours[frame, index, face].tolist()
                    cv2.fillConvexPoly(canvas, polygons[frame, index, face], colour, cv2.LINE_8, SUBPIXEL_BITS)

    def mask(self, size: int, frame: int, person: int) -> np.ndarray:
        """Where one person would be drawn if nothing stood in front, ``(size, size)`` bool."""
        canvas = np.zeros((size, size), np.uint8)
        for polygons, index, _, visible, owner in self._items:
            if owner == person and visible is None:
                cv2.fillConvexPoly(canvas, polygons[frame][index][OUTLINE], 1, cv2.LINE_8, SUBPIXEL_BITS)
        return canvas.astype(bool)

    def extent(self, frame: int, person: int, size: int) -> Array:
        """The box ``(4,)`` around one person's solids, in units of the side, not yet cut to the image."""
        points = [
            np.asarray(polygons[frame][index][OUTLINE]).reshape(-1, 2)
            for polygons, index, _, visible, owner in self._items
            if owner == person and visible is None
        ]
        cloud = (np.concatenate(points) / 2.0**SUBPIXEL_BITS + 0.5) / size
        return np.concatenate([cloud.min(0), cloud.max(0)])

    def _back_to_front(self, frame: int) -> Array:
        return np.argsort(-np.concatenate([depths[frame] for depths in self._depths]), kind="stable")


def _capsules(start: Array, end: Array, first: Array, second: Array) -> Array:
    """Outlines ``(..., 2 * ARC, 2)`` of capsules whose end circles may differ in radius."""
    across = end - start
    length = np.maximum(np.linalg.norm(across, axis=-1), 1e-6)
    heading = np.arctan2(across[..., 1], across[..., 0])
    # The outer tangents touch both circles where cos(angle) = (r0 - r1) / d; one circle may contain the other.
    touch = np.arccos(np.clip((first - second) / length, -1.0, 1.0))
    steps = np.linspace(-1.0, 1.0, ARC)
    front = heading[..., None] + touch[..., None] * steps
    back = heading[..., None] + np.pi + (np.pi - touch)[..., None] * steps
    return np.concatenate(
        [
            end[..., None, :] + second[..., None, None] * np.stack([np.cos(front), np.sin(front)], axis=-1),
            start[..., None, :] + first[..., None, None] * np.stack([np.cos(back), np.sin(back)], axis=-1),
        ],
        axis=-2,
    )


def _fixed_point(image: Array, size: int) -> np.ndarray:
    pixels = np.clip(image * size - 0.5, -4.0 * size, 5.0 * size)
    return np.ascontiguousarray(np.round(pixels * 2.0**SUBPIXEL_BITS), dtype=np.int32)


def _tones(colours) -> Array:  # type: ignore[no-untyped-def]
    return np.clip(np.asarray(colours, dtype=np.float64)[:, None] * TONES[:, None], 0, 255)


def light_from(azimuth: float, elevation: float) -> Array:
    """The direction ``(3,)`` towards a lamp."""
    return unit(np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]))
