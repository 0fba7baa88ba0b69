"""Alignment of feature statistics at test time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from microg_da.adaptation.base import Task, detect
from microg_da.adaptation.online import Online, OnlineArguments
from microg_da.errors import InputError
from microg_da.models.backbone import Backbone, StageOutput
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch


@dataclass
class ViTTAArguments(OnlineArguments):
    """Settings of :class:`ViTTA`, in addition to those of all online methods.

    The optimiser is SGD with momentum 0.9 and a weight decay of 5e-4, at the learning rate of the authors' code.

    Attributes:
        stages: number of aligned backbone stages, counted from the last.
        momentum: weight of a batch in the moving average of test statistics.
        consistency: weight of the disagreement of two temporal views.
        source_batches: number of source batches for the source statistics.
    """

    lr: float = 5e-5
    stages: int = 2
    momentum: float = 0.1
    consistency: float = 0.1
    source_batches: int = 16


class ViTTA(Online):
    """Aligns the mean and variance of each channel of late feature maps with those on source clips.

    Statistics are computed over batch, time and space, averaged over the test batches so far, and compared in L1. A
    second loss is the disagreement of the probabilities of two temporal views of a clip, the second with frames
    jittered in time; it is summed over the sigmoids of classes. All trainable parameters are adapted; batch
    normalisation keeps its source statistics.

    Lin et al., "Video test-time adaptation for action recognition", CVPR 2023.

    Deviations from the paper and its code:

    - Statistics are those of the outputs of the last stages. The code uses the outputs of all normalisation layers in
      the last two stages. The distance is a mean over all channels.
    - Batches are those of the test (``evaluation.batch_size``). The code adapts to single videos.
    - The second view has frames jittered in time. The code resamples both views. There are no crops.
    - Disagreement is summed over the sigmoids of the classes in the support. The code uses a softmax.
    """

    Arguments: ClassVar[type] = ViTTAArguments
    arguments: ViTTAArguments
    needs_encoder = "aligns the statistics inside the encoder"
    source_statistics: Tensor

    def __init__(self, arguments: ViTTAArguments, task: Task) -> None:
        super().__init__(arguments, task)
        # The number of channels is known once a detector is given.
        self.register_buffer("source_statistics", torch.zeros(2, 0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if (saved := state_dict.get(f"{prefix}source_statistics")) is not None:
            self.source_statistics = self.source_statistics.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Compute the source statistics, with equal weight for each clip.

        Raises:
            InputError: if the source has no clips, or the backbone has fewer stages.
        """
        super().prepare(detector, source, target)
        clips, moments = 0, torch.zeros(())
        for batch in islice(source, self.arguments.source_batches):
            with feature_maps(detector.backbone, self._stages(detector)) as maps:
                detect(detector, batch)
            mean, variance = channel_statistics(maps).double()
            # Moments about 0 can be averaged over batches, variances cannot.
            moments = moments.to(mean) + len(batch) * torch.stack([mean, variance + mean.square()])
            clips += len(batch)
        if not clips:
            raise InputError("adaptation 'vitta' needs source clips to compute statistics, but the source has none.")
        mean, square = moments / clips
        self.source_statistics = torch.stack([mean, square - mean.square()]).float()

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the detector has enough stages, and that not all of them are frozen."""
        self._stages(detector)
        super().check_detector(detector)

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Return all trainable parameters."""
        if not any(parameter.requires_grad for parameter in detector.backbone.parameters()):
            raise InputError(
                "adaptation 'vitta' changes the backbone, and all of it is frozen. Lower model.freeze, or choose "
                "another adaptation."
            )
        return [parameter for parameter in detector.parameters() if parameter.requires_grad]

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD with momentum and weight decay, as in the authors' code."""
        return SGD(parameters, lr=self.arguments.lr, momentum=0.9, weight_decay=5e-4)

    def forget(self) -> None:
        """Reset the moving average."""
        self._average: Tensor | None = None

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> None:
        """Take one step on both views; the prediction is made afterwards, on the original clip."""
        frames = torch.cat([batch.frames, jitter_frames(batch.frames)])
        boxes, clip_index = batch.boxes.repeat(2, 1), torch.cat([batch.clip_index, batch.clip_index + len(batch)])
        with feature_maps(detector.backbone, self._stages(detector)) as maps:
            logits = detector(frames, boxes, clip_index).logits
        statistics = channel_statistics(maps)
        if self._average is not None:
            statistics = torch.lerp(self._average, statistics, self.arguments.momentum)
        self._average = statistics.detach()
        loss = alignment_loss(statistics, self.source_statistics)
        views = self.supported(logits.float()).chunk(2)
        loss = loss + self.arguments.consistency * disagreement(*views)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    def _stages(self, detector: ActionDetector) -> tuple[str, ...]:
        stages = detector.backbone.stages
        if not 1 <= self.arguments.stages <= len(stages):
            raise InputError(
                f"vitta: stages={self.arguments.stages} is invalid: this model has {len(stages)} ({', '.join(stages)})."
            )
        return stages[-self.arguments.stages :]


@contextmanager
def feature_maps(backbone: Backbone, stages: Iterable[str]) -> Iterator[list[Tensor]]:
    """Inside the block, a pass through ``backbone`` appends the output maps of stages, one for each pathway.

    For all kinds of outputs (a map, pathways, tokens), the appended maps are ``(B, C, T, H, W)``.
    """
    maps: list[Tensor] = []

    def record(pathway: Tensor) -> Tensor:
        maps.append(pathway)
        return pathway

    def hook(stage: nn.Module, inputs: object, output: StageOutput) -> None:
        backbone.adapt(output, [record, record])

    handles = [backbone.get_submodule(stage).register_forward_hook(hook) for stage in stages]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def channel_statistics(maps: Iterable[Tensor]) -> Tensor:
    """Return the mean and biased variance ``(2, S)`` of all S channels of maps ``(B, C, T, H, W)``.

    Computed in float32, so that squares of half-precision maps cannot overflow.
    """
    parts = [torch.var_mean(x.float(), dim=(0, 2, 3, 4), correction=0) for x in maps]
    return torch.stack([torch.cat([mean for _, mean in parts]), torch.cat([variance for variance, _ in parts])])


def alignment_loss(statistics: Tensor, source: Tensor) -> Tensor:
    """Return the mean over channels of the L1 distances of means and of variances.

    Args:
        statistics: ``(2, S)`` statistics of the test clips.
        source: ``(2, S)`` statistics of source clips.
    """
    return (statistics - source).abs().sum(dim=0).mean()


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return the L1 distance of two views' probabilities from their mean: summed over classes, averaged over people.

    The mean is the pseudo-label and has no gradient.

    Args:
        first: ``(K, C)`` logits of one view.
        second: ``(K, C)`` logits of the other.
    """
    views = torch.stack([torch.sigmoid(first), torch.sigmoid(second)])
    return (views - views.mean(dim=0).detach()).abs().sum(dim=(0, 2)).mean()


def jitter_frames(frames: Tensor) -> Tensor:
    """Replace each frame of ``(B, 3, T, H, W)`` by itself or a neighbour, in temporal order, equally for all clips."""
    length = frames.shape[2]
    moved = torch.arange(length) + torch.randint(-1, 2, (length,))
    return frames[:, :, moved.clamp(0, length - 1).sort().values.to(frames.device)]
