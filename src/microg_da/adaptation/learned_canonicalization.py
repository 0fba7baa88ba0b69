"""Learned canonicalisation: a small network scores rotations of a whole clip, and the detector gets the best one."""

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
from microg_da.errors import InputError, check_count
from microg_da.models.backbone import denormalise
from microg_da.models.detector import ActionDetector
from microg_da.models.person_patches import disc, middle_frames, square_patches
from microg_da.models.up_estimator import circular_cross_entropy
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipBatch

PICTURE = 64
"""Side in pixels of the stored frames, from which rotations are resampled."""


@dataclass
class LearnedCanonicalizationArguments:
    """Settings of :class:`LearnedCanonicalization`.

    Attributes:
        rolls: R, the order of the group of rotations, evenly spaced from 0.
        size: side in pixels of the input of the network.
        width: channels of the first layer.
        steps: steps of the optimiser.
        batch_size: clips per step.
        lr: largest learning rate of a one-cycle schedule.
        weight_decay: weight decay of AdamW.
        concentration: concentration of the prior around the identity, see
            :func:`~microg_da.models.up_estimator.circular_cross_entropy`.
        frames_per_clip: frames of each clip over which scores are averaged.
        max_clips: largest number of source clips; None for all.
    """

    rolls: int = 24
    size: int = 32
    width: int = 16
    steps: int = 300
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.02
    concentration: float = 30.0
    frames_per_clip: int = 2
    max_clips: int | None = 2000


class Canonicalizer(nn.Module):
    """Predicts log-probabilities of R rotations of an image, equivariant to rotations of the image.

    One network scores the image under each rotation. A rotation of the image permutes the R views, and therefore the
    scores, cyclically. This holds for any network; it is exact for quarter turns, and otherwise up to resampling.

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
        """Return ``(N, R, 3, size, size)``: the inner circle of each image under R rotations, standardised.

        View ``r`` is the image turned by ``degrees − r · 360° / R`` clockwise. If the up of the image after ``degrees``
        is ``r · 360° / R``, view ``r`` is upright.

        Args:
            pictures: ``(N, 3, S, S)``.
            degrees: ``(N,)`` degrees by which each image is first turned clockwise.
        """
        turns = degrees[:, None] - torch.arange(self.rolls, device=degrees.device) * (360 / self.rolls)
        radians = torch.deg2rad(turns).flatten()
        cos, sin, none = radians.cos(), radians.sin(), torch.zeros_like(radians)
        # The source of each pixel of a turned image: the inverse rotation. y points down.
        rows = [torch.stack([cos, sin, none], dim=1), torch.stack([-sin, cos, none], dim=1)]
        shape = [len(radians), 3, self.size, self.size]
        grid = F.affine_grid(torch.stack(rows, dim=1), shape, align_corners=False)
        # One call for all views of an image, stacked vertically, is cheaper than copies of the image.
        below = grid.reshape(len(pictures), self.rolls * self.size, self.size, 2)
        sampled = F.grid_sample(pictures.float(), below, padding_mode="reflection", align_corners=False)
        seen = sampled.view(len(pictures), 3, self.rolls, self.size, self.size).transpose(1, 2)
        inside = disc(self.size).to(seen.device)
        spread, mean = torch.std_mean(seen[..., inside], dim=(2, 3))
        return (seen - mean[..., None, None, None]) / spread.clamp(min=1e-3)[..., None, None, None] * inside

    def forward(self, pictures: Tensor, degrees: Tensor | None = None) -> Tensor:
        """Return log-probabilities ``(N, R)`` of up in images ``(N, 3, S, S)`` that are first turned by ``degrees``."""
        degrees = pictures.new_zeros(len(pictures), dtype=torch.float32) if degrees is None else degrees
        scores: Tensor = self.score(self.views(pictures, degrees).flatten(0, 1))
        return scores.view(len(pictures), self.rolls).log_softmax(dim=1)


class LearnedCanonicalization(UpMethod):
    """Turns each whole clip by a rotation that a small equivariant network finds.

    The canonicalisation is the rotation with the highest score, as in Kaba et al., "Equivariance with learned
    canonicalization functions", ICML 2023, section on optimisation; the scores are those of one network on each rotated
    image. The network is trained with the prior of Mondal et al., "Equivariant adaptation of large pretrained models",
    NeurIPS 2023: training clips of the detector are in their canonical orientation, so that the network should choose
    the identity for them. The detector is frozen.

    Deviations:

    - There is no task loss (weight 0 in the authors' code): no labels are read, and no gradient passes through the
      detector.
    - The prior is a von Mises density around the identity, not a one-hot target. Source clips are rolled by known
      random angles, so that the network cannot recognise the identity by the absence of interpolation.
    - The network reads a circle of the frame, since corners reveal the angle.

    The method reads whole frames with floors and walls. It is a comparison for
    :class:`~microg_da.adaptation.gravity_frame.GravityFrame`, which reads only people.

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
        for name, smallest in (("rolls", 2), ("size", 8), ("width", 1), ("steps", 1), ("batch_size", 1)):
            check_count(f"adaptation.test_time_args.{name}", getattr(arguments, name), smallest)
        check_count("adaptation.test_time_args.frames_per_clip", arguments.frames_per_clip)
        self.canonicalizer = Canonicalizer(arguments.rolls, arguments.size, arguments.width)
        self.canonicalizer.requires_grad_(False).eval()

    @contextmanager
    def rehearsing(self) -> Iterator[float | None]:
        """Train the network for a fraction of its steps, whose number does not depend on the clips."""
        settings = self.arguments
        self.arguments = replace(settings, steps=-(-settings.steps // REHEARSED))
        try:
            yield REHEARSED
        finally:
            self.arguments = settings

    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Train the network on source clips, without the detector and the target; draws once from torch's generator.

        Raises:
            InputError: if the source has no clips.
        """
        seen = [
            _pictures(batch, self.arguments.frames_per_clip).flatten(0, 1).round().to(torch.uint8)
            for batch in limit_clips(source, self.arguments.max_clips)
        ]
        if not seen:
            raise InputError(
                "adaptation 'learned_canonicalization' needs source clips to train on, but the source has none."
            )
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
        """Return log-probabilities ``(B, R)`` of the up of each clip, from the geometric mean over frames."""
        pictures = _pictures(batch, self.arguments.frames_per_clip)
        with torch.autocast(pictures.device.type, enabled=False):
            seen: Tensor = self.canonicalizer(pictures.flatten(0, 1))
        return seen.view(*pictures.shape[:2], -1).mean(dim=1).log_softmax(dim=1)

    def find(self, detector: ActionDetector, batch: ClipBatch) -> Found:
        """Undo the most probable rotation of each clip, and predict with one pass of the detector."""
        log_density = self.log_density(batch)
        up = log_density.argmax(dim=1) * (360 / self.arguments.rolls)
        prediction = detect(detector, roll_batch(batch, -up.cpu()))
        return Found(up[batch.clip_index], log_density[batch.clip_index], prediction, len(batch))


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, outputs), nn.ReLU()
    )


def _pictures(batch: ClipBatch, count: int) -> Tensor:
    """Return ``(B, L, 3, S, S)``, the central square of some frames of each clip, float32 in 0…255."""
    height, width = batch.frames.shape[-2:]
    clips = len(batch)
    centre = torch.tensor([[width / 2, height / 2]], device=batch.frames.device).expand(clips, 2)
    half = torch.full((clips,), min(height, width) / 2, device=batch.frames.device)
    which = torch.arange(clips, device=batch.frames.device)
    frames = [denormalise(batch.frames[:, :, number]) for number in middle_frames(batch.frames.shape[2], count)]
    return torch.stack([square_patches(frame, centre, half, which, PICTURE) for frame in frames], dim=1)
