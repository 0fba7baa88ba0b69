"""Resize and crop of frames and boxes for a network, in uint8."""

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
"""Range of zoom of the published recipes, relative to the size in tests."""


@dataclass(frozen=True)
class View:
    """One resize and crop.

    Attributes:
        short_side: length of the short side of the resized frame, in pixels.
        crop: side of the square crop; None for the whole frame.
        offset: position of the crop, down and right, as a fraction of the possible offset.
        keeps_everybody: whether people outside the crop are kept with an empty box.
    """

    short_side: int
    crop: int | None = None
    offset: tuple[float, float] = (0.5, 0.5)
    keeps_everybody: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for a frame of this height and width."""
        return self._region(height, width)[-1]

    def __call__(
        self, images: Iterable[np.ndarray], places: np.ndarray, boxes: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the view to all frames and people of a clip.

        OpenCV resizes pixels, as in the training of the published detectors. The uint8 resize of torchvision differs
        by at most one level and takes more time, a third of the time of decoding.

        Args:
            images: the distinct frames in order, uint8 ``(H, W, 3)`` in OpenCV's channel order.
            places: ``(T,)`` index of the distinct frame for each position in the window.
            boxes: ``(K, 4)`` in [0, 1] of the frame.

        Returns:
            Frames ``(3, T, h, w)`` uint8 RGB; boxes ``(K', 4)`` in pixels, clipped to the frame; and a mask ``(K,)``
            bool of the kept people. A crop drops people outside of it, unless ``keeps_everybody`` is set.
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
            del image  # release the memory for the next frame; a loop over the images would keep it
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
        """Return top, left, height and width of the region of the stored frame, and the size of the result."""
        scale = self.short_side / min(H, W)
        if self.crop is None:
            return 0, 0, H, W, (int(H * self.short_side / min(H, W)), int(W * self.short_side / min(H, W)))
        side = min(round(self.crop / scale), H, W)
        top, left = (round(place * (room - side)) for place, room in zip(self.offset, (H, W), strict=True))
        return top, left, side, side, (self.crop, self.crop)


@dataclass(frozen=True)
class RandomViews:
    """Random views for training: a random short side and a random square crop.

    The inverse of the short side is uniform, as in the published recipe. Flips are part of
    :mod:`microg_da.transforms.augmentation`.

    Attributes:
        crop: side of the square, in pixels.
        min_side: minimum short side before the crop; None for the value from ``scale``.
        max_side: maximum short side before the crop; None for the value from ``scale``.
        scale: minimum and maximum zoom (``augment.scale``); 1 is a short side of 8/7 of the crop. The default is the
            published range.
        keeps_everybody: as in :class:`View`.

    Raises:
        InputError: if the minimum short side is below the crop or above the maximum.
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
                f"must be at least the crop of {self.crop} pixels and at most the largest. Set augment.scale to at "
                f"least [{1 / TEST_SIDE:g}, ...], or set min_side and max_side in the SOURCE."
            )

    @property
    def sides(self) -> tuple[int, int]:
        """Minimum and maximum short side."""
        low, high = (usual_test_side(self.crop, zoom) for zoom in self.scale)
        return self.min_side or low, self.max_side or high

    def draw(self, rng: np.random.Generator) -> View:
        """Draw one view."""
        low, high = self.sides
        short_side = round(1 / rng.uniform(1 / high, 1 / low))
        down, right = rng.random(2)
        return View(short_side, self.crop, (down, right), self.keeps_everybody)


@dataclass(frozen=True)
class WholeViews:
    """Views for tests: the whole frame with a short side of ``short_side`` pixels."""

    short_side: int

    def draw(self, rng: np.random.Generator) -> View:
        """Return the fixed view."""
        return View(self.short_side)


@dataclass(frozen=True)
class CentreViews:
    """Views of the published validation: a short side of ``short_side`` pixels and a centre crop.

    People outside the crop are kept with an empty box.
    """

    short_side: int

    def draw(self, rng: np.random.Generator) -> View:
        """Return the fixed view."""
        return View(self.short_side, self.short_side, keeps_everybody=True)
