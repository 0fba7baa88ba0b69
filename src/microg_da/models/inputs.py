"""Checks of a detector's inputs: shapes, types, and values without GPU synchronisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from microg_da.errors import InputError
from microg_da.models.convolutions import traced

LARGEST_VALUE = 16.0
"""Limit of normalised pixels, which are in -2…2.44. Frames with larger values are assumed to be in 0…255."""


@torch.no_grad()
def check_inputs(frames: Tensor, boxes: Tensor, clip_index: Tensor) -> None:
    """Check frames, boxes and clip indices; see :meth:`ActionDetector.forward`.

    Values on the CPU are read directly. On CUDA the device asserts the same conditions, prints the message and aborts,
    without synchronisation. There are no checks while a graph is captured for compilation or export, and no checks of
    values on other devices.

    Raises:
        InputError: for an invalid argument. The message gives the expected and the actual value.
    """
    if traced():
        return
    _check_shapes(frames, boxes, clip_index)
    for values, fine, expected in _conditions(frames, boxes, clip_index):
        if values.device.type == "cuda":
            torch._assert_async(fine, expected)
        elif values.device.type == "cpu" and not bool(fine):
            low, high = (float(bound) for bound in values.aminmax())
            raise InputError(f"{expected}; got values from {low:g} to {high:g}.")


def _check_shapes(frames: Tensor, boxes: Tensor, clip_index: Tensor) -> None:
    if frames.dim() != 5 or frames.shape[1] != 3:
        raise InputError(f"frames: expected the shape (B, 3, T, H, W), got {tuple(frames.shape)}.")
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes: expected the shape (K, 4), got {tuple(boxes.shape)}.")
    if clip_index.shape != boxes.shape[:1]:
        raise InputError(
            f"clip_index: expected one number for each of {len(boxes)} boxes, got the shape {tuple(clip_index.shape)}."
        )
    if clip_index.dtype not in (torch.int64, torch.int32):
        raise InputError(f"clip_index: expected int64, got {clip_index.dtype}.")


def _conditions(frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Iterator[tuple[Tensor, Tensor, str]]:
    """Yield the checked tensor, whether it is valid ``()``, and the expectation."""
    if not len(boxes) and not frames.is_floating_point():
        return
    count = len(frames)
    if frames.is_floating_point() and frames.numel():
        low, high = frames.aminmax()
        expected = (
            "frames: floating-point frames must be normalised, about -2 to 2.4; "
            "give uint8 frames, or microg_da.models.backbone.normalise(frames.to(torch.uint8))"
        )
        yield frames, (low >= -LARGEST_VALUE) & (high <= LARGEST_VALUE), expected
    if len(boxes):
        inside = ((clip_index >= 0) & (clip_index < count)).all()
        yield clip_index, inside, f"clip_index: expected the index of a clip of this batch, 0 to {count - 1}"
        yield boxes, boxes.isfinite().all(), "boxes: expected finite numbers"
        expected = "boxes: expected pixels x1 y1 x2 y2, found values in [0, 1]; multiply the boxes by the frame size"
        yield boxes, ~_look_normalised(boxes), expected


def _look_normalised(boxes: Tensor) -> Tensor:
    """Return whether all boxes are within the first pixel, and the area of a box is not cut at the frame's corner.

    The box of a person outside the frame has no area, or an area of a fraction of a pixel in the corner.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    real = (x2 > x1) & (y2 > y1) & ((x1 > 0) | (y1 > 0))
    return ((boxes >= 0) & (boxes <= 1)).all() & real.any()
