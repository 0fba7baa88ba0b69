"""Linear maps of the image plane, applied to frames and boxes with one resampling.

On an accelerator, torch resamples all clips in one call. On the CPU, OpenCV is used, because the torch call takes
longer than a training step of a small network.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.errors import unknown_name

GREY = 0.45 * 255
"""The mean that networks subtract. A pixel with this value is 0 after normalisation."""

# Border modes of OpenCV and torch. A circle is cut from frames that are filled by reflection.
_FILLS = {
    "reflect": (cv2.BORDER_REFLECT, "reflection"),
    "edge": (cv2.BORDER_REPLICATE, "border"),
    "circle": (cv2.BORDER_REFLECT, "reflection"),
}


def linear_map(zoom: Tensor, flip: Tensor, roll: Tensor) -> Tensor:
    """Return ``(B, 2, 2)`` maps of the image plane about its centre: zoom, then mirror, then turn.

    Args:
        zoom: ``(B,)``, values above 1 enlarge.
        flip: ``(B,)`` bool, mirror left and right.
        roll: ``(B,)`` radians, clockwise as seen (y points down).
    """
    mirror = torch.where(flip, -1.0, 1.0)
    cos, sin = torch.cos(roll), torch.sin(roll)
    rows = [torch.stack([cos * mirror, -sin], dim=1), torch.stack([sin * mirror, cos], dim=1)]
    return torch.stack(rows, dim=1) * zoom.view(-1, 1, 1)


def move_boxes(
    boxes: Tensor, clip_index: Tensor, matrix: Tensor, size: Sequence[int], box: str = "ellipse", *, clip: bool = True
) -> Tensor:
    """Map boxes with their clips.

    At multiples of 90° both kinds of boxes are exact.

    Args:
        boxes: ``(K, 4)`` pixels xyxy.
        clip_index: ``(K,)``.
        matrix: ``(B, 2, 2)``, see :func:`linear_map`.
        size: height and width of the frames.
        box: ``"ellipse"`` gives the bounding box of the mapped ellipse inside the original box, which stays close to a
            body; ``"rectangle"`` gives the bounding box of the mapped box, which is up to 1.5 times as large.
        clip: whether to clip the boxes to the image.

    Raises:
        InputError: for another ``box``.
    """
    height, width = size
    centre = boxes.new_tensor([width / 2, height / 2])
    per_box = matrix.to(boxes)[clip_index]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - centre
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = torch.einsum("kij,kj->ki", per_box, middle) + centre
    scaled = per_box * half[:, None, :]
    if box == "ellipse":
        # Half extents of an ellipse with semi-axes `half` under a linear map: the row norms of map · diag(half).
        half = torch.linalg.vector_norm(scaled, dim=2)
    elif box == "rectangle":
        half = scaled.abs().sum(dim=2)
    else:
        raise unknown_name("box", box, ("ellipse", "rectangle"))
    moved = torch.cat([middle - half, middle + half], dim=1)
    return clip_boxes(moved, size) if clip else moved


def clip_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Clip boxes ``(K, 4)`` to an image of this height and width."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def resample(frames: Tensor, matrix: Tensor, colour: Tensor | None = None, fill: str = "reflect") -> Tensor:
    """Change the colours of the frames, then map the frames with bilinear interpolation.

    Args:
        frames: ``(B, 3, T, H, W)``, uint8 or float.
        matrix: ``(B, 2, 2)``, see :func:`linear_map`; or ``(B, T, 2, 2)``, one for each frame.
        colour: ``(B, 3, 4)`` affine maps of colour; None for no change.
        fill: border mode: ``"reflect"``, ``"edge"``, or ``"circle"``, which reflects and also makes pixels outside the
            largest centred circle grey.

    Raises:
        InputError: for another ``fill``.
    """
    if fill not in _FILLS:
        raise unknown_name("fill", fill, _FILLS)
    by_opencv = frames.device.type == "cpu" and not frames.requires_grad
    moved = (_resample_by_opencv if by_opencv else _resample_by_torch)(frames, matrix, colour, fill)
    return cut_circle(moved) if fill == "circle" else moved


def cut_circle(frames: Tensor) -> Tensor:
    """Make frames ``(…, H, W)`` grey outside the largest centred circle, so that corners do not reveal a roll."""
    height, width = frames.shape[-2:]
    rows, columns = (torch.arange(n, device=frames.device) - (n - 1) / 2 for n in (height, width))
    outside = rows[:, None].square() + columns.square() > (min(height, width) / 2) ** 2
    return frames.masked_fill(outside, 0 if frames.is_floating_point() else round(GREY))


def _resample_by_opencv(frames: Tensor, matrix: Tensor, colour: Tensor | None, fill: str = "reflect") -> Tensor:
    """Resample with OpenCV; the result has channels-last memory, which suits OpenCV and most networks."""
    count, _, length, height, width = frames.shape
    dtype: type[np.uint8 | np.float32] = np.uint8 if frames.dtype == torch.uint8 else np.float32
    clips, out = frames.numpy().astype(dtype, copy=False), np.empty((count, length, height, width, 3), dtype)
    # In OpenCV the origin is the centre of the first pixel.
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    linear = (matrix if matrix.dim() == 4 else matrix[:, None]).expand(-1, length, 2, 2).double().numpy()
    matrices = np.concatenate([linear, (centre - linear @ centre)[..., None]], axis=-1)
    colours = None if colour is None else colour.double().numpy()
    # Threads of OpenCV are used, because with Python threads small frames wait for the interpreter lock.
    cv2.setNumThreads(torch.get_num_threads())
    for index, clip in enumerate(clips):
        # All frames of a clip form one tall image, so that pixel operations need one call.
        tall = cv2.merge(list(clip.reshape(3, length * height, width)))
        if colours is not None:
            tall = cv2.transform(tall, colours[index], dst=tall)
        for frame, warp, place in zip(tall.reshape(out.shape[1:]), matrices[index], out[index], strict=True):
            cv2.warpAffine(frame, warp, (width, height), dst=place, borderMode=_FILLS[fill][0])
    return torch.from_numpy(out).movedim(-1, 1).to(frames.dtype)


def _resample_by_torch(frames: Tensor, matrix: Tensor, colour: Tensor | None, fill: str = "reflect") -> Tensor:
    count, channels, length, height, width = frames.shape
    matrix = matrix.to(frames.device, torch.float32)
    pixels = frames.float()
    if colour is not None:
        colour = colour.to(frames.device)
        pixels = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], pixels.reshape(count, channels, -1)).clamp_(0, 255)
    pixels = pixels.reshape(frames.shape)
    each_frame = matrix.dim() == 4
    # One grid per clip if all frames have the same transform, else one grid per frame.
    flat = pixels.transpose(1, 2).flatten(0, 1) if each_frame else pixels.flatten(1, 2)
    # grid_sample uses coordinates from -1 to 1, so that the map in pixels is conjugated by the half sizes.
    size = matrix.new_tensor([width / 2, height / 2])
    inverse = torch.linalg.inv(matrix.reshape(-1, 2, 2)) * size[None, None, :] / size[None, :, None]
    grid = F.affine_grid(F.pad(inverse, (0, 1)), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode=_FILLS[fill][1], align_corners=False)
    moved = moved.view(count, length, channels, height, width).transpose(1, 2) if each_frame else moved
    moved = moved.reshape(frames.shape)
    return moved.round_().to(torch.uint8) if frames.dtype == torch.uint8 else moved.to(frames.dtype)
