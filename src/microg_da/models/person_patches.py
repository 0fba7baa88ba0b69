"""Square patches of frames around people."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.transforms.rotation import roll_map

PATCH = 48
"""Side of a person's patch in pixels."""
MARGIN = 1.5
"""Half the side of a person's patch, in radii of the person's circle."""
LEAST_RADIUS = 1.0
"""Minimum radius in pixels, for boxes without area."""
_FINE_SIDE = 96
"""Shorter side of frames above which each pixel of a patch averages several samples."""


def middle_frames(length: int, count: int) -> list[int]:
    """Return the frames in the middle of ``count`` equal parts of ``length`` frames, without repetition."""
    return sorted({int((part + 0.5) * length / count) for part in range(count)})


def disc(side: int) -> Tensor:
    """Return ``(side, side)`` bool, the pixels of a square inside its inscribed circle."""
    steps = (torch.arange(side) + 0.5) / side * 2 - 1
    return torch.hypot(steps[:, None], steps[None]) <= 1


def person_patches(frames: Tensor, boxes: Tensor, picture: Tensor, size: int = PATCH) -> Tensor:
    """Return square patches ``(K, 3, size, size)`` around people, float32.

    Args:
        frames: ``(B, 3, H, W)``, uint8 or float.
        boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2``. Half a patch's side is ``MARGIN`` times half the longer side.
        picture: ``(K,)`` index of the frame of each person.
        size: side of a patch.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    radius = ((boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / 2).clamp(min=LEAST_RADIUS)
    return square_patches(frames, centre, MARGIN * radius, picture, size)


def square_patches(
    frames: Tensor,
    centre: Tensor,
    half: Tensor,
    picture: Tensor,
    size: int = PATCH,
    turn: Tensor | None = None,
    fine_side: int = _FINE_SIDE,
) -> Tensor:
    """Resample squares of pictures to ``(K, C, size, size)`` float32, with reflection at the border.

    Args:
        frames: ``(B, C, H, W)``, uint8 or float.
        centre: ``(K, 2)`` pixels, x and y.
        half: ``(K,)`` half a side in pixels.
        picture: ``(K,)`` index of the frame.
        size: side of a patch.
        turn: ``(K,)`` degrees by which the content of each square is turned clockwise; None for no turn.
        fine_side: shorter side of frames above which each pixel of a patch averages several samples.
    """
    height, width = frames.shape[-2:]
    fine = max(1, round(min(height, width) / fine_side))
    steps = (torch.arange(size * fine, device=frames.device) + 0.5) / (size * fine) * 2 - 1
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).expand(len(centre), -1, -1, -1)
    if turn is not None:
        unit = torch.einsum("kij,khwj->khwi", roll_map(-turn).to(unit), unit)
    points = centre[:, None, None].float() + half[:, None, None, None].float() * unit
    grid = 2 * points / points.new_tensor([width, height]) - 1
    patches = torch.empty(len(centre), frames.shape[1], size, size, device=frames.device)
    for number in sorted(set(picture.tolist())):
        # Frames are processed one by one, because copies of a frame for each person would cost more than the sampling.
        chosen = picture == number
        seen = frames[number].float()[None]
        points_of_all = grid[chosen].flatten(0, 1)[None]
        (sampled,) = F.grid_sample(seen, points_of_all, padding_mode="reflection", align_corners=False)
        patches[chosen] = F.avg_pool2d(torch.unflatten(sampled, 1, (-1, size * fine)).transpose(0, 1), fine)
    return patches
