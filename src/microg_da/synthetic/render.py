"""Rendering of the frames, boxes and labels of a clip from its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from microg_da.synthetic.costume import Costume, draw_costume, put_on_stage
from microg_da.synthetic.geometry import Array, Camera, look_at, rotation, unit
from microg_da.synthetic.looks import Look, draw_look, finish
from microg_da.synthetic.performance import CAST_SIZE, KEYFRAME_ALONE, Body, Performance, draw_performance
from microg_da.synthetic.props import surround
from microg_da.synthetic.scenery import Room, paint_earth_room, paint_module
from microg_da.synthetic.spec import FRAMES_PER_SECOND, KEYFRAME, ClipName, SyntheticSpec, generator
from microg_da.synthetic.stage import Picture, Stage

RENDERER_VERSION = 5
"""Version of the renderer, which changes with the clips; caches on disk depend on it."""

FOCAL = 1.12
SUPERSAMPLING = 2
_SCENERY, _CLIP, _NOISE = range(3)


@dataclass(frozen=True)
class RenderedClip:
    """One drawn clip.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8 RGB.
        boxes: ``(P, 4)`` at the keyframe, ``x1 y1 x2 y2`` in [0, 1].
        action_ids: for each person the ids of all actions, ascending.
        video_id: the clip's name.
        frame_stamp: the keyframe's number, counted from 1.
    """

    frames: np.ndarray
    boxes: np.ndarray
    action_ids: tuple[tuple[int, ...], ...]
    video_id: str
    frame_stamp: int


@dataclass(frozen=True)
class Scene:
    """Settings that all clips of a source video share."""

    room: Room
    look: Look
    cast: tuple[Costume, ...]
    lamp: Array


@dataclass(frozen=True)
class Staging:
    """A clip before drawing, independent of its size and frames.

    Attributes:
        name: name of the clip.
        scene: the source video.
        performance: the people.
        rig: position of camera and room, see :class:`CameraRig`.
        seed: seed of the specification.
    """

    name: ClipName
    scene: Scene
    performance: Performance
    rig: CameraRig
    seed: int


@dataclass(frozen=True)
class CameraRig:
    """Positions of camera and room as functions of time.

    Attributes:
        position, aim: ``(3,)`` at the keyframe.
        roll: roll of the camera relative to upright people, in radians.
        roll_rate: radians per second.
        shake: ``(3, 3)`` amplitudes, rates and phases of a hand-held camera.
        room_axes: ``(3, 3)``, whose columns are the axes of the room in the world.
        room_origin: ``(3,)`` origin of the room in the world.
    """

    position: Array
    aim: Array
    roll: float
    roll_rate: float
    shake: Array
    room_axes: Array
    room_origin: Array

    def camera(self, times: Array) -> Camera:
        """Return the camera at ``T`` moments."""
        amplitude, rate, phase = self.shake
        position = self.position + amplitude * (np.sin(np.outer(times, rate) + phase) - np.sin(phase))
        axes = look_at(position, np.broadcast_to(self.aim, position.shape), self.roll + self.roll_rate * times)
        return Camera(position, axes, FOCAL)


def render_clip(spec: SyntheticSpec, index: int, frame_numbers: Sequence[int] | None = None) -> RenderedClip:
    """Draw one clip.

    Args:
        spec: the set of clips.
        index: index of the clip.
        frame_numbers: frames to draw, counted from 1 in a clip of 90 frames; by default the window of ``spec``.
    """
    numbers = spec.window if frame_numbers is None else tuple(frame_numbers)
    # The keyframe is always first, for fixed objects and boxes, even if it is not among the frames.
    times = (np.array([KEYFRAME, *numbers]) - KEYFRAME) / FRAMES_PER_SECOND
    staging = stage_clip(spec, index, times)
    shot = _shoot(staging, times, spec.size * SUPERSAMPLING)
    name = staging.name
    rngs = [generator(spec.seed, name, name.number, _NOISE, number) for number in numbers]
    return RenderedClip(
        frames=finish(_draw(staging, shot, spec.size), staging.scene.look, rngs),
        boxes=_boxes(staging, shot),
        action_ids=tuple(tuple(sorted(actor.labels)) for actor in staging.performance.actors),
        video_id=name.video_id,
        frame_stamp=KEYFRAME,
    )


def stage_clip(spec: SyntheticSpec, index: int, times: Array = KEYFRAME_ALONE) -> Staging:
    """Draw all random values of a clip: people, camera and room; ``times`` as for :func:`draw_performance`."""
    name = spec.name(index)
    scene = _scene(spec.seed, name._replace(number=0))
    performance, rng = draw_people(spec.seed, name, times)
    rig = _place_camera(rng, performance, scene.room)
    return Staging(name, scene, performance, rig, spec.seed)


def draw_people(seed: int, name: ClipName, times: Array = KEYFRAME_ALONE) -> tuple[Performance, np.random.Generator]:
    """Draw a clip's people; the generator that is returned continues with the camera."""
    rng = generator(seed, name, name.number, _CLIP)
    return draw_performance(rng, name.domain == "microgravity", times), rng


def key_masks(staging: Staging, size: int) -> np.ndarray:
    """Return the mask of each person at the keyframe without occlusion, ``(P, size, size)`` bool."""
    picture = _shoot(staging, np.zeros(1), size).picture
    return np.stack([picture.mask(0, person) for person in range(len(staging.performance.actors))])


def key_ups(staging: Staging) -> Array:
    """Return each person's up at the keyframe, ``(P,)`` degrees in [0, 360), clockwise from the top of the image.

    Up is the body's axis from pelvis to head, independent of the pose of the trunk, in orthographic projection.
    """
    right, down, _ = staging.rig.camera(np.zeros(1)).axes[0]
    ups = np.stack([actor.facing[:, 2] for actor in staging.performance.actors])
    degrees: Array = np.rad2deg(np.arctan2(ups @ right, -(ups @ down))) % 360
    return degrees


@lru_cache(maxsize=8)
def _scene(seed: int, name: ClipName) -> Scene:
    rng = generator(seed, name, 0, _SCENERY)
    weightless = name.domain == "microgravity"
    room = paint_module(rng) if weightless else paint_earth_room(rng)
    cast = tuple(draw_costume(rng, weightless) for _ in range(CAST_SIZE))
    lamp = unit(np.array([rng.uniform(-0.8, 0.8), -rng.uniform(0.3, 0.9), rng.uniform(0.5, 1.0)]))
    return Scene(room, draw_look(rng, name.look), cast, lamp)


def _place_camera(rng: np.random.Generator, performance: Performance, room: Room) -> CameraRig:
    """Place a camera that shows all people at the keyframe, and the room."""
    weightless = performance.weightless
    aim = performance.centre + rng.normal(0.0, 0.05, 3)
    if weightless:
        elevation, azimuth, roll = rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1), rng.uniform(-np.pi, np.pi)
    else:
        elevation, azimuth, roll = rng.uniform(0.0, 0.28), rng.uniform(-0.1, 0.1), rng.normal(0.0, 0.035)
    back = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    distance = _distance(performance.extent - aim, back, roll) * rng.uniform(1.03, 1.15)
    position = aim + distance * back
    axes, origin = _module_pose(rng, position, aim, room) if weightless else _room_pose(rng, position, aim, room)
    shake = np.stack([rng.uniform(0.0, 0.05, 3), rng.uniform(0.5, 1.6, 3), rng.uniform(0, 2 * np.pi, 3)])
    roll_rate = rng.normal(0.0, 0.08) if weightless else 0.0
    return CameraRig(position, aim, roll, roll_rate, shake, axes, origin)


def _distance(offsets: Array, back: Array, roll: float) -> float:
    """Return the distance from the aim at which a camera shows all points ``(N, 3)`` relative to the aim."""
    axes = look_at(back[None], np.zeros((1, 3)), roll)[0]
    seen = offsets @ axes.T
    aside = np.abs(seen[:, :2]).max(-1) + 0.14
    return float(max((aside * FOCAL / 0.5 - seen[:, 2]).max(), 1.6))


def _room_pose(rng: np.random.Generator, position: Array, aim: Array, room: Room) -> tuple[Array, Array]:
    axes = rotation("z", rng.choice(4) * np.pi / 2 + rng.uniform(-0.5, 0.5))
    # People and camera are centred in the room, so that neither is systematically nearer to a wall.
    middle = (0.45 * position + 0.55 * aim) * np.array([1.0, 1.0, 0.0])
    return axes, middle + axes @ np.array([*rng.uniform(-0.5, 0.5, 2), 0.0])


def _module_pose(rng: np.random.Generator, position: Array, aim: Array, room: Room) -> tuple[Array, Array]:
    along = look_at(position[None], aim[None], rng.uniform(-np.pi, np.pi))[0]
    axes = np.stack([along[2], along[0], -along[1]], axis=-1)
    axes = axes @ rotation("z", rng.uniform(-0.5, 0.5)) @ rotation("y", rng.uniform(-0.5, 0.5))
    offset = np.array([0.45 * room.low[0], *rng.uniform(-0.4, 0.4, 2)])
    return axes, position - axes @ offset


class _Shot(NamedTuple):
    camera: Camera
    bodies: list[Body]
    picture: Picture


def _shoot(staging: Staging, times: Array, size: int) -> _Shot:
    """Project a clip to a canvas of ``size`` pixels; the keyframe, time 0, is first."""
    camera, performance = staging.rig.camera(times), staging.performance
    stage, bodies = Stage(len(times)), performance.at(times)
    for person, (actor, body) in enumerate(zip(performance.actors, bodies, strict=True)):
        put_on_stage(stage, body.joints, staging.scene.cast[actor.member], person)
        for solid in body.solids:
            stage.cuboid(solid.centre, solid.axes, solid.half, solid.colour, solid.nearer)
    rng = generator(staging.seed, staging.name, staging.name.number, _SCENERY)
    surround(stage, rng, performance, staging.rig.position, times)
    return _Shot(camera, bodies, stage.project(camera, staging.scene.lamp, size))


def _boxes(staging: Staging, shot: _Shot) -> np.ndarray:
    """Return boxes ``(P, 4)`` in [0, 1] around the people at the keyframe."""
    people = range(len(staging.performance.actors))
    return np.clip(np.stack([shot.picture.extent(0, person) for person in people]), 0.0, 1.0)


def _draw(staging: Staging, shot: _Shot, size: int) -> np.ndarray:
    """Draw all frames except the first."""
    camera = Camera(shot.camera.position[1:], shot.camera.axes[1:], shot.camera.focal)
    frames = staging.scene.room.background(camera, staging.rig.room_axes, staging.rig.room_origin, size)
    if not staging.performance.weightless:
        _cast_shadows(frames, camera, [body.joints[1:] for body in shot.bodies])
    fine = (size * SUPERSAMPLING, size * SUPERSAMPLING)
    for number, frame in enumerate(frames):
        canvas = cv2.resize(frame, fine, interpolation=cv2.INTER_LINEAR)
        shot.picture.draw(canvas, number + 1)
        cv2.resize(canvas, (size, size), dst=frame, interpolation=cv2.INTER_AREA)
    return frames


def _cast_shadows(frames: np.ndarray, camera: Camera, people: list[Array]) -> None:
    """Darken the floor under every body, in place."""
    size = frames.shape[1]
    angles = np.linspace(0.0, 2 * np.pi, 14, endpoint=False)
    rim = np.stack([0.42 * np.cos(angles), 0.36 * np.sin(angles), np.zeros(14)], axis=-1)
    centres = np.stack([joints.mean(1) * np.array([1.0, 1.0, 0.0]) for joints in people], axis=1)
    outlines = np.rint(camera.project(centres[:, :, None] + rim)[0] * size).astype(np.int32)
    # Pixels outside the range of the blur do not change.
    reach = max(size // 12, 1)
    first, last = outlines.min((1, 2)) - reach, outlines.max((1, 2)) + reach + 1
    corners = np.clip(np.concatenate([first, last], axis=-1), 0, size).tolist()
    for frame, polygons, (left, top, right, bottom) in zip(frames, outlines, corners, strict=True):
        if left == right or top == bottom:
            continue
        light = np.full((bottom - top, right - left), 255, np.uint8)
        for polygon in polygons:
            cv2.fillConvexPoly(light, polygon - np.array([left, top], np.int32), 160)
        soft = cv2.blur(light, (reach, reach))
        ground = frame[top:bottom, left:right]
        ground[:] = cv2.multiply(ground, cv2.merge([soft] * 3), scale=1 / 255)
