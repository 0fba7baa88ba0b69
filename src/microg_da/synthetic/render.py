"""From a clip's name to its frames, boxes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from microg_da.synthetic.costume import Costume, draw_costume, put_on_stage
from microg_da.synthetic.geometry import Array, Camera, look_at, rotation, unit
from microg_da.synthetic.looks import Look, draw_look, finish
from microg_da.synthetic.performance import CAST_SIZE, Body, Performance, draw_performance
from microg_da.synthetic.props import furnish, surround
from microg_da.synthetic.scenery import Room, paint_earth_room, paint_module
from microg_da.synthetic.spec import FRAMES_PER_SECOND, KEYFRAME, ClipName, SyntheticSpec, generator
from microg_da.synthetic.stage import Picture, Stage

RENDERER_VERSION = 1
"""Raised whenever the same name would give another clip; caches on disk depend on it."""

FOCAL = 1.12
SUPERSAMPLING = 2
_SCENERY, _CLIP, _NOISE = range(3)


@dataclass(frozen=True)
class RenderedClip:
    """One clip as it was drawn.

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
    """What all clips of a source video share."""

    room: Room
    look: Look
    cast: tuple[Costume, ...]
    lamp: Array


@dataclass(frozen=True)
class Staging:
    """A clip before it is drawn: the same at any size and for any frames.

    Attributes:
        name: which clip.
        scene: its source video.
        performance: the people.
        rig: position of camera and room, see :class:`CameraRig`.
        seed: of the specification.
    """

    name: ClipName
    scene: Scene
    performance: Performance
    rig: CameraRig
    seed: int


@dataclass(frozen=True)
class CameraRig:
    """Where camera and room are, as functions of time.

    Attributes:
        position, aim: ``(3,)`` at the keyframe.
        roll: of the camera against the people's upright, radians.
        roll_rate: radians a second.
        shake: ``(3, 3)`` amplitudes, rates and phases of a hand-held camera.
        room_axes: ``(3, 3)``, columns are the room's axes in the world.
        room_origin: ``(3,)``.
    """

    position: Array
    aim: Array
    roll: float
    roll_rate: float
    shake: Array
    room_axes: Array
    room_origin: Array

    def camera(self, times: Array) -> Camera:
        """The camera at ``T`` moments."""
        amplitude, rate, phase = self.shake
        position = self.position + amplitude * (np.sin(np.outer(times, rate) + phase) - np.sin(phase))
        axes = look_at(position, np.broadcast_to(self.aim, position.shape), self.roll + self.roll_rate * times)
        return Camera(position, axes, FOCAL)


def render_clip(spec: SyntheticSpec, index: int, frame_numbers: Sequence[int] | None = None) -> RenderedClip:
    """Draw one clip.

    Args:
        spec: the set of clips.
        index: which of them.
        frame_numbers: frames to draw, counted from 1 as in a clip of 90 frames; by default the window of ``spec``.
    """
    numbers = spec.window if frame_numbers is None else tuple(frame_numbers)
    staging = stage_clip(spec, index)
    times = (np.asarray(numbers, dtype=np.float64) - KEYFRAME) / FRAMES_PER_SECOND
    frames = _draw(staging, times, spec.size)
    name = staging.name
    rngs = [generator(spec.seed, name, name.number, _NOISE, number) for number in numbers]
    return RenderedClip(
        frames=finish(frames, staging.scene.look, rngs),
        boxes=key_boxes(staging, spec.size),
        action_ids=tuple(tuple(sorted(actor.labels)) for actor in staging.performance.actors),
        video_id=name.video_id,
        frame_stamp=KEYFRAME,
    )


def stage_clip(spec: SyntheticSpec, index: int) -> Staging:
    """Draw all chance of a clip: people, camera and room."""
    name = spec.name(index)
    rng = generator(spec.seed, name, name.number, _CLIP)
    weightless = name.domain == "microgravity"
    scene = _scene(spec.seed, name._replace(number=0))
    performance = draw_performance(rng, weightless)
    joints = [body.joints[0] for body in performance.at(np.zeros(1))]
    rig = _place_camera(rng, performance, np.concatenate(joints), scene.room)
    return Staging(name, scene, performance, rig, spec.seed)


def key_boxes(staging: Staging, size: int) -> np.ndarray:
    """Boxes ``(P, 4)`` in [0, 1] around the people at the keyframe."""
    _, picture = _project(staging, np.zeros(1), size * SUPERSAMPLING)
    people = range(len(staging.performance.actors))
    boxes = [picture.extent(0, person, size * SUPERSAMPLING) for person in people]
    return np.clip(np.stack(boxes), 0.0, 1.0)


def key_masks(staging: Staging, size: int) -> np.ndarray:
    """The pixels of each person at the keyframe, ``(P, size, size)`` bool, as if nobody stood in front."""
    _, picture = _project(staging, np.zeros(1), size)
    return np.stack([picture.mask(size, 0, person) for person in range(len(staging.performance.actors))])


@lru_cache(maxsize=8)
def _scene(seed: int, name: ClipName) -> Scene:
    rng = generator(seed, name, 0, _SCENERY)
    weightless = name.domain == "microgravity"
    room = paint_module(rng) if weightless else paint_earth_room(rng)
    cast = tuple(draw_costume(rng, weightless) for _ in range(CAST_SIZE))
    lamp = unit(np.array([rng.uniform(-0.8, 0.8), -rng.uniform(0.3, 0.9), rng.uniform(0.5, 1.0)]))
    return Scene(room, draw_look(rng, name.look), cast, lamp)


def _place_camera(rng: np.random.Generator, performance: Performance, joints: Array, room: Room) -> CameraRig:
    """A camera that sees all joints ``(N, 3)``, and the room around it."""
    weightless = performance.weightless
    aim = performance.centre + rng.normal(0.0, 0.05, 3)
    if weightless:
        elevation, azimuth, roll = rng.uniform(-0.45, 0.45), rng.uniform(-0.15, 0.15), rng.uniform(-np.pi, np.pi)
    else:
        elevation, azimuth, roll = rng.uniform(0.0, 0.28), rng.uniform(-0.1, 0.1), rng.normal(0.0, 0.035)
    back = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    distance = _distance(joints - aim, back, roll) * rng.uniform(1.10, 1.40)
    position = aim + distance * back
    axes, origin = _module_pose(rng, position, aim, room) if weightless else _room_pose(rng, position, aim, room)
    shake = np.stack([rng.uniform(0.0, 0.05, 3), rng.uniform(0.5, 1.6, 3), rng.uniform(0, 2 * np.pi, 3)])
    roll_rate = rng.normal(0.0, 0.10) if weightless else 0.0
    return CameraRig(position, aim, roll, roll_rate, shake, axes, origin)


def _distance(offsets: Array, back: Array, roll: float) -> float:
    """How far from its aim a camera must stand to see all points ``(N, 3)``, given relative to the aim."""
    axes = look_at(back[None], np.zeros((1, 3)), roll)[0]
    seen = offsets @ axes.T
    aside = np.abs(seen[:, :2]).max(-1) + 0.14
    return float(max((aside * FOCAL / 0.5 - seen[:, 2]).max(), 1.6))


def _room_pose(rng: np.random.Generator, position: Array, aim: Array, room: Room) -> tuple[Array, Array]:
    axes = rotation("z", rng.choice(4) * np.pi / 2 + rng.uniform(-0.5, 0.5))
    # People and camera share the floor's middle; whoever is nearer to a wall is nobody in particular.
    middle = (0.45 * position + 0.55 * aim) * np.array([1.0, 1.0, 0.0])
    return axes, middle + axes @ np.array([*rng.uniform(-0.5, 0.5, 2), 0.0])


def _module_pose(rng: np.random.Generator, position: Array, aim: Array, room: Room) -> tuple[Array, Array]:
    along = look_at(position[None], aim[None], rng.uniform(-np.pi, np.pi))[0]
    axes = np.stack([along[2], along[0], -along[1]], axis=-1)
    axes = axes @ rotation("z", rng.uniform(-0.35, 0.35)) @ rotation("y", rng.uniform(-0.35, 0.35))
    offset = np.array([0.45 * room.low[0], *rng.uniform(-0.4, 0.4, 2)])
    return axes, position - axes @ offset


def _project(staging: Staging, times: Array, size: int) -> tuple[Camera, Picture]:
    camera = staging.rig.camera(times)
    stage = Stage(len(times))
    bodies = staging.performance.at(times)
    for person, (actor, body) in enumerate(zip(staging.performance.actors, bodies, strict=True)):
        put_on_stage(stage, body.joints, staging.scene.cast[actor.member], person)
        for solid in body.solids:
            stage.cuboid(solid.centre, solid.axes, solid.half, solid.colour, nearer=solid.nearer)
    furnish(stage, staging.performance, bodies)
    rng = generator(staging.seed, staging.name, staging.name.number, _SCENERY)
    surround(stage, rng, staging.performance, staging.rig.position, times)
    return camera, stage.project(camera, staging.scene.lamp, size)


def _draw(staging: Staging, times: Array, size: int) -> np.ndarray:
    fine = size * SUPERSAMPLING
    camera, picture = _project(staging, times, fine)
    rig = staging.rig
    room = staging.scene.room.background(camera, rig.room_axes, rig.room_origin, size)
    frames = np.empty((len(times), size, size, 3), np.uint8)
    if not staging.performance.weightless:
        _cast_shadows(room, camera, staging.performance.at(times), size)
    for frame, backdrop in enumerate(room):
        canvas = cv2.resize(backdrop, (fine, fine), interpolation=cv2.INTER_LINEAR)
        picture.draw(canvas, frame)
        frames[frame] = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return frames


def _cast_shadows(room: np.ndarray, camera: Camera, bodies: list[Body], size: int) -> None:
    """Darken the floor under every body, in place."""
    angles = np.linspace(0.0, 2 * np.pi, 14, endpoint=False)
    rim = np.stack([0.42 * np.cos(angles), 0.36 * np.sin(angles), np.zeros(14)], axis=-1)
    for body in bodies:
        middle = body.joints.mean(1) * np.array([1.0, 1.0, 0.0])
        outline = np.round(camera.project(middle[:, None] + rim)[0] * size).astype(np.int32)
        for frame, polygon in zip(room, outline, strict=True):
            shade = np.zeros((size, size), np.uint8)
            cv2.fillConvexPoly(shade, polygon, 96)
            shade = cv2.blur(shade, (max(size // 12, 1),) * 2)
            np.subtract(255, shade, out=shade)
            cv2.multiply(frame, cv2.merge([shade] * 3), dst=frame, scale=1 / 255)
