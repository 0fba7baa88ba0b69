"""Augmentation of whole batches on the device: one resampling for zoom, flip and roll, frames and boxes together.

torchvision's transforms draw one set of parameters a call, so a batch would need a loop over clips and several
resamplings; and they fill rotated corners with a colour from which a network could read the angle. Here each clip
has its own affine map, all clips are resampled in one call, and corners are filled by reflection.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.config import AugmentConfig
from microg_da.data.clips import ClipBatch


def augment_batch(batch: ClipBatch, config: AugmentConfig, generator: torch.Generator | None = None) -> ClipBatch:
    """Zoom, flip, roll and recolour each clip of a batch; the same for all frames of a clip.

    Args:
        batch: frames ``(B, 3, T, H, W)`` uint8.
        config: how much of each.
        generator: where the randomness comes from; None for torch's own.

    Returns:
        The batch with uint8 frames of the same shape and boxes in their new places, clipped to the image.
    """
    count, device = len(batch), batch.frames.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator).to(device) * (high - low) + low

    zoom = torch.exp(uniform(*(float(torch.tensor(bound).log()) for bound in config.scale)))
    flip = uniform(0, 1) < config.flip
    roll = torch.deg2rad(uniform(-config.rotation, config.rotation))
    gains = [uniform(1 - config.colour, 1 + config.colour) for _ in range(3)]
    frames, boxes = apply_affine(batch.frames, batch.boxes, batch.clip_index, zoom, flip, roll)
    return replace(batch, frames=recolour(frames, *gains).round_().to(torch.uint8), boxes=boxes)


def apply_affine(
    frames: Tensor, boxes: Tensor, clip_index: Tensor, zoom: Tensor, flip: Tensor, roll: Tensor
) -> tuple[Tensor, Tensor]:
    """Zoom, then mirror, then turn each clip about its centre.

    Args:
        frames: ``(B, 3, T, H, W)``, any dtype.
        boxes: ``(K, 4)`` pixels xyxy.
        clip_index: ``(K,)``.
        zoom: ``(B,)``, above 1 enlarges.
        flip: ``(B,)`` bool, mirror left and right.
        roll: ``(B,)`` radians, clockwise as seen (y points down).

    Returns:
        float frames in the value range of the input, and the boxes. A turned box is the tightest axis-aligned box
        of the turned ellipse that the old box encloses, which stays close to a body where the box of the turned
        rectangle grows by up to half; at multiples of 90° both are exact.
    """
    height, width = frames.shape[-2:]
    mirror = torch.where(flip, -1.0, 1.0)
    cos, sin = torch.cos(roll), torch.sin(roll)
    # Forward map in pixels about the centre: p' = R(roll) · diag(mirror, 1) · zoom · p.
    forward = torch.stack(
        [torch.stack([cos * mirror, -sin], dim=1), torch.stack([sin * mirror, cos], dim=1)], dim=1
    ) * zoom.view(-1, 1, 1)
    moved = _resample(frames, torch.linalg.inv(forward))

    centre = boxes.new_tensor([width / 2, height / 2])
    per_box = forward.to(boxes)[clip_index]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - centre
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = torch.einsum("kij,kj->ki", per_box, middle) + centre
    # Half extents of an ellipse with semi-axes `half` under a linear map: the row norms of map · diag(half).
    half = torch.linalg.vector_norm(per_box * half[:, None, :], dim=2)
    limits = boxes.new_tensor([width, height, width, height])
    return moved, torch.minimum(torch.cat([middle - half, middle + half], dim=1).clamp(min=0), limits)


def _resample(frames: Tensor, inverse: Tensor) -> Tensor:
    """Sample every frame at the inverse-mapped places, bilinearly, reflecting at the border."""
    count, channels, length, height, width = frames.shape
    # grid_sample counts from -1 to 1 in each direction, so that a map in pixels is conjugated by the half sizes.
    size = inverse.new_tensor([width / 2, height / 2])
    theta = torch.zeros(count, 2, 3, device=inverse.device, dtype=inverse.dtype)
    theta[:, :, :2] = inverse * size[None, None, :] / size[None, :, None]
    flat = frames.reshape(count, channels * length, height, width).float()
    grid = F.affine_grid(theta.float(), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False).view(frames.shape)


def recolour(frames: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation of each clip (in place).

    Args:
        frames: ``(B, 3, T, H, W)`` float in 0…255.
        brightness: ``(B,)`` factor on all values.
        contrast: ``(B,)`` factor on the distance from the clip's mean.
        saturation: ``(B,)`` factor on the distance from grey.
    """
    shape = (-1, 1, 1, 1, 1)
    grey = (frames * frames.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1, 1)).sum(dim=1, keepdim=True)
    frames = torch.lerp(grey, frames, saturation.view(shape))
    mean = frames.mean(dim=(1, 2, 3, 4), keepdim=True)
    frames = torch.lerp(mean, frames, contrast.view(shape))
    return frames.mul_(brightness.view(shape)).clamp_(0, 255)
