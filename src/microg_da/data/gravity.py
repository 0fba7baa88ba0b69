"""Rolled cameras for a data set on reading: ``?gravity=rolled`` rolls the camera of each video.

Nothing is written. The roll of a video depends only on the seed and its name. Boxes are computed from the turned mask
if the data set has masks and the video has one person, else from the turned ellipse in the box.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, UP
from microg_da.data.dataset import Timing
from microg_da.data.frames import FrameStore, StampedFrames
from microg_da.data.masks import MaskFiles
from microg_da.errors import InputError
from microg_da.transforms.camera import (
    CameraMotion,
    Fill,
    RollDistribution,
    draw_motion,
    keep_inside,
    mask_box,
    outline,
    view_boxes,
    view_frame,
    view_mask,
)

LEAST_BOX = 1e-4
"""Sides of the smallest box, as a fraction of the frame."""


@dataclass(frozen=True)
class RollPlan:
    """Settings of rolled cameras.

    Attributes:
        rolls: the distribution of the roll.
        seed: seed of all random values.
        spin: the largest angular speed in degrees per second.
        drift: the largest speed in frame heights per second.
        fill: the fill beyond the frame.
    """

    rolls: RollDistribution = field(default_factory=RollDistribution)
    seed: int = 0
    spin: float = 0.0
    drift: float = 0.0
    fill: Fill = "reflect"

    def motion(self, name: str) -> CameraMotion:
        """Return the motion of a clip before it is adjusted to keep people in the frame; depends on seed and name."""
        return draw_motion(named_rng(self.seed, name, "camera"), self.rolls, self.spin, self.drift)


def named_rng(seed: int, *names: str) -> np.random.Generator:
    """Return a generator that depends only on a seed and on names."""
    digest = hashlib.sha256("\n".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


class RolledVideos:
    """The videos of a data set from rolled cameras; a :class:`~microg_da.data.frames.FrameStore`.

    Args:
        frames: the original frames.
        people: boxes that must stay visible: ``video_id, frame_stamp, x1, y1, x2, y2``.
        timing: conversion of a ``frame_stamp`` to a frame.
        plan: settings of the cameras. Spin and drift must be 0, since videos may be long.
        masks: masks of people; None without.
    """

    def __init__(
        self, frames: FrameStore, people: pd.DataFrame, timing: Timing, plan: RollPlan, masks: MaskFiles | None = None
    ) -> None:
        if plan.spin or plan.drift:
            raise ValueError(
                "spin and drift are not supported for long videos, because people leave the view; write clips instead"
            )
        self._frames = frames
        self._timing = timing
        self._plan = plan
        self._boxes = {str(name): rows for name, rows in people.groupby("video_id", sort=False)}
        self._masks = masks
        self._masked = set() if masks is None else set(self._boxes) - set(masks.missing(sorted(self._boxes)))
        self._motions: dict[str, CameraMotion] = {}
        self._mask_boxes: dict[tuple[str, float], np.ndarray | None] = {}

    def num_frames(self, video_id: str) -> int:
        """As filmed."""
        return self._frames.num_frames(video_id)

    def frame_size(self, video_id: str) -> tuple[int, int]:
        """As filmed."""
        return self._frames.frame_size(video_id)

    def fps(self, video_id: str) -> float | None:
        """As filmed."""
        return self._frames.fps(video_id)

    def missing(self, video_ids: Sequence[str]) -> dict[str, str]:
        """As filmed."""
        return self._frames.missing(video_ids)

    def read(self, video_id: str, numbers: np.ndarray, min_short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yield the frames of the rolled camera."""
        motion = self.motion(video_id)
        for image in self._frames.read(video_id, numbers, min_short_side):
            yield view_frame(image, motion.matrix(0.0, image.shape[:2]), self._plan.fill)

    def stamp(self, video_id: str, numbers: np.ndarray) -> str:
        """See :meth:`~microg_da.data.frames.StampedFrames.stamp`.

        Raises:
            InputError: if the frames do not support change detection.
        """
        if not isinstance(self._frames, StampedFrames):
            raise InputError(f"{type(self._frames).__name__} has no method stamp; see StampedFrames in data/frames.py.")
        return f"{self.motion(video_id)} {self._plan.fill} {self._frames.stamp(video_id, numbers)}"

    def motion(self, video_id: str) -> CameraMotion:
        """Return the motion of the camera of a video, with people kept in the frame."""
        if video_id not in self._motions:
            size = self.frame_size(video_id)
            height, width = size
            boxes = self._boxes[video_id][BOX].to_numpy(float) * [width, height, width, height]
            self._motions[video_id] = keep_inside(self._plan.motion(video_id), [(0.0, outline(boxes))], size)
        return self._motions[video_id]

    def turn(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the boxes of the rolled camera and the column ``up``.

        The roll of the camera is added to the column ``up`` of the table; without it, people are upright.

        Raises:
            InputError: if a video's size cannot be read.
        """
        turned = table.copy()
        boxes, ups = np.empty((len(table), 4)), np.empty(len(table))
        for video, rows in table.reset_index(drop=True).groupby("video_id", sort=False):
            places = rows.index.to_numpy()
            boxes[places] = self._turn(str(video), rows)
            ups[places] = self.motion(str(video)).roll
        turned[BOX] = boxes
        turned[UP] = (ups + (table[UP].to_numpy(float) if UP in table else 0.0)) % 360.0
        return turned

    def _turn(self, video_id: str, rows: pd.DataFrame) -> np.ndarray:
        size = self.frame_size(video_id)
        scale = np.array([size[1], size[0]] * 2, float)
        boxes = view_boxes(rows[BOX].to_numpy(float) * scale, self.motion(video_id).matrix(0.0, size), size) / scale
        if video_id in self._masked:
            for place, stamp in enumerate(rows.frame_stamp.tolist()):
                exact = self._mask_box(video_id, stamp)
                if exact is not None:
                    boxes[place] = exact / scale
        return np.stack([proper_box(box) for box in boxes])

    def _mask_box(self, video_id: str, stamp: float) -> np.ndarray | None:
        """Return the box of the turned mask in pixels for a keyframe with one person; None without a mask."""
        key = (video_id, stamp)
        if key not in self._mask_boxes:
            here = self._boxes[video_id]
            alone = len(here.loc[here.frame_stamp == stamp, BOX].drop_duplicates()) == 1
            size = self.frame_size(video_id)
            mask = self._mask(video_id, stamp) if alone else None
            self._mask_boxes[key] = (
                None if mask is None else mask_box(view_mask(mask, self.motion(video_id).matrix(0.0, size), size))
            )
        return self._mask_boxes[key]

    def _mask(self, video_id: str, stamp: float) -> np.ndarray:
        assert self._masks is not None
        masks = self._masks.read(video_id)
        check_masks(masks, video_id, self._frames.num_frames(video_id), self.frame_size(video_id))
        return np.asarray(masks[self._timing.frame(self._frames, video_id, stamp)])


def check_masks(masks: np.ndarray, video_id: str, count: int, size: tuple[int, int]) -> None:
    """Check that masks belong to a video.

    Raises:
        InputError: if their number or size differs.
    """
    if masks.shape != (count, *size):
        raise InputError(
            f"{video_id}: its masks are of {masks.shape[0]} frames of {masks.shape[2]}×{masks.shape[1]} pixels, the "
            f"video has {count} frames of {size[1]}×{size[0]}. Make the masks from this video."
        )


def proper_box(box: np.ndarray) -> np.ndarray:
    """Return a box in [0, 1] with an area, even if the person is outside the frame."""
    low = np.clip(box[:2], 0.0, 1.0 - LEAST_BOX)
    return np.concatenate([low, np.clip(np.maximum(box[2:], low + LEAST_BOX), 0.0, 1.0)])
