"""Estimator of a person's up from the feature maps of a detector's own backbone.

A backbone with pretrained weights, e.g. from ImageNet, distinguishes head and feet better than a small network that is
trained on a few hundred people. Its weights are frozen, and a small head is trained.
"""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.errors import InputError
from microg_da.models.backbone import Backbone, StageOutput, normalise
from microg_da.models.person_patches import MARGIN, disc
from microg_da.models.up_estimator import UpEstimator

SIDE = 96
"""Side of a crop in pixels."""
CELLS = 6
"""Side of the feature map that the head reads."""
QUARTERS = 4
"""The number of quarter turns of each crop."""
CHUNK = 64
"""Number of crops in a batch of the encoder."""


class SquareLens:
    """A square crop whose pixels outside the inscribed circle contain no information about the angle.

    Args:
        side: in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def grid(self, turn: Tensor) -> Tensor:
        """Points ``(N, side, side, 2)`` of the square from −1 to 1, turned clockwise by ``(N,)`` degrees."""
        steps = (torch.arange(self.side, device=turn.device) + 0.5) / self.side * 2 - 1
        x, y = torch.meshgrid(steps, steps, indexing="xy")
        radians = torch.deg2rad(turn)[:, None, None]
        cos, sin = radians.cos(), radians.sin()
        return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)

    def mirror(self, crops: Tensor) -> Tensor:
        """Mirror crops left to right."""
        return crops.flip(-1)


class BackboneRollEstimator(UpEstimator):
    """A head over angles on the second-to-last feature maps of a frozen copy of a backbone.

    The density is the geometric mean over the four quarter turns of a crop, so that it is equivariant to them. Crops
    are still pictures, repeated for networks that need several frames.

    Args:
        backbone: the backbone of a detector, which is copied.
        bins: R, a multiple of 4.

    Raises:
        InputError: if ``bins`` is not a multiple of 4, or the backbone has fewer than two stages.
    """

    patch = round(MARGIN * SIDE)
    encoder_learns: ClassVar[bool] = False
    keeps_colours: ClassVar[bool] = True
    frames_per_clip: ClassVar[int] = 2

    disc: Tensor

    def __init__(self, backbone: Backbone, bins: int = 24) -> None:
        super().__init__(bins)
        if bins % QUARTERS:
            raise InputError(f"bins={bins}: an estimator on a backbone needs a multiple of {QUARTERS}.")
        if len(backbone.stages) < 2:
            raise InputError("estimator=backbone: the backbone has one stage only. Use estimator=polar.")
        self.backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.lens = SquareLens(SIDE)
        device = next(backbone.parameters()).device
        self.register_buffer("disc", disc(SIDE).float().to(device), persistent=False)
        channels = self.encode(torch.zeros(1, 3, SIDE, SIDE, device=device)).shape[1]
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels, affine=False),
            nn.Conv2d(channels, 64, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(64 * CELLS * CELLS, 256),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(256, bins),
        )

    def train(self, mode: bool = True) -> BackboneRollEstimator:
        """Keep the copy of the backbone in evaluation mode."""
        super().train(mode)
        self.backbone.train(False)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> BackboneRollEstimator:
        """Set ``requires_grad`` of the head only, because the copy of the backbone is frozen."""
        self.head.requires_grad_(requires_grad)
        return self

    def take_weights(self, backbone: Backbone) -> None:
        """Copy the weights of a backbone of the same kind."""
        self.backbone.load_state_dict(backbone.state_dict())

    @torch.no_grad()
    def encode(self, crops: Tensor) -> Tensor:
        """Return feature maps ``(N, C, 6, 6)`` of crops ``(N, 3, 96, 96)`` in 0…255, with all pathways' channels."""
        self.backbone.train(False)
        return torch.cat([self._maps(part) for part in torch.split(crops, CHUNK)])

    def decode(self, encoded: Tensor) -> Tensor:
        """Return log-densities ``(N, R)`` for feature maps."""
        scores: Tensor = self.head(encoded.float())
        return scores.log_softmax(dim=1)

    def symmetric(self, crops: Tensor) -> Tensor:
        """Return log-densities ``(N, R)``, the geometric mean over quarter turns of the crop."""
        views = torch.cat([torch.rot90(crops, -quarter, (-2, -1)) for quarter in range(QUARTERS)])
        seen = self.forward(views).chunk(QUARTERS)
        shift = self.bins // QUARTERS
        back = [density.roll(-quarter * shift, 1) for quarter, density in enumerate(seen)]
        return torch.stack(back).mean(dim=0).log_softmax(dim=1)

    def crops(self, patches: Tensor) -> Tensor:
        """Return the central parts ``(K, 3, 96, 96)`` of patches ``(K, 3, S, S)``, with the size of the person."""
        grid = self.lens.grid(patches.new_zeros(len(patches), dtype=torch.float32)) / MARGIN
        return F.grid_sample(patches.float(), grid, padding_mode="reflection", align_corners=False)

    def _maps(self, crops: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def keep(maps: Tensor) -> Tensor:
            seen.append(F.adaptive_avg_pool2d(maps.float().mean(dim=2), CELLS))
            return maps

        def look(_module: nn.Module, _inputs: object, output: StageOutput) -> None:
            self.backbone.adapt(output, [keep] * len(self.backbone.channels))

        hook = self.backbone.get_submodule(self.backbone.stages[-2]).register_forward_hook(look)
        pictures = normalise(crops.round().clamp(0, 255).to(torch.uint8)) * self.disc
        try:
            self.backbone(pictures[:, :, None].repeat(1, 1, self.backbone.still_frames, 1, 1))
        finally:
            hook.remove()
        return torch.cat(seen, dim=1)
