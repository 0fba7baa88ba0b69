"""Videos made for a test, people that a simple rule finds, and a detector whose answers can be computed by hand."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from microg_da.adaptation.predictor import Predictor
from microg_da.taxonomy import get_taxonomy
from microg_da.types import Prediction
from microg_da.video.action_scorer import ActionScorer
from microg_da.video.person_boxes import PersonBoxes

av = pytest.importorskip("av", reason="PyAV is not installed")


def write_video(path: Path, frames, rate=30, seconds=None, codec="libx264", **options) -> Path:
    """Frames ``(H, W, 3)`` uint8 blue, green, red; ``seconds`` gives each its own time."""
    frames = iter(frames)
    first = next(frames)
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 12
        stream.codec_context.time_base = Fraction(1, 12_000)
        if codec == "libx264":
            stream.options = {"crf": "10", "preset": "ultrafast"}
        for number, image in enumerate(itertools.chain([first], frames)):
            time = number / rate if seconds is None else seconds[number]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts, frame.time_base = round(time * 12_000), Fraction(1, 12_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scene(people=(), size=(96, 128), background=40) -> np.ndarray:
    """A frame with a red block for each box in pixels."""
    image = np.full((*size, 3), background, np.uint8)
    for x1, y1, x2, y2 in people:
        image[round(y1) : round(y2), round(x1) : round(x2)] = (0, 0, 255)
    return image


def find_red(image: np.ndarray) -> PersonBoxes:
    """The red blocks: what an ideal person detector would say of :func:`scene`."""
    import cv2

    mask = (image[:, :, 2] > 150) & (image[:, :, 1] < 100)
    _, _, blocks, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    blocks = blocks[1:][blocks[1:, 4] > 20]
    boxes = np.stack(
        [blocks[:, 0], blocks[:, 1], blocks[:, 0] + blocks[:, 2], blocks[:, 1] + blocks[:, 3]], axis=1
    ).astype(float)
    return PersonBoxes(boxes, np.full(len(boxes), 0.9), np.full(len(boxes), np.nan))


class Brightness(nn.Module):
    """A detector of one rule: the mean of the window's blue channel, less 100, by class / 1000."""

    feature_dim, num_classes = 1, 50

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, frames, boxes, clip_index):
        level = frames[:, 2].float().mean(dim=(1, 2, 3))[clip_index] - 100
        logits = level[:, None] * torch.arange(50)[None] / 1000
        return Prediction(logits, level[:, None])


def brightness_scorer() -> ActionScorer:
    """A scorer with the rule of :class:`Brightness`."""
    return ActionScorer(
        Predictor(Brightness().eval()),
        get_taxonomy("microg50"),
        num_frames=4,
        sampling_rate=3,
        short_side=32,
        name="brightness",
        batch_size=3,
    )
