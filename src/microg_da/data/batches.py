"""Batches of clips that have one frame size, for data sets whose videos differ in shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler


class SameSizeBatches(Sampler[list[int]]):
    """Deals the indices of a sampler into batches whose clips have equal frames; every index comes once.

    Whole test frames are as wide as their video, and a batch is one tensor. Clips keep the sampler's order within
    their size; a batch comes as soon as it is full.

    Args:
        sampler: which clips, in which order.
        batch_size: clips in a full batch; the last of each size may be smaller.
        sizes: ``(N, 2)``, height and width of every clip of the data set; a clip of unknown size, 0, comes alone.
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
