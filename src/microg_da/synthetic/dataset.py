"""Synthetic clips as a torch data set."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from microg_da.synthetic import cache
from microg_da.synthetic.drawing import draw_clips
from microg_da.synthetic.render import key_ups, stage_clip
from microg_da.synthetic.spec import CLIP_FRAMES, FRAMES_PER_SECOND, KEYFRAME, SyntheticSpec
from microg_da.taxonomy import Taxonomy, get_taxonomy
from microg_da.types import Clip, ClipKey, PersonKey


class SyntheticDataset(Dataset[Clip]):
    """All clips of a specification, drawn once and held in memory.

    Args:
        spec: the specification of the clips.
        taxonomy: the taxonomy of the label columns.
        labelled: False for clips without labels, as on the target domain.
        workers: number of rendering processes, without effect on the clips.
        use_cache: use the cache of drawn clips in the user's cache folder.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if the taxonomy is unknown.
    """

    def __init__(
        self,
        spec: SyntheticSpec,
        taxonomy: str | Taxonomy = "microg50",
        *,
        labelled: bool = True,
        workers: int = 2,
        use_cache: bool = True,
        progress: bool = True,
    ) -> None:
        self.spec = spec
        self.taxonomy = get_taxonomy(taxonomy) if isinstance(taxonomy, str) else taxonomy
        self.labelled = labelled
        shapes = {
            "frames": (spec.num_clips, 3, spec.num_frames, spec.size, spec.size),
            "boxes": (None, 4),
            "clips": (None,),
            "labels": (None, 81),
        }
        arrays = cache.read(spec, shapes) if use_cache else None
        if arrays is None:
            arrays = draw_clips(spec, workers=workers, progress=progress)
            if use_cache:
                cache.write(spec, arrays)
        self._frames = torch.from_numpy(arrays["frames"])
        self._boxes = torch.from_numpy(arrays["boxes"])
        self._truth = arrays["labels"]
        self._labels = torch.from_numpy(self._truth[:, list(self.taxonomy.ids)]).float()
        self._clips = arrays["clips"]
        self._starts = np.searchsorted(self._clips, np.arange(spec.num_clips + 1)).tolist()

    def __len__(self) -> int:
        return self.spec.num_clips

    def __getitem__(self, index: int) -> Clip:
        """Return the clip at ``index``, with people as in :meth:`annotations`."""
        people = slice(self._starts[index], self._starts[index + 1])
        boxes = self._boxes[people]
        clip = Clip(
            frames=self._frames[index],
            boxes=boxes * self.spec.size,
            table_boxes=boxes,
            key=ClipKey(self.spec.name(index).video_id, KEYFRAME),
        )
        return clip.with_labels(self._labels[people]) if self.labelled else clip

    @property
    def keys(self) -> list[ClipKey]:
        """The keyframe of every clip, in order."""
        return [ClipKey(self.spec.name(index).video_id, KEYFRAME) for index in range(len(self))]

    @property
    def fps(self) -> float:
        """Frames per second."""
        return FRAMES_PER_SECOND

    @property
    def description(self) -> str:
        """One line of text."""
        return f"synthetic:{self.spec.domain}, {self.spec.split}: {len(self):,} clips, {len(self._boxes):,} people"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return no warnings, since all reports mark embedded data."""
        return ()

    @property
    def split_hash(self) -> None:
        """None, because the data has one split only."""
        return None

    def frame_sizes(self) -> None:
        """Return None, because all frames have one size."""
        return

    def shortest_clip(self) -> int:
        """Return the number of frames of a clip before a window is cut."""
        return CLIP_FRAMES

    def in_test_views(self) -> SyntheticDataset:
        """Return the data set itself, because its clips are not random; augmentation is applied to batches."""
        return self

    @property
    def draws_at_random(self) -> bool:
        """False, because augmentation is applied to batches."""
        return False

    def fingerprint(self) -> str:
        """A hash of the specification and the renderer."""
        return hashlib.sha256(cache.spec_text(self.spec).encode()).hexdigest()

    def training_draw(self, number: int) -> SyntheticDataset:
        """Return the data set itself."""
        return self

    def labels_of(self, index: int) -> torch.Tensor | None:
        """Return the labels ``(K, C)`` of all people of a clip; None without labels."""
        return self._labels[self._starts[index] : self._starts[index + 1]] if self.labelled else None

    def set_epoch(self, epoch: int) -> None:
        """Do nothing, because the clips do not depend on the epoch."""

    def skipped(self) -> pd.DataFrame:
        """Return an empty table, because all clips are rendered."""
        return pd.DataFrame(columns=["video_id", "frame_stamp", "reason"])

    def ups(self) -> dict[PersonKey, float]:
        """Return each person's true up in degrees for evaluation, see :func:`~microg_da.synthetic.render.key_ups`."""
        found: dict[PersonKey, float] = {}
        for index, key in enumerate(self.keys):
            degrees = key_ups(stage_clip(self.spec, index)).tolist()
            found |= {PersonKey(key, place): angle for place, angle in enumerate(degrees)}
        return found

    def annotations(self) -> pd.DataFrame:
        """Return the annotation table with one row for each person and action, also if the clips have no labels."""
        people, ids = np.nonzero(self._truth)
        clips = self._clips[people]
        names = np.array([self.spec.name(index).video_id for index in range(len(self))], dtype=object)
        table = pd.DataFrame(self._boxes.numpy()[people].astype(np.float64), columns=["x1", "y1", "x2", "y2"])
        table.insert(0, "video_id", names[clips] if len(clips) else [])
        table.insert(1, "frame_stamp", KEYFRAME)
        table["action_id"] = ids
        table["person_id"] = people - np.asarray(self._starts)[clips] + 1
        return table
