"""Interface of estimators of a person's up, which map patches of people to log-densities over angles.

Angles are in degrees, clockwise as seen. 0 is the top of the picture.
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from microg_da.models.backbone import denormalise
from microg_da.models.person_patches import PATCH, middle_frames, person_patches


class Lens(Protocol):
    """The sampling of a circle around a person."""

    def grid(self, turn: Tensor) -> Tensor:
        """Return points ``(N, a, b, 2)`` of a circle of radius 1 that is turned clockwise; x is right and y is down.

        Args:
            turn: ``(N,)`` degrees.
        """

    def mirror(self, crops: Tensor) -> Tensor:
        """Return crops ``(N, 3, a, b)`` of the horizontally mirrored picture."""


class UpEstimator(nn.Module):
    """Base class of estimators of up.

    An estimator encodes crops and decodes a density from the code. Layers before :meth:`decode` without trainable
    parameters are computed once for each crop in training.

    Args:
        bins: R, angles of the density, evenly spaced from 0.

    Attributes:
        lens: the sampling of crops.
        patch: side of a person's patch in pixels.
        encoder_learns: whether :meth:`encode` is trainable, or too cheap to store. If not, its outputs are stored
            during training.
        keeps_colours: whether training crops keep natural colours, which an encoder with learnt weights expects.
    """

    lens: Lens
    patch: int = PATCH
    encoder_learns: ClassVar[bool] = True
    keeps_colours: ClassVar[bool] = False
    frames_per_clip: ClassVar[int] = 3

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def encode(self, crops: Tensor) -> Tensor:
        """Return features ``(N, …)`` of crops ``(N, 3, a, b)`` in 0…255."""
        return crops

    def decode(self, encoded: Tensor) -> Tensor:
        """Return log-densities ``(N, R)`` of encoded crops."""
        raise NotImplementedError

    def forward(self, crops: Tensor) -> Tensor:
        """Return log-densities ``(N, R)`` of crops."""
        return self.decode(self.encode(crops))

    def symmetric(self, crops: Tensor) -> Tensor:
        """Return log-densities ``(N, R)`` of crops, the geometric mean over transforms and their inverses."""
        raise NotImplementedError

    def crops(self, patches: Tensor) -> Tensor:
        """Return the crops ``(K, 3, a, b)`` of people's patches ``(K, 3, S, S)``."""
        raise NotImplementedError

    def log_density(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Return log-densities ``(K, R)`` of the up of people in clips, the geometric mean over frames.

        Args:
            frames: ``(B, 3, T, H, W)``, uint8, or normalised float as for the detector.
            boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2``.
            clip_index: ``(K,)``.
        """
        if not len(boxes):
            return torch.zeros(0, self.bins, device=frames.device)
        # Densities are in single precision, because half precision is too coarse for rare modes.
        with torch.autocast(frames.device.type, enabled=False):
            seen = [
                self.symmetric(
                    self.crops(person_patches(denormalise(frames[:, :, frame]), boxes, clip_index, self.patch))
                )
                for frame in middle_frames(frames.shape[2], self.frames_per_clip)
            ]
        return torch.stack(seen).mean(dim=0).log_softmax(dim=1)


def circular_cross_entropy(log_density: Tensor, degrees: Tensor, concentration: float = 30.0) -> Tensor:
    """Return the scalar cross-entropy of densities with a von Mises density about the true angles.

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
    """Return the elementwise angle between two directions in degrees, 0 to 180."""
    return (torch.remainder(one - other + 180, 360) - 180).abs()
