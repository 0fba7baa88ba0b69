"""Clips from a data set on disk: one item per keyframe, decoded on access."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from microg_da.data.annotations import BOX, KEYFRAME, UP
from microg_da.data.frames import FrameStore, StampedFrames, window
from microg_da.errors import InputError
from microg_da.taxonomy import Taxonomy
from microg_da.transforms.view import CentreViews, RandomViews, View, WholeViews
from microg_da.types import Clip, ClipKey, PersonKey
from microg_da.zoo import usual_test_side

# AVA's videos are cut to seconds 900 to 1801, so that the frame rate follows from the number of frames.
_AVA_SECONDS = 901
_LOOKED_AT = 10
"""The number of videos from which the length of clips is estimated."""
_USUAL_RATES = np.array([24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60000 / 1001, 60])


@dataclass(frozen=True)
class Timing:
    """Conversion of a ``frame_stamp`` to a frame.

    Attributes:
        stamp: ``"frames"`` counted from 1, ``"seconds"``, or ``"clips"``: frames, and 0 for the middle one.
        start: the time of the first stored frame, in seconds.
        fps: frames per second as given by the user; None to read it from the files.
        late: whether the window is centred one frame after the keyframe, as in MicroG-4M's code.
    """

    stamp: str = "frames"
    start: float = 0.0
    fps: float | None = None
    late: bool = False

    def frame(self, frames: FrameStore, video_id: str, stamp: float) -> int:
        """The index of the keyframe, from 0.

        Raises:
            InputError: if the video has no such frame, or its frame rate is unknown or not what ``fps`` says.
        """
        length, stored = frames.num_frames(video_id), frames.fps(video_id)
        if self.fps is not None and stored is not None and abs(stored / self.fps - 1) > 0.01:
            raise InputError(
                f"{video_id}: the file has {stored:.6g} frames per second, but fps={self.fps:g} was given. "
                f"Convert the video, or remove fps."
            )
        if self.stamp in ("frames", "clips"):
            number = length // 2 if self.stamp == "clips" and stamp == 0 else int(stamp) - 1
        else:
            rate = self.fps or stored or self._guess_rate(video_id, length)
            number = round((stamp - self.start) * rate)
        if not 0 <= number < length:
            unit = "second" if self.stamp == "seconds" else "frame"
            hint = "" if unit == "frame" else f" (its frames begin at second {self.start:g}; set start= and fps=)"
            raise InputError(
                f"{video_id}: keyframe at {unit} {stamp:g} is not in the video, which has {length} frames{hint}. "
                f"Check the video and the frame rate of its frames."
            )
        return min(number + self.late, length - 1)

    def _guess_rate(self, video_id: str, length: int) -> float:
        rate = length / _AVA_SECONDS
        usual = float(_USUAL_RATES[np.argmin(np.abs(_USUAL_RATES - rate))])
        if self.start != 900 or abs(rate / usual - 1) > 0.005:
            raise InputError(
                f"{video_id}: keyframes are given in seconds and JPEG files do not say their frame rate; "
                f"add it to the SOURCE, as in …?fps=25&start=0"
            )
        return usual


class ClipDataset(Dataset[Clip]):
    """One clip per keyframe: :class:`~microg_da.types.LabelledClip` with labels, else :class:`~microg_da.types.Clip`.

    All tables are arrays, which worker processes share. Random values depend only on seed, epoch and index, so that the
    clips do not depend on the number of workers.

    Args:
        people: one row per box: ``video_id, frame_stamp, x1, y1, x2, y2``, grouped by keyframe; with the column ``up``
            if the true up of people is known.
        labels: ``(len(people), C)`` uint8, or None.
        frames: the source of frames.
        timing: conversion of a ``frame_stamp`` to a frame.
        num_frames: T.
        sampling_rate: τ.
        views: the crops of training frames.
        test_views: what :meth:`in_test_views` cuts from them; by default the whole frame, its
            short side at 8/7 of the crop.
        seed: seed of all random values.
        skip: whether an unreadable clip is replaced by the next one instead of raising an error.
        ground_truth: the annotation table, for evaluation.
        description: one line about the data.
        warnings: notes for readers of results, one line each.
        split_hash: the hash of the split.
        left_out: missing videos that were excluded, with the reason.
    """

    def __init__(
        self,
        people: pd.DataFrame,
        labels: np.ndarray | None,
        *,
        frames: FrameStore,
        timing: Timing,
        num_frames: int,
        sampling_rate: int,
        views: RandomViews | WholeViews | CentreViews,
        test_views: WholeViews | None = None,
        seed: int = 0,
        skip: bool = False,
        ground_truth: pd.DataFrame | None = None,
        description: str = "",
        warnings: tuple[str, ...] = (),
        split_hash: str | None = None,
        left_out: dict[str, str] | None = None,
    ) -> None:
        self.frames = frames
        self.timing = timing
        self.num_frames = num_frames
        self.sampling_rate = sampling_rate
        self.views = views
        side = usual_test_side(views.crop) if isinstance(views, RandomViews) else views.short_side
        self._test_views = test_views or WholeViews(side)
        self.seed = seed
        self.skip = skip
        self.description = description
        self.warnings = warnings
        self.split_hash = split_hash
        self._ground_truth = ground_truth
        self._left_out = left_out or {}
        keyframe = people.groupby(KEYFRAME, sort=False).ngroup().to_numpy()
        order = np.argsort(keyframe, kind="stable")
        first = people[KEYFRAME].drop_duplicates()
        codes, videos = pd.factorize(first.video_id)
        self._video = codes
        self._videos = np.array(videos, dtype=np.str_)
        self._stamps = first.frame_stamp.to_numpy()
        self._boxes = people[BOX].to_numpy(np.float32)[order]
        self._labels = None if labels is None else labels[order]
        self._ups = people[UP].to_numpy(float)[order] if UP in people else np.full(len(people), np.nan)
        self._first_box = np.concatenate([[0], np.cumsum(np.bincount(keyframe, minlength=len(first)))])
        # Shared memory: workers read the epoch, and the main process reads which clips were unreadable.
        self._epoch = _shared(torch.zeros((), dtype=torch.int64))
        self._unreadable = _shared(torch.zeros(len(first), dtype=torch.bool))

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, index: int) -> Clip:
        if get_worker_info() is not None and cv2.getNumThreads() > 1:
            # Workers run in parallel; OpenCV's threads do not survive a fork.
            cv2.setNumThreads(0)
        for place in self._candidates(index):
            try:
                return self._clip(place)
            except InputError:
                if not self.skip:
                    raise
                self._unreadable[place] = True
        raise InputError(
            f"{self.description}: none of {len(self)} clips can be read. First problem: {self._problem(index)}"
        )

    @property
    def keys(self) -> tuple[ClipKey, ...]:
        """The keyframes, in order."""
        names = self._videos[self._video].tolist()
        return tuple(ClipKey(name, stamp) for name, stamp in zip(names, self._stamps.tolist(), strict=True))

    @property
    def num_boxes(self) -> int:
        """How many people there are in all clips together."""
        return len(self._boxes)

    @property
    def fps(self) -> float | None:
        """Frames per second of the first readable video; None if neither the user nor the files define it."""
        return self.timing.fps or next(iter(self._look(self.frames.fps)), None)

    def shortest_clip(self) -> int | None:
        """Frames of the shortest of some evenly chosen videos; None if none can be read."""
        return min((length for length in self._look(self.frames.num_frames) if length), default=None)

    def _look(self, ask: Callable[[str], Any]) -> Iterator[Any]:
        """Read the properties of some videos, and not of all in a large data set."""
        for place in np.unique(np.linspace(0, len(self._videos) - 1, _LOOKED_AT).astype(int)):
            with contextlib.suppress(InputError):
                yield ask(str(self._videos[place]))

    def frame_sizes(self) -> np.ndarray:
        """``(N, 2)``: height and width of the frames of each clip; 0 if the header cannot be read.

        For whole frames, this reads the header of every video.
        """
        sizes = [self._frame_size(str(video)) for video in self._videos]
        return np.array(sizes)[self._video]

    def annotations(self) -> pd.DataFrame:
        """Return the ground truth of these keyframes, for evaluation only."""
        if self._ground_truth is None:
            raise InputError(f"{self.description}: has no ground truth")
        return self._ground_truth

    def in_test_views(self) -> ClipDataset:
        """Return the clips in test views, which are not random."""
        shown = copy.copy(self)
        shown.views = self._test_views
        return shown

    @property
    def draws_at_random(self) -> bool:
        """Whether training draws a random crop of each clip."""
        return isinstance(self.views, RandomViews)

    def fingerprint(self) -> str:
        """See :meth:`~microg_da.data.stored_clips.StorableClips.fingerprint`."""
        if not isinstance(self.frames, StampedFrames):
            raise InputError(
                f"data.feature_store: {type(self.frames).__name__}, which reads the frames of {self.description}, has "
                f"no method stamp to detect changes. Set data.feature_store=null."
            )
        digest = hashlib.sha256()
        for part in (self._boxes, self._first_box, self._stamps.astype(float)):
            digest.update(part.tobytes())
        digest.update(repr((self.timing, self.num_frames, self.sampling_rate, self.views)).encode())
        for place in range(len(self)):
            stamp = self.frames.stamp(self._name(place), np.unique(self._indices(place)))
            digest.update(f"{self._name(place)} {stamp}\n".encode())
        return digest.hexdigest()

    def training_draw(self, number: int) -> ClipDataset:
        """Return the clips, each with one random crop that depends on the number and not on the seed of the run."""
        drawn = copy.copy(self)
        drawn.seed, drawn._epoch = 0, _shared(torch.tensor(number))
        return drawn

    def labels_of(self, index: int) -> Tensor | None:
        """Return labels ``(K, C)`` of all people of a keyframe; None without labels."""
        if self._labels is None:
            return None
        return torch.from_numpy(self._labels[self._first_box[index] : self._first_box[index + 1]]).float()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which random crops depend, in all workers."""
        self._epoch.fill_(epoch)

    def skipped(self) -> pd.DataFrame:
        """Return the keyframes that could not be read: ``video_id, frame_stamp, reason``."""
        rows = [(video, None, reason) for video, reason in self._left_out.items()]
        rows += [(*self.keys[place], self._problem(place)) for place in torch.nonzero(self._unreadable)[:, 0].tolist()]
        return pd.DataFrame(rows, columns=[*KEYFRAME, "reason"])

    def ups(self) -> dict[PersonKey, float] | None:
        """Return the true up of each person in degrees; None if it is not annotated for all people."""
        if not np.isfinite(self._ups).all():
            return None
        return {
            PersonKey(key, place): up
            for index, key in enumerate(self.keys)
            for place, up in enumerate(self._ups[self._first_box[index] : self._first_box[index + 1]].tolist())
        }

    def _candidates(self, index: int) -> Iterator[int]:
        """Yield the index, then later indices with the same frame size that are not known to be unreadable."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        size = None
        for step in range(len(self)):
            place = (index + step) % len(self)
            if self._unreadable[place]:
                continue
            if step > 0:
                size = size or self._frame_size(self._name(index))
                if any(size) and self._frame_size(self._name(place)) != size:
                    continue
            yield place

    def _name(self, place: int) -> str:
        return str(self._videos[self._video[place]])

    def _frame_size(self, video: str) -> tuple[int, int]:
        if isinstance(self.views, RandomViews):
            return self.views.crop, self.views.crop
        if isinstance(self.views, CentreViews):
            return self.views.short_side, self.views.short_side
        try:
            return View(self.views.short_side).size(*self.frames.frame_size(video))
        except InputError:
            if not self.skip:
                raise
            return 0, 0

    def _clip(self, place: int) -> Clip:
        rng = np.random.default_rng((self.seed, int(self._epoch), place))
        view = self.views.draw(rng)
        # Test frames must not depend on the decoder's reduction, so that only training frames are reduced.
        images, places = self._read(place, view.short_side if isinstance(self.views, RandomViews) else None)
        rows = slice(self._first_box[place], self._first_box[place + 1])
        table_boxes = self._boxes[rows]
        frames, boxes, kept = view(images, places, table_boxes)
        key = ClipKey(self._name(place), self._stamps[place].item())
        clip = Clip(
            frames=frames,
            boxes=boxes,
            table_boxes=torch.from_numpy(table_boxes)[kept],
            key=key,
            people=tuple(PersonKey(key, number) for number in kept.nonzero()[:, 0].tolist()),
            zoomed=isinstance(self.views, RandomViews),
        )
        return clip if self._labels is None else clip.with_labels(torch.from_numpy(self._labels[rows])[kept].float())

    def _read(self, place: int, min_short_side: int | None) -> tuple[Iterator[np.ndarray], np.ndarray]:
        """Return the distinct frames of a window, and the index of the frame at each position."""
        numbers, places = np.unique(self._indices(place), return_inverse=True)
        return self.frames.read(self._name(place), numbers, min_short_side), places

    def _indices(self, place: int) -> np.ndarray:
        """The frames of a window, in order."""
        video = self._name(place)
        keyframe = self.timing.frame(self.frames, video, self._stamps[place].item())
        return window(keyframe, self.num_frames, self.sampling_rate, self.frames.num_frames(video))

    def _problem(self, place: int) -> str:
        try:
            for _ in self._read(place, None)[0]:
                pass
        except InputError as error:
            return str(error)
        return "can be read now"


def multi_hot(annotations: pd.DataFrame, taxonomy: Taxonomy) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one row per box with its labels; labels outside the taxonomy are ignored.

    Returns:
        the distinct boxes ``video_id, frame_stamp, x1, y1, x2, y2`` in order of appearance, with ``up`` if the table
        has it, and ``(K, C)`` uint8.
    """
    people = annotations[[*KEYFRAME, *BOX, *([UP] if UP in annotations else [])]]
    person = people.groupby([*KEYFRAME, *BOX], sort=False).ngroup().to_numpy()
    column = pd.Index(taxonomy.ids).get_indexer(pd.Index(annotations.action_id))
    known = column >= 0
    labels = np.zeros((person.max(initial=-1) + 1, len(taxonomy)), np.uint8)
    labels[person[known], column[known]] = 1
    return people.drop_duplicates([*KEYFRAME, *BOX]).reset_index(drop=True), labels


def _shared(values: Tensor) -> Tensor:
    values.untyped_storage().share_memory_()
    return values
