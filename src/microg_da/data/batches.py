"""Batches of clips: collation, concatenation, and batches of equal frame size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, cast, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, default_collate

from microg_da.transforms.stored_frames import StoredFrames, is_stored
from microg_da.types import Clip, ClipBatch, Domain, LabelledClip, LabelledClipBatch


class SameSizeBatches(Sampler[list[int]]):
    """Groups the indices of a sampler into batches of clips with equal frame size; each index occurs once.

    Whole test frames have the aspect ratio of their video, but a batch is one tensor. Clips of equal size keep the
    order of the sampler; a batch is yielded once it is full.

    Args:
        sampler: which clips, in which order.
        batch_size: clips in a full batch; the last of each size may be smaller.
        sizes: ``(N, 2)``, height and width of every clip of the data set; a clip of unknown size, 0, is a batch of its
            own.
    """

    def __init__(self, sampler: Sampler[Any], batch_size: int, sizes: np.ndarray) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self._known = sizes.sum(axis=1) > 0
        self._kind = np.unique(sizes, axis=0, return_inverse=True)[1].reshape(-1)

    def __iter__(self) -> Iterator[list[int]]:
        open_batches: dict[int, list[int]] = {}
        for index in self.sampler:
            batch = open_batches.setdefault(int(self._kind[index]), [])
            batch.append(index)
            if len(batch) == self.batch_size or not self._known[index]:
                yield open_batches.pop(int(self._kind[index]))
        yield from open_batches.values()

    def __len__(self) -> int:
        return sum(1 for _ in self)


@overload
def collate_clips(clips: Sequence[LabelledClip], domain: Domain = ...) -> LabelledClipBatch: ...


@overload
def collate_clips(clips: Sequence[Clip], domain: Domain = ...) -> ClipBatch: ...


def collate_clips(clips: Sequence[Clip], domain: Domain = "source") -> ClipBatch:
    """Collate clips of equal frame size into a batch; clips without people are allowed.

    Returns:
        A :class:`~microg_da.types.LabelledClipBatch` of labelled clips, else a :class:`~microg_da.types.ClipBatch`.

    Raises:
        ValueError: if some clips carry labels and others do not, some are zoomed and others not, or frames differ in
            shape.
    """
    labels = [clip.labels for clip in clips if isinstance(clip, LabelledClip)]
    if labels and len(labels) < len(clips):
        raise ValueError("a batch mixes clips with and without labels")
    zoomed = {clip.zoomed for clip in clips}
    if len(zoomed) > 1:
        raise ValueError("a batch mixes clips that were zoomed on decoding with clips that were not")
    shapes = {tuple(clip.frames.shape) for clip in clips}
    if len(shapes) > 1:
        raise ValueError(f"clips of one batch must have one shape, got {sorted(shapes)}; use batch size 1 or a crop")
    counts = torch.tensor([len(clip.boxes) for clip in clips])
    batch = ClipBatch(
        frames=_stack([clip.frames for clip in clips]),
        boxes=torch.cat([clip.boxes for clip in clips]).float(),
        clip_index=torch.repeat_interleave(torch.arange(len(clips)), counts),
        table_boxes=torch.cat([clip.table_boxes for clip in clips]).float(),
        keys=tuple(clip.key for clip in clips),
        domain=domain,
        people=tuple(person for clip in clips for person in clip.people),
        zoomed=any(zoomed),
    )
    return batch.with_labels(torch.cat(labels).float()) if labels else batch


def _stack(frames: Sequence[Tensor]) -> Tensor:
    if all(map(is_stored, frames)):
        return cast("Tensor", StoredFrames.stack(cast("Sequence[StoredFrames]", frames)))
    stacked: Tensor = default_collate(list(frames))  # in a worker, straight into shared memory
    return stacked


def concatenate_batches(first: ClipBatch, *others: ClipBatch) -> ClipBatch:
    """Several batches as one without labels, clips and people in the order of the batches.

    All but the first are usually unlabelled; callers keep the labels of the first.
    """
    batches = (first, *others)
    shapes = {tuple(batch.frames.shape[1:]) for batch in batches}
    if len(shapes) > 1:
        raise ValueError(f"frames differ in shape: {' and '.join(map(str, sorted(shapes)))}")
    offsets = accumulate(map(len, batches[:-1]), initial=0)
    return ClipBatch(
        frames=torch.cat([batch.frames for batch in batches]),
        boxes=torch.cat([batch.boxes for batch in batches]),
        clip_index=torch.cat([batch.clip_index + offset for batch, offset in zip(batches, offsets, strict=True)]),
        table_boxes=torch.cat([batch.table_boxes for batch in batches]),
        keys=tuple(key for batch in batches for key in batch.keys),
        domain="both",
        people=tuple(person for batch in batches for person in batch.people),
        zoomed=any(batch.zoomed for batch in batches),
    )
