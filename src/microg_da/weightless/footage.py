"""The frames of a planned clip and the pixels of its people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from microg_da.data.frames import FrameStore
from microg_da.data.gravity import check_masks
from microg_da.data.masks import MaskFiles
from microg_da.errors import InputError
from microg_da.weightless.people import separate_people
from microg_da.weightless.plan import ClipPlan
from microg_da.weightless.segmenter import open_segmenter


@dataclass(frozen=True)
class Footage:
    """Source of pixels.

    Attributes:
        frames: the frames.
        masks: masks of people, or None.
        segmenter: an ONNX network that segments people, or None.
        short_side: short side to which larger frames are reduced; None for the original size.
    """

    frames: FrameStore
    masks: MaskFiles | None = None
    segmenter: Path | None = None
    short_side: int | None = None

    @property
    def knows_people(self) -> bool:
        """Whether masks or a segmenter are available."""
        return self.masks is not None or self.segmenter is not None

    def size(self, plan: ClipPlan) -> tuple[int, int]:
        """Return height and width of the made clip."""
        height, width = plan.size
        factor = 1.0 if self.short_side is None else min(1.0, self.short_side / min(height, width))
        return max(round(height * factor), 1), max(round(width * factor), 1)

    def read(self, plan: ClipPlan) -> list[np.ndarray]:
        """Read the frames, uint8 ``(H, W, 3)`` with channels blue, green, red.

        Raises:
            InputError: if a frame cannot be read.
        """
        height, width = self.size(plan)
        numbers = np.arange(plan.first, plan.first + plan.count)
        frames = []
        for image in self.frames.read(plan.video_id, numbers):
            same = image.shape[:2] == (height, width)
            frames.append(image if same else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        if len(frames) != plan.count:
            raise InputError(
                f"{plan.video_id}: only {len(frames)} of {plan.count} frames can be read. Copy the video again."
            )
        return frames

    def people(self, plan: ClipPlan, images: list[np.ndarray]) -> list[np.ndarray]:
        """Return the masks ``(frames, H, W)`` bool of each person of the clip.

        Raises:
            InputError: if masks are missing or belong to another video.
        """
        if self.masks is not None:
            stored = self.masks.read(plan.video_id)
            check_masks(stored, plan.video_id, self.frames.num_frames(plan.video_id), plan.size)
            found = np.stack([_resized(mask, self.size(plan)) for mask in stored[plan.first : plan.first + plan.count]])
        else:
            assert self.segmenter is not None
            segmenter = open_segmenter(str(self.segmenter))
            found = np.stack([segmenter(image) for image in images])
        if self.masks is not None and len(plan.people) == 1:
            return [found]
        return separate_people(found, [person.boxes for person in plan.people])


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size:
        return mask
    share = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.5)
