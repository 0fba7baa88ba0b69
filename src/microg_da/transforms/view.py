"""What part of the frames a network sees, and where the people then are: frames and boxes together, in uint8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from microg_da.errors import InputError

# The ratios of the published recipes: crops of 224, 160 and 312 are tested at 256, 182 and 356, and jittered to
# 320, 228 and 445.
TEST_SIDE = 8 / 7
LARGEST_SIDE = 10 / 7


@dataclass(frozen=True)
class View:
    """One resize, crop and flip.

    Attributes:
        short_side: to which the short side of the frame is resized, in pixels.
        crop: the side of the square cut from it; None for the whole frame.
        offset: where the square is, down and right, as a fraction of the room there is.
        flip: mirror left and right.
    """

    short_side: int
    crop: int | None = None
    offset: tuple[float, float] = (0.5, 0.5)
    flip: bool = False

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
            which people are left: a crop drops those of whom nothing is inside it.
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
            if self.flip:
                cut = cv2.flip(cut, 1)
            cv2.split(cut, [pixels[2, number], pixels[1, number], pixels[0, number]])
            del image  # its memory takes the next frame; a loop over the images would hold on to it
        frames = torch.from_numpy(pixels)
        moved, kept = self._move(boxes, H, W)
        return frames if len(places) == count else frames[:, torch.from_numpy(places)], moved, kept

    def _move(self, boxes: np.ndarray, H: int, W: int) -> tuple[Tensor, Tensor]:
        top, left, height, width, (h, w) = self._region(H, W)
        image, corner, scale = np.array([[W, H] * 2, [left, top] * 2, [w / width, h / height] * 2], np.float32)
        moved = (boxes * image - corner) * scale
        if self.flip:
            moved[:, [0, 2]] = w - moved[:, [2, 0]]
        moved = moved.clip(0, np.array([w, h] * 2, np.float32))
        kept = np.full(len(moved), True) if self.crop is None else (moved[:, :2] < moved[:, 2:]).all(axis=1)
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
    """Training: short side jittered, a random square crop, flipped half of the time.

    The short side is drawn so that its inverse is uniform, as the published recipe does.

    Attributes:
        crop: side of the square, in pixels.
        min_side: smallest short side before the crop; None for 8/7 of the crop.
        max_side: largest short side; None for 10/7 of the crop.
        flip: probability of a flip.
    """

    crop: int
    min_side: int | None = None
    max_side: int | None = None
    flip: float = 0.5

    def __post_init__(self) -> None:
        low, high = self.sides
        if not self.crop <= low <= high:
            raise InputError(
                f"min_side={low}, max_side={high}: the short side must be at least the crop ({self.crop}) and min_side "
                f"at most max_side"
            )
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip={self.flip}: a probability in [0, 1] is expected")

    @property
    def sides(self) -> tuple[int, int]:
        """Smallest and largest short side."""
        return self.min_side or int(self.crop * TEST_SIDE), self.max_side or int(self.crop * LARGEST_SIDE)

    def draw(self, rng: np.random.Generator) -> View:
        """One view."""
        low, high = self.sides
        short_side = round(1 / rng.uniform(1 / high, 1 / low))
        down, right, coin = rng.random(3)
        return View(short_side, self.crop, (down, right), bool(coin < self.flip))


@dataclass(frozen=True)
class WholeViews:
    """Testing: the whole frame with its short side at ``short_side`` pixels."""

    short_side: int

    def draw(self, rng: np.random.Generator) -> View:
        """The one view there is."""
        return View(self.short_side)
