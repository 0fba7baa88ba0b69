"""What part of the frames a network sees, and where the people then are: frames and boxes together, in uint8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

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

    def __call__(self, frames: np.ndarray, boxes: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Apply to all frames of a clip and to its people.

        Args:
            frames: ``(T, H, W, 3)`` uint8.
            boxes: ``(K, 4)`` in [0, 1] of the frame.

        Returns:
            frames ``(3, T, h, w)`` uint8; boxes ``(K', 4)`` in pixels, clipped to the frame; and ``(K,)`` bool,
            which people are left: a crop drops those of whom nothing is inside it.
        """
        _, H, W, _ = frames.shape
        # Channels stay last in memory, which torchvision's uint8 resize is fast on.
        video = tv_tensors.Video(torch.from_numpy(frames).permute(0, 3, 1, 2))
        pixels = torch.from_numpy(boxes).float() * torch.tensor([W, H, W, H], dtype=torch.float32)
        people = tv_tensors.BoundingBoxes(pixels, format="XYXY", canvas_size=(H, W), clamping_mode=None)
        top, left, height, width, size = self._region(H, W)
        video = F.resized_crop(video, top, left, height, width, size, antialias=False)
        people = F.resized_crop(people, top, left, height, width, size)
        if self.flip:
            video, people = F.horizontal_flip(video), F.horizontal_flip(people)
        moved = F.clamp_bounding_boxes(people, clamping_mode="hard").as_subclass(Tensor)
        kept = torch.ones(len(moved), dtype=torch.bool)
        if self.crop is not None:
            kept = ((moved[:, 2:] - moved[:, :2]) > 0).all(dim=1)
        return video.as_subclass(Tensor).permute(1, 0, 2, 3), moved[kept], kept

    def _region(self, H: int, W: int) -> tuple[int, int, int, int, list[int]]:
        """Top, left, height, width of what is cut from the stored frame, and the size it gets."""
        scale = self.short_side / min(H, W)
        if self.crop is None:
            size = [int(H * self.short_side / min(H, W)), int(W * self.short_side / min(H, W))]
            return 0, 0, H, W, size
        side = min(round(self.crop / scale), H, W)
        top, left = (round(place * (room - side)) for place, room in zip(self.offset, (H, W), strict=True))
        return top, left, side, side, [self.crop, self.crop]


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
