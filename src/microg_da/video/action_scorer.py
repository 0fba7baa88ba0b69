"""Windows around keyframes, and a detector that predicts the actions of the people in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
import torch

from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.up_method import Found, UpMethod
from microg_da.config import TrainerConfig
from microg_da.inference.passes import run_pass
from microg_da.inference.sinks import ProbabilitySink, Sink
from microg_da.inference.trainer import one_process
from microg_da.taxonomy import Taxonomy
from microg_da.transforms.view import View
from microg_da.types import ClipBatch, ClipKey
from microg_da.video.reader import Frame


@dataclass(frozen=True)
class Window:
    """The frames around a keyframe, and the people at the keyframe.

    Attributes:
        frames: ``(T, H, W, 3)`` uint8, channels blue, green, red.
        boxes: ``(K, 4)`` in [0, 1].
        key: the keyframe; stamps count frames at 30 per second from 1.
    """

    frames: np.ndarray
    boxes: np.ndarray
    key: ClipKey


class Scored(NamedTuple):
    """Predictions of a detector for the people of one video.

    Attributes:
        probabilities: ``(K, C)`` in [0, 1].
        ups: ``(K,)`` each person's estimated up, degrees clockwise from the top of the picture in [0, 360); NaN if the
            test-time method does not estimate it.
    """

    probabilities: np.ndarray
    ups: np.ndarray


@dataclass(frozen=True)
class ActionScorer:
    """A detector and its preprocessing of videos.

    Attributes:
        predictor: the detector, in evaluation mode, and its test-time method. Methods that adapt from batch to batch
            adapt to each video separately.
        taxonomy: the classes of the detector's outputs.
        num_frames: T.
        sampling_rate: τ, in frames at 30 per second.
        short_side: length of the short side of resized frames, in pixels.
        name: name of the detector in results.
        batch_size: number of windows in a batch.
        hardware: the device and the precision, for one process.
        notes: notes about loading the detector, as sentences.
    """

    predictor: Predictor
    taxonomy: Taxonomy
    num_frames: int
    sampling_rate: int
    short_side: int
    name: str
    batch_size: int = 8
    hardware: TrainerConfig = field(default_factory=lambda: one_process(TrainerConfig()))
    notes: tuple[str, ...] = ()

    def score(self, windows: Iterable[Window]) -> Scored:
        """Predict the action probabilities and the up of all people in the windows of one video.

        The windows are one pass: methods that adapt from batch to batch start at the first window.

        Args:
            windows: the windows in order; they are read one by one.

        Returns:
            The predictions for the people of all windows.
        """
        sink = ProbabilitySink(len(self.taxonomy))
        method = self.predictor.method
        ups = _UpRecord()
        with method.telling(ups.add) if isinstance(method, UpMethod) else nullcontext():
            self.predict(windows, sink)
        probabilities = sink.probabilities()
        if not isinstance(method, UpMethod):
            return Scored(probabilities, np.full(len(probabilities), np.nan))
        return Scored(probabilities, ups.degrees())

    def predict(self, windows: Iterable[Window], sink: Sink) -> None:
        """Predict like :meth:`score`, but pass each batch to a sink before the next window is read."""
        run_pass(self.predictor, _UnsizedBatches(self._batches(windows)), [sink], self.hardware)

    def _batches(self, windows: Iterable[Window]) -> Iterator[ClipBatch]:
        remaining = iter(windows)
        while batch := list(islice(remaining, self.batch_size)):
            yield _as_batch(batch)


class _UpRecord:
    """The estimated up of the people of each batch, in the order of the pass."""

    def __init__(self) -> None:
        self._parts = [np.empty(0)]

    def add(self, found: Found) -> None:
        self._parts.append(found.degrees.double().cpu().numpy())

    def degrees(self) -> np.ndarray:
        return np.concatenate(self._parts)


class _UnsizedBatches:
    """Iterable of batches of unknown number that has a length.

    Lightning reads one batch ahead if an iterable has no length. In a stream, each answer would come one window late.
    """

    def __init__(self, batches: Iterator[ClipBatch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[ClipBatch]:
        return self._batches

    def __len__(self) -> int:
        return 10**12


def _as_batch(windows: list[Window]) -> ClipBatch:
    frames = np.stack([window.frames for window in windows])
    height, width = frames.shape[2:4]
    people = torch.from_numpy(np.concatenate([window.boxes for window in windows])).float()
    return ClipBatch(
        frames=torch.from_numpy(np.ascontiguousarray(frames[..., ::-1].transpose(0, 4, 1, 2, 3))),
        boxes=people * people.new_tensor([width, height] * 2),
        clip_index=torch.repeat_interleave(torch.tensor([len(window.boxes) for window in windows])),
        table_boxes=people,
        keys=tuple(window.key for window in windows),
        domain="target",
    )


class WindowBuffer:
    """Buffer of the last frames of a video, resized, and the windows around keyframes in the buffer.

    Args:
        scorer: defines the frames of a window and their size.
    """

    def __init__(self, scorer: ActionScorer) -> None:
        self._view = View(scorer.short_side)
        span = scorer.num_frames * scorer.sampling_rate
        self._offsets = scorer.sampling_rate * np.arange(scorer.num_frames) - span // 2
        self._frames: deque[np.ndarray] = deque(maxlen=span + 1)
        self._newest = -1
        self._shown: Frame | None = None

    def add(self, number: int, frame: Frame) -> None:
        """Add the next frame; frame numbers have no gaps."""
        if frame is not self._shown:
            height, width = self._view.size(*frame.image.shape[:2])
            self._small = cv2.resize(frame.image, (width, height))
            self._shown = frame
        self._frames.append(self._small)
        self._newest = number

    def filled(self, keyframe: int) -> bool:
        """Return whether all frames of a window have arrived."""
        return keyframe + int(self._offsets[-1]) <= self._newest

    def window(self, keyframe: int) -> np.ndarray:
        """Return the window, ``(T, H, W, 3)`` uint8; at the ends of the video the first or last frame is repeated."""
        numbers = np.clip(keyframe + self._offsets, 0, self._newest)
        oldest = self._newest - len(self._frames) + 1
        return np.stack([self._frames[number - oldest] for number in numbers.tolist()])
