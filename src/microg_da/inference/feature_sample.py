"""Samples of RoI features of people in a test split, which a report uses to draw the domains."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from microg_da.data.annotations import KEYFRAME
from microg_da.files import replacing
from microg_da.processes import is_leader
from microg_da.types import ClipBatch, Prediction

MOST_PEOPLE = 500


class FeatureSample(Metric):
    """Random sample of the people of one pass, selected by the smallest hashes of keyframe and box.

    The selection by hash gives the same people for every detector, in any order and on any number of processes. People
    that a distributed sampler repeats are in the sample once.

    Args:
        truth: annotation table of all keyframes of the pass; labels are not read.
        feature_dim: D, the width of a RoI feature.
        most: number of people in the sample.
    """

    full_state_update = False

    hashes: list[Tensor]
    keyframes: list[Tensor]
    boxes: list[Tensor]
    features: list[Tensor]

    def __init__(self, truth: pd.DataFrame, feature_dim: int, most: int = MOST_PEOPLE) -> None:
        super().__init__()
        self.table = truth[KEYFRAME].drop_duplicates().reset_index(drop=True)
        self._numbers = {key: number for number, key in enumerate(self.table.itertuples(index=False, name=None))}
        self.feature_dim = feature_dim
        self.most = most
        for name in ("hashes", "keyframes", "boxes", "features"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, batch: ClipBatch, prediction: Prediction) -> None:
        """Add the people of a batch that belong to the current sample."""
        device = prediction.features.device
        keys = [batch.keys[clip] for clip in batch.clip_index.tolist()]
        hashes = [
            _hash(f"{key.video_id}@{key.frame_stamp}:{np.round(box, 4)}")
            for key, box in zip(keys, batch.table_boxes.cpu().numpy(), strict=True)
        ]
        self.hashes.append(torch.tensor(hashes, dtype=torch.int64, device=device))
        self.keyframes.append(torch.tensor([self._numbers[tuple(key)] for key in keys], dtype=torch.int64).to(device))
        self.boxes.append(batch.table_boxes.to(device).detach().float())
        self.features.append(prediction.features.detach().float())
        self.hashes, self.keyframes, self.boxes, self.features = ([part] for part in self._kept())

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return keyframe numbers ``(N,)``, table boxes ``(N, 4)`` and features ``(N, D)`` of all processes."""
        return self._kept()[1:]

    def write(self, path: Path) -> None:
        """Write ``video_id, frame_stamp, boxes, features`` of the sample as a compressed .npz, on one process only."""
        # torchmetrics squeezes tensors with one element.
        keyframes, boxes, features = (part.cpu() for part in self.compute())
        where = self.table.iloc[keyframes.reshape(-1).numpy()]
        features = features.reshape(-1, self.feature_dim)
        half = features.half()
        if not is_leader():
            return
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary,
                video_id=where["video_id"].to_numpy(str),
                frame_stamp=where["frame_stamp"].to_numpy(),
                boxes=boxes.reshape(-1, 4).numpy(),
                # Half precision is sufficient for a picture, unless it overflows.
                features=(half if torch.isfinite(half).all() else features).numpy(),
            )

    def _kept(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if len(self.hashes) == 0:
            return torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0, 4), torch.zeros(0, self.feature_dim)
        hashes, keyframes, boxes, features = map(dim_zero_cat, (self.hashes, self.keyframes, self.boxes, self.features))
        first = np.unique(hashes.cpu().numpy(), return_index=True)[1][: self.most]
        chosen = torch.from_numpy(first).to(hashes.device)
        return hashes[chosen], keyframes[chosen], boxes[chosen], features[chosen]


def _hash(text: str) -> int:
    """Return a number below 2⁵⁶ whose leading digits differ for similar texts, unlike those of checksums."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
