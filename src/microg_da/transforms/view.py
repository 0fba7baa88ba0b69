"""The part of the frames that a network sees, and the boxes of the people in it: both computed together, in uint8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from microg_da.errors import InputError
from microg_da.zoo import TEST_SIDE, usual_test_side

PUBLISHED_SCALE = (1.0, 1.25)
"""The range of zoom of the published recipes, relative to the size at which a clip is tested."""


@dataclass(frozen=True)
class View:
    """One resize and crop.

    Attributes:
        short_side: to which the short side of the frame is resized, in pixels.
        crop: the side of the square cut from it; None for the whole frame.
        offset: where the square is, down and right, as a fraction of the room there is.
        keeps_everybody: whether people of whom nothing is inside the square keep their box, which is then empty.
    """

    short_side: int
    crop: int | None = None
    offset: tuple[float, float] = (0.5, 0.5)
    keeps_everybody: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what becomes of a frame."""
        return self._region(height, width)[-1]

    def __call__(
        self, images: Iterable[np.ndarray], places: np.ndarray, boxes: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply to all frames of a clip and to its people.

        Pixels are resized by OpenCV, as the published detectors were trained; torchvision's uint8 resize differs by
        at most one level and takes a third of the time of decoding more.

        Args:
            images: the distinct frames in order, uint8 ``(H, W, 3)`` in OpenCV's channel order.
            places: ``(T,)``, which of them stands at each place of the window.
            boxes: ``(K, 4)`` in [0, 1] of the frame.

        Returns:
            frames ``(3, T, h, w)`` uint8 RGB; boxes ``(K', 4)`` in pixels, clipped to the frame; and ``(K,)`` bool,
            which people are left: a crop drops those of whom nothing is inside it, unless it keeps all people.
        """
        count = int(places.max()) + 1
        H = W = 0
        remaining = iter(images)
        for number in range(count):
            image = next(remaining)
            if number == 0:
                H, W, _ = image.shape
                top, left, height, width, size = self._region(H, W)
                pixels = np.empty((3, count, *size), np.uint8)
            cut = cv2.resize(image[top : top + height, left : left + width], size[::-1])
            cv2.split(cut, [pixels[2, number], pixels[1, number], pixels[0, number]])
            del image  # its memory takes the next frame; a loop over the images would hold on to it
        frames = torch.from_numpy(pixels)
        moved, kept = self._move(boxes, H, W)
        return frames if len(places) == count else frames[:, torch.from_numpy(places)], moved, kept

    def _move(self, boxes: np.ndarray, H: int, W: int) -> tuple[Tensor, Tensor]:
        top, left, height, width, (h, w) = self._region(H, W)
        image, corner, scale = np.array([[W, H] * 2, [left, top] * 2, [w / width, h / height] * 2], np.float32)
        moved = (boxes * image - corner) * scale
        moved = moved.clip(0, np.array([w, h] * 2, np.float32))
        drops = self.crop is not None and not self.keeps_everybody
        kept = (moved[:, :2] < moved[:, 2:]).all(axis=1) if drops else np.full(len(moved), True)
        return torch.from_numpy(moved[kept]), torch.from_numpy(kept)

    def _region(self, H: int, W: int) -> tuple[int, int, int, int, tuple[int, int]]:
        """Top, left, height, width of what is cut from the stored frame, and the size it gets."""
        scale = self.short_side / min(H, W)
        if self.crop is None:
            return 0, 0, H, W, (int(H * self.short_side / min(H, W)), int(W * self.short_side / min(H, W)))
        side = min(round(self.crop / scale), H, W)
        top, left = (round(place * (room - side)) for place, room in zip(self.offset, (H, W), strict=True))
        return top, left, side, side, (self.crop, self.crop)


@dataclass(frozen=True)
class RandomViews:
    """Training: short side jittered and a random square crop.

    The short side is drawn so that its inverse is uniform, as the published recipe does. Flips are left to
    :mod:`microg_da.transforms.augmentation`.

    Attributes:
        crop: side of the square, in pixels.
        min_side: smallest short side before the crop; None for what ``scale`` says.
        max_side: largest short side, likewise.
        scale: smallest and largest zoom (``augment.scale``); 1 is a short side of 8/7 of the crop, the default is the
            published jitter.
        keeps_everybody: as in :class:`View`.

    Raises:
        InputError: if the smallest short side is below the crop or above the largest.
    """

    crop: int
    min_side: int | None = None
    max_side: int | None = None
    scale: tuple[float, float] = PUBLISHED_SCALE
    keeps_everybody: bool = False

    def __post_init__(self) -> None:
        low, high = self.sides
        if not self.crop <= low <= high:
            raise InputError(
                f"training frames have a short side of {low} to {high} pixels before the crop "
                f"(min_side={self.min_side}, max_side={self.max_side}, augment.scale={list(self.scale)}). The smallest "
                f"must be at least the crop of {self.crop} pixels and at most the largest: set augment.scale to at "
                f"least [{1 / TEST_SIDE:g}, ...], or min_side and max_side in the SOURCE."
            )

    @property
    def sides(self) -> tuple[int, int]:
        """Smallest and largest short side."""
        low, high = (usual_test_side(self.crop, zoom) for zoom in self.scale)
        return self.min_side or low, self.max_side or high

    def draw(self, rng: np.random.Generator) -> View:
        """One view."""
        low, high = self.sides
        short_side = round(1 / rng.uniform(1 / high, 1 / low))
        down, right = rng.random(2)
        return View(short_side, self.crop, (down, right), self.keeps_everybody)


@dataclass(frozen=True)
class WholeViews:
    """Testing: the whole frame with its short side at ``short_side`` pixels."""

    short_side: int

    def draw(self, rng: np.random.Generator) -> View:
        """The one view there is."""
        return View(self.short_side)


@dataclass(frozen=True)
class CentreViews:
    """The published validation: the short side at ``short_side`` pixels and the square in the centre.

    People outside the square keep their box, which is then empty.
    """

    short_side: int

    def draw(self, rng: np.random.Generator) -> View:
        """The one view there is."""
        return View(self.short_side, self.short_side, keeps_everybody=True)
