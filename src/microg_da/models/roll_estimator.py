"""Which way is up for a person: a density over angles, from a crop that is sampled in polar coordinates.

A turn of the picture about the crop's centre is a cyclic shift of the polar crop, and convolutions that wrap around
the circle turn a shift of their input into a shift of their output. The network is equivariant by construction: if the
same person is turned by k · 360°/R, the density moves by k bins. It does not have to learn one body at every angle.

Angles are in degrees, clockwise as seen. 0 is the top of the picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OVERSAMPLING = 2
"""Directions of a polar crop for each bin of the density."""
PATCH = 48
"""Side of a person's patch in pixels."""
MARGIN = 1.5
"""Half the side of a person's patch, in radii of the person's circle."""
LEAST_RADIUS = 1.0
"""Pixels. A box without area still gives a crop."""
_FINE_SIDE = 96
"""Frames with a shorter side above this are averaged over several samples a pixel of the patch."""


class RollEstimator(nn.Module):
    """A small network from polar crops of people to the log-density of their up over R angles.

    Args:
        bins: R, how many angles, evenly spaced from 0.
        radii: how many rings a crop has, a multiple of 8.
        width: channels of the first layer. The last layers have four times as many.

    Polar sampling follows Esteves et al., "Polar Transformer Networks", ICLR 2018. A small equivariant network that
    turns the input of a larger one is the subject of Kaba et al., "Equivariance with learned canonicalization
    functions", ICML 2023.
    """

    def __init__(self, bins: int = 36, radii: int = 16, width: int = 16) -> None:
        super().__init__()
        self.bins = bins
        self.radii = radii
        wide = 4 * width
        self.rings = nn.Sequential(
            _Wrapped2d(3, width, stride=(1, 1)),
            _Wrapped2d(width, 2 * width, stride=(2, OVERSAMPLING)),
            _Wrapped2d(2 * width, wide, stride=(2, 1)),
            _Wrapped2d(wide, wide, stride=(2, 1)),
        )
        # All rings of one direction become one vector. The layers after it look around the circle.
        self.join = nn.Conv2d(wide, wide, (radii // 8, 1))
        self.around = nn.Sequential(*(_Around(wide, dilation) for dilation in (1, 2, 4)))
        self.score = nn.Conv1d(wide, 1, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Log-densities ``(N, R)`` of polar crops ``(N, 3, radii, 2 R)``, see :func:`polar_crops`."""
        features = self.around(self.join(self.rings(standardise(crops))).squeeze(2))
        scores: Tensor = self.score(F.relu(features))
        return scores.squeeze(1).log_softmax(dim=1)

    def symmetric(self, crops: Tensor) -> Tensor:
        """As :meth:`forward`, the geometric mean with what the network says of the mirrored crop, mirrored back."""
        both = self.forward(torch.cat([crops, mirror(crops)]))
        as_is, mirrored = both.chunk(2)
        return ((as_is + mirror(mirrored)) / 2).log_softmax(dim=1)

    def log_density(self, frames: Tensor, boxes: Tensor, clip_index: Tensor, looks: int = 3) -> Tensor:
        """Log-densities ``(K, R)`` of the up of people in clips, the geometric mean over frames.

        Args:
            frames: ``(B, 3, T, H, W)``, uint8 or float.
            boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2``.
            clip_index: ``(K,)``.
            looks: how many frames are looked at, evenly spaced over the window.
        """
        if not len(boxes):
            return frames.new_zeros(0, self.bins, dtype=torch.float32)
        # A density is taken in single precision: half precision has too few bits for what rare modes weigh.
        with torch.autocast(frames.device.type, enabled=False):
            seen = [
                self.symmetric(self.crops(person_patches(frames[:, :, frame], boxes, clip_index)))
                for frame in look_at(frames.shape[2], looks)
            ]
        return torch.stack(seen).mean(dim=0).log_softmax(dim=1)

    def crops(self, patches: Tensor) -> Tensor:
        """The polar crops ``(K, 3, radii, 2 R)`` of people's patches ``(K, 3, S, S)``."""
        centre = patches.new_zeros(len(patches), 2, dtype=torch.float32)
        radius = torch.full_like(centre[:, 0], 1 / MARGIN)
        return polar_crops(patches, centre, radius, self.radii, OVERSAMPLING * self.bins)


class _Wrapped2d(nn.Module):
    """Convolution over rings and directions. Directions wrap around; the first and the last ring are repeated."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.norm = nn.GroupNorm(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")
        return F.relu(self.norm(self.convolution(x)))


class _Around(nn.Module):
    """Residual convolution around the circle."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.convolution = nn.Conv1d(width, width, 5, dilation=dilation, bias=False)
        self.norm = nn.GroupNorm(4, width)

    def forward(self, x: Tensor) -> Tensor:
        around: Tensor = self.norm(self.convolution(F.pad(F.relu(x), (self.reach, self.reach), mode="circular")))
        return x + around


def look_at(length: int, looks: int) -> list[int]:
    """Which of ``length`` frames are looked at: the middles of ``looks`` equal parts, each frame once."""
    return sorted({int((part + 0.5) * length / looks) for part in range(looks)})


def standardise(crops: Tensor) -> Tensor:
    """Each crop with mean 0 and standard deviation 1 over all its pixels and colours."""
    flat = crops.flatten(1)
    shape = (-1, *[1] * (crops.dim() - 1))
    mean, deviation = flat.mean(dim=1).view(shape), flat.std(dim=1).clamp(min=1e-3).view(shape)
    return (crops - mean) / deviation


def mirror(around: Tensor) -> Tensor:
    """Directions ``(…, N)`` of the picture mirrored left and right: angle a goes to −a, and 0 stays."""
    return around.flip(-1).roll(1, -1)


def person_patches(frames: Tensor, boxes: Tensor, picture: Tensor, size: int = PATCH) -> Tensor:
    """Square patches ``(K, 3, size, size)`` around people, float32.

    Args:
        frames: ``(B, 3, H, W)``, uint8 or float.
        boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2``. Half a patch's side is ``MARGIN`` times half the longer side.
        picture: ``(K,)`` which of the frames each person is in.
        size: side of a patch.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    radius = ((boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / 2).clamp(min=LEAST_RADIUS)
    return square_patches(frames, centre, MARGIN * radius, picture, size)


def square_patches(frames: Tensor, centre: Tensor, half: Tensor, picture: Tensor, size: int = PATCH) -> Tensor:
    """Squares of pictures, resampled to ``(K, 3, size, size)`` float32. What is beyond the border is reflected.

    Args:
        frames: ``(B, 3, H, W)``, uint8 or float.
        centre: ``(K, 2)`` pixels, x and y.
        half: ``(K,)`` half a side in pixels.
        picture: ``(K,)`` which of the frames.
        size: side of a patch.
    """
    height, width = frames.shape[-2:]
    fine = max(1, round(min(height, width) / _FINE_SIDE))
    steps = (torch.arange(size * fine, device=frames.device) + 0.5) / (size * fine) * 2 - 1
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    points = centre[:, None, None].float() + half[:, None, None, None].float() * unit
    grid = 2 * points / points.new_tensor([width, height]) - 1
    patches = torch.empty(len(centre), 3, size, size, device=frames.device)
    for number in sorted(set(picture.tolist())):
        # One picture at a time: a copy of the whole frame for each person in it would cost more than the sampling.
        chosen = picture == number
        seen = frames[number].float()[None]
        points_of_all = grid[chosen].flatten(0, 1)[None]
        (sampled,) = F.grid_sample(seen, points_of_all, padding_mode="reflection", align_corners=False)
        patches[chosen] = F.avg_pool2d(torch.unflatten(sampled, 1, (-1, size * fine)).transpose(0, 1), fine)
    return patches


def polar_grid(radii: int, directions: int, turn: Tensor) -> Tensor:
    """Points ``(N, radii, directions, 2)`` in a circle of radius 1, x to the right and y down.

    Args:
        radii: rings, the innermost half a step from the centre.
        directions: clockwise from the top.
        turn: ``(N,)`` degrees by which all directions are turned clockwise.
    """
    rings = (torch.arange(radii, device=turn.device) + 0.5) / radii
    angles = torch.arange(directions, device=turn.device) * (2 * math.pi / directions) + torch.deg2rad(turn)[:, None]
    unit = torch.stack([angles.sin(), -angles.cos()], dim=-1)
    return rings[None, :, None, None] * unit[:, None]


def polar_crops(
    patches: Tensor, centre: Tensor, radius: Tensor, radii: int, directions: int, turn: Tensor | None = None
) -> Tensor:
    """Circles of patches in polar coordinates ``(N, 3, radii, directions)``, bilinearly.

    Args:
        patches: ``(N, 3, S, S)``.
        centre: ``(N, 2)``; −1 and 1 are the borders of the patch.
        radius: ``(N,)`` in the same unit.
        radii: rings.
        directions: clockwise from the top.
        turn: ``(N,)`` degrees by which the picture is turned clockwise before it is sampled; None: not at all.
    """
    turn = torch.zeros_like(radius) if turn is None else turn
    points = centre[:, None, None] + radius[:, None, None, None] * polar_grid(radii, directions, -turn)
    return F.grid_sample(patches.float(), points, padding_mode="reflection", align_corners=False)


def circular_cross_entropy(log_density: Tensor, degrees: Tensor, concentration: float = 30.0) -> Tensor:
    """Cross-entropy of densities with a von Mises density about the true angles, a scalar.

    Args:
        log_density: ``(N, R)`` logarithms, at angles evenly spaced from 0.
        degrees: ``(N,)``.
        concentration: κ. With 30 the standard deviation is about 10°.
    """
    bins = log_density.shape[1]
    angles = torch.arange(bins, device=degrees.device) * (2 * math.pi / bins)
    target = (concentration * (angles - torch.deg2rad(degrees)[:, None]).cos()).softmax(dim=1)
    return -(target * log_density).sum(dim=1).mean()


def angular_distance(one: Tensor, other: Tensor) -> Tensor:
    """The smaller angle between two directions in degrees, 0 to 180, elementwise."""
    return (torch.remainder(one - other + 180, 360) - 180).abs()
