"""Learned canonicalisation: a small network scores rotations of a whole clip, and the detector sees the best one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microg_da.adaptation.base import Knowledge, Task, detect, limit_clips
from microg_da.adaptation.up import fit_briefly
from microg_da.adaptation.up_method import REHEARSED, Found, UpMethod
from microg_da.errors import InputError
from microg_da.models.backbone import denormalise
from microg_da.models.detector import ActionDetector
from microg_da.models.person_patches import disc, look_at, square_patches
from microg_da.models.up_estimator import circular_cross_entropy
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipBatch

PICTURE = 64
"""Side in pixels of the pictures that are kept of the clips; rotations are resampled from these."""


@dataclass
class LearnedCanonicalizationArguments:
    """Settings of :class:`LearnedCanonicalization`.

    Attributes:
        rolls: R, the order of the group of rotations, evenly spaced from 0.
        size: side in pixels of the pictures that the network sees.
        width: channels of its first layer.
        steps: of the optimiser.
        batch_size: clips a step.
        lr: the highest learning rate of a schedule with one cycle.
        weight_decay: of AdamW.
        concentration: of the prior about the identity, see
            :func:`~microg_da.models.up_estimator.circular_cross_entropy`.
        looks: frames of each clip; scores are averaged over them.
        max_clips: source clips that are looked at; None for all.
    """

    rolls: int = 24
    size: int = 32
    width: int = 16
    steps: int = 300
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.02
    concentration: float = 30.0
    looks: int = 2
    max_clips: int | None = 2000


class Canonicalizer(nn.Module):
    """Log-probabilities over R rotations of a picture, equivariant to rotations of the picture.

    One network scores the picture under each rotation. A rotation of the picture permutes the R views cyclically, and
    so the scores. This holds for any network; it is exact for quarter turns, and else up to resampling.

    Args:
        rolls: R.
        size: side in pixels of a view.
        width: channels of the first layer; the last layers have four times as many.
    """

    def __init__(self, rolls: int = 24, size: int = 32, width: int = 16) -> None:
        super().__init__()
        self.rolls, self.size = rolls, size
        widths = (3, width, 2 * width, 4 * width)
        layers = [_layer(inputs, outputs) for inputs, outputs in pairwise(widths)]
        self.score = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, 1))

    def views(self, pictures: Tensor, degrees: Tensor) -> Tensor:
        """``(N, R, 3, size, size)`` the circle of each picture under R rotations, standardised.

        View ``r`` is the picture turned by ``degrees − r · 360° / R`` clockwise: if the up of the picture so turned is
        ``r · 360° / R``, view ``r`` is upright.

        Args:
            pictures: ``(N, 3, S, S)``.
            degrees: ``(N,)`` by which each picture is turned clockwise before.
        """
        turns = degrees[:, None] - torch.arange(self.rolls, device=degrees.device) * (360 / self.rolls)
        radians = torch.deg2rad(turns).flatten()
        cos, sin, none = radians.cos(), radians.sin(), torch.zeros_like(radians)
        # Where each pixel of a turned picture comes from: the inverse rotation. y points down.
        rows = [torch.stack([cos, sin, none], dim=1), torch.stack([-sin, cos, none], dim=1)]
        shape = [len(radians), 3, self.size, self.size]
        grid = F.affine_grid(torch.stack(rows, dim=1), shape, align_corners=False)
        # One call for all views of a picture, one below the other: copies of the picture would cost more.
        below = grid.reshape(len(pictures), self.rolls * self.size, self.size, 2)
        sampled = F.grid_sample(pictures.float(), below, padding_mode="reflection", align_corners=False)
        seen = sampled.view(len(pictures), 3, self.rolls, self.size, self.size).transpose(1, 2)
        inside = disc(self.size).to(seen.device)
        spread, mean = torch.std_mean(seen[..., inside], dim=(2, 3))
        return (seen - mean[..., None, None, None]) / spread.clamp(min=1e-3)[..., None, None, None] * inside

    def forward(self, pictures: Tensor, degrees: Tensor | None = None) -> Tensor:
        """Log-probabilities ``(N, R)`` of the up of pictures ``(N, 3, S, S)``, turned by ``degrees`` before."""
        degrees = pictures.new_zeros(len(pictures), dtype=torch.float32) if degrees is None else degrees
        scores: Tensor = self.score(self.views(pictures, degrees).flatten(0, 1))
        return scores.view(len(pictures), self.rolls).log_softmax(dim=1)


class LearnedCanonicalization(UpMethod):
    """A small equivariant network finds one rotation for a whole clip, and the detector sees the clip so turned.

    The canonicalisation is the rotation with the highest score, as in Kaba et al., "Equivariance with learned
    canonicalization functions", ICML 2023, section on optimisation; the scores are those of one network on each rotated
    picture. It is trained by the prior of Mondal et al., "Equivariant adaptation of large pretrained models", NeurIPS
    2023: clips of the data set that the detector was trained on are in their canonical orientation, so that the
    network is to choose the identity for them. The detector is frozen.

    Deviations:

    - The loss of the task is left out (a weight of 0 in the authors' program): no label is read, and no gradient passes
      through the detector.
    - The prior is a von Mises density about the identity, not a one-hot target; and source clips are rolled by a known
      random angle, so that the network cannot tell the identity by its lack of interpolation.
    - The network sees a circle of the frame, since corners give the angle away.

    It reads whole frames, floors and walls included, and is the comparison for
    :class:`~microg_da.adaptation.gravity_frame.GravityFrame`, which reads people only.

    Example:
        >>> from microg_da import create_adaptation
        >>> method = create_adaptation("learned_canonicalization", {"rolls": 8}, feature_dim=128, num_classes=50)
        >>> method.canonicalizer.rolls
        8
    """

    Arguments: ClassVar[type] = LearnedCanonicalizationArguments
    arguments: LearnedCanonicalizationArguments
    needs_encoder = "estimates up from pixels and rolls clips by any angle"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset({"rolls"})

    def __init__(self, arguments: LearnedCanonicalizationArguments, task: Task) -> None:
        super().__init__(arguments, task)
        for name, least in (("rolls", 2), ("size", 8), ("width", 1), ("steps", 1), ("batch_size", 1), ("looks", 1)):
            if getattr(arguments, name) < least:
                raise InputError(f"{name}={getattr(arguments, name)}: expected a whole number of at least {least}.")
        self.canonicalizer = Canonicalizer(arguments.rolls, arguments.size, arguments.width)
        self.canonicalizer.requires_grad_(False).eval()

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """Trains the network for a fraction of its steps. Their number does not depend on the clips."""
        settings = self.arguments
        self.arguments = replace(settings, steps=-(-settings.steps // REHEARSED))
        try:
            yield REHEARSED
        finally:
            self.arguments = settings

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Train the network on source clips. The detector and the target are not looked at; one draw from torch.

        Raises:
            InputError: if there is no source clip.
        """
        seen = [
            _pictures(batch, self.arguments.looks).flatten(0, 1).round().to(torch.uint8)
            for batch in limit_clips(source, self.arguments.max_clips)
        ]
        if not seen:
            raise InputError("adaptation 'learned_canonicalization' found no source clip to learn from.")
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self._train(torch.cat(seen), generator)

    def _train(self, pictures: Tensor, generator: torch.Generator) -> None:
        settings = self.arguments

        def loss() -> Tensor:
            chosen = torch.randint(len(pictures), (settings.batch_size,), generator=generator)
            degrees = 360 * torch.rand(settings.batch_size, generator=generator)
            batch, degrees = pictures[chosen.to(pictures.device)], degrees.to(pictures.device)
            return circular_cross_entropy(self.canonicalizer(batch, degrees), degrees, settings.concentration)

        fit_briefly(self.canonicalizer, loss, settings.steps, settings.lr, settings.weight_decay)

    @torch.no_grad()
    def log_density(self, batch: ClipBatch) -> Tensor:
        """Log-probabilities ``(B, R)`` of the up of each clip, the geometric mean over frames."""
        pictures = _pictures(batch, self.arguments.looks)
        with torch.autocast(pictures.device.type, enabled=False):
            seen: Tensor = self.canonicalizer(pictures.flatten(0, 1))
        return seen.view(*pictures.shape[:2], -1).mean(dim=1).log_softmax(dim=1)

    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """The likeliest rotation of each clip, undone; one pass of the detector."""
        log_density = self.log_density(batch)
        up = log_density.argmax(dim=1) * (360 / self.arguments.rolls)
        prediction = detect(detector, roll_batch(batch, -up.cpu()))
        return Found(up[batch.clip_index], log_density[batch.clip_index], prediction, len(batch))


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, outputs), nn.ReLU()
    )


def _pictures(batch: ClipBatch, looks: int) -> Tensor:
    """``(B, L, 3, S, S)`` the middle square of some frames of each clip, in 0…255, float32."""
    height, width = batch.frames.shape[-2:]
    count = len(batch)
    centre = torch.tensor([[width / 2, height / 2]], device=batch.frames.device).expand(count, 2)
    half = torch.full((count,), min(height, width) / 2, device=batch.frames.device)
    which = torch.arange(count, device=batch.frames.device)
    frames = [denormalise(batch.frames[:, :, look]) for look in look_at(batch.frames.shape[2], looks)]
    return torch.stack([square_patches(frame, centre, half, which, PICTURE) for frame in frames], dim=1)
