"""Finding people: YOLOX (Ge et al., 2021) as an ONNX file, in the frame as it stands and turned by several rolls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from microg_da.errors import InputError, first_line
from microg_da.video.inputs import check_person_detector

PERSON = 0
"""The class of people in COCO's list."""

STRIDES = (8, 16, 32)
GREY = 114
"""What YOLOX was trained to see beside the image."""

OVERLAP = 0.45
"""IoU above which two detections are one person's."""

PART = 0.65
"""Share of the smaller box above which two detections at different rolls are one person's."""

UPRIGHT_BONUS = 0.05
"""By how much a turned detection must be surer to replace an upright one of the same person."""


class PersonBoxes(NamedTuple):
    """The boxes of the people in one frame.

    Attributes:
        boxes: ``(K, 4)`` float, pixels ``x1 y1 x2 y2`` inside the frame.
        scores: ``(K,)`` float in [0, 1].
        rolls: ``(K,)`` float, degrees clockwise by which the person lies in the frame; NaN where nobody looked.
    """

    boxes: np.ndarray
    scores: np.ndarray
    rolls: np.ndarray


class PersonDetector(Protocol):
    """Finds people in a frame."""

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        """The people in a uint8 ``(H, W, 3)`` image, channels blue, green, red."""


class Yolox:
    """A YOLOX network exported to ONNX, with COCO's classes.

    Args:
        path: the ONNX file.
        threshold: people with a lower score are left out.

    Raises:
        InputError: if onnxruntime is not installed, or the file is no such network.
    """

    def __init__(self, path: str | Path, threshold: float = 0.4) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self._session = _open_session(self.path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(inputs[0].shape)
        if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) for side in shape[2:]):
            raise self._unlike(f"its input is {shape}, expected [1, 3, height, width]")
        self.size = (int(shape[2]), int(shape[3]))
        self._names = (inputs[0].name, outputs[0].name)
        self._grid, self._stride = _grid(*self.size)
        blank = self._run(np.full((*self.size, 3), GREY, np.uint8))
        if blank.ndim != 2 or len(blank) != len(self._grid) or blank.shape[1] < 6:
            raise self._unlike(f"its output is {list(blank.shape)}, expected [{len(self._grid)}, 5 + classes]")
        # Some exports decode inside the network: their centres then span the image instead of a cell.
        self._decoded = bool(blank[:, :2].max() > max(STRIDES))

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        """See :class:`PersonDetector`."""
        padded, scale = letterbox(image, self.size)
        output = self._run(padded)
        if not self._decoded:
            output = decode(output, self._grid, self._stride)
        scores = output[:, 4] * output[:, 5 + PERSON]
        likely = scores >= self.threshold
        centre, half = output[likely, :2], output[likely, 2:4] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1) / scale
        return suppress(boxes, scores[likely], np.full(likely.sum(), np.nan), image.shape[:2])

    def _run(self, image: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
        (output,) = self._session.run([self._names[1]], {self._names[0]: pixels})
        found: np.ndarray = output[0]
        return found

    def _unlike(self, problem: str) -> InputError:
        return InputError(f"{self.path}: not a YOLOX person detector: {problem}. Export YOLOX with COCO's classes.")


class RollSearch:
    """Looks for people in the frame turned by several angles, since detectors trained on Earth miss inverted people.

    The roll at which a person is found best says how they lie in the frame, as finely as it was searched.

    Args:
        detector: finds upright people.
        count: how many angles, evenly around; 4 is every quarter turn.
    """

    def __init__(self, detector: PersonDetector, count: int = 4) -> None:
        self.detector = detector
        self.rolls = 360.0 * np.arange(count) / count

    def __call__(self, image: np.ndarray) -> PersonBoxes:
        """See :class:`PersonDetector`."""
        found = [self._at(image, float(roll)) for roll in self.rolls]
        boxes, scores, rolls = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = suppress(boxes, scores, rolls, image.shape[:2], scores + UPRIGHT_BONUS * (rolls == 0))
        return drop_parts(kept)

    def _at(self, image: np.ndarray, roll: float) -> PersonBoxes:
        turned, matrix = turn(image, roll)
        boxes, scores, _ = self.detector(turned)
        return PersonBoxes(turn_back(boxes, matrix), scores, np.full(len(boxes), roll))


def create_person_detector(path: str | Path, threshold: float, rolls: int | None = None) -> PersonDetector:
    """A YOLOX detector; with ``rolls`` it searches as many.

    Raises:
        InputError: see :class:`Yolox`; also if threshold or rolls cannot be.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"--person-threshold {threshold}: a number in [0, 1] is expected")
    if rolls is not None and not 2 <= rolls <= 36:
        raise InputError(f"--roll-search {rolls}: from 2 to 36 rolls can be searched")
    detector = Yolox(path, threshold)
    return detector if rolls is None else RollSearch(detector, rolls)


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale an image into the upper left corner of a grey one; returns it and the scale."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    padded = np.full((*size, 3), GREY, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return padded, scale


def decode(output: np.ndarray, grid: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """From offsets in cells and logarithms of sizes to pixels: ``(N, 5 + classes)`` to the same."""
    boxes = np.concatenate([(output[:, :2] + grid) * stride, np.exp(output[:, 2:4]) * stride], axis=1)
    return np.concatenate([boxes, output[:, 4:]], axis=1)


def suppress(
    boxes: np.ndarray,
    scores: np.ndarray,
    rolls: np.ndarray,
    size: tuple[int, int],
    preference: np.ndarray | None = None,
) -> PersonBoxes:
    """Clip boxes to the frame, drop those with less than a pixel, keep the best of those that overlap.

    Args:
        boxes: ``(N, 4)`` in pixels.
        scores: ``(N,)``.
        rolls: ``(N,)``.
        size: height and width of the frame.
        preference: ``(N,)``, which is the best; None for the scores.
    """
    height, width = size
    preference = scores if preference is None else preference
    boxes = np.clip(boxes, 0, np.array([width, height] * 2)).astype(np.float64)
    inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    boxes, scores, rolls = boxes[inside], scores[inside].astype(np.float64), rolls[inside]
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(preference[inside].astype(np.float64)), OVERLAP).numpy()
    return PersonBoxes(boxes[kept], scores[kept], rolls[kept])


def drop_parts(found: PersonBoxes) -> PersonBoxes:
    """Without those who are a part of somebody found surer at another roll.

    A face or a torso often looks like a whole person once the frame is turned. Its box lies inside the person's and is
    so much smaller that :func:`suppress` keeps both. People found at the same roll are all kept: one may stand before
    another.

    Args:
        found: the surest first, as :func:`suppress` returns them.
    """
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    for place, (box, roll) in enumerate(zip(found.boxes, found.rolls, strict=True)):
        others = [other for other in kept if found.rolls[other] != roll]
        sides = np.minimum(box[2:], found.boxes[others, 2:]) - np.maximum(box[:2], found.boxes[others, :2])
        shared = sides.clip(0).prod(axis=1) / np.minimum(area[place], area[others])
        if not (shared > PART).any():
            kept.append(place)
    return PersonBoxes(*(values[kept] for values in found))


def turn(image: np.ndarray, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn an image so that somebody who lies ``roll`` degrees clockwise stands upright; nothing is cut off.

    Returns:
        the turned image and the ``(2, 3)`` matrix from pixels of the image to pixels of the turned one.
    """
    height, width = image.shape[:2]
    cosine, sine = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    linear = np.array([[cosine, sine], [-sine, cosine]]).round(12)
    spread = np.abs(linear) @ [width, height]
    new_width, new_height = np.ceil(spread.round(6)).astype(int)
    # Pixels are squares with their centre at a half, as boxes have it; OpenCV counts from the first one's centre.
    shift = np.array([new_width, new_height]) / 2 - linear @ [width / 2, height / 2]
    matrix = np.column_stack([linear, shift])
    for_opencv = np.column_stack([linear, shift + linear @ [0.5, 0.5] - 0.5])
    turned = cv2.warpAffine(image, for_opencv, (int(new_width), int(new_height)), borderValue=(GREY,) * 3)
    return turned, matrix


def turn_back(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes of a turned image in the image that was turned.

    A turned box is taken for the ellipse in it, whose corners do not stick out as a rectangle's would; at quarter
    turns that is exact.
    """
    inverse = np.linalg.inv(matrix[:, :2])
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - matrix[:, 2]) @ inverse.T
    half = np.linalg.norm(inverse[None] * (boxes[:, None, 2:] - boxes[:, None, :2]) / 2, axis=2)
    return np.concatenate([centre - half, centre + half], axis=1)


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of every output, and its size in pixels: ``(N, 2)`` and ``(N, 1)``."""
    cells, sizes = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells), np.concatenate(sizes)


class _Place(Protocol):
    """What onnxruntime says of an input or output."""

    name: str
    shape: Sequence[int | str]


class _Session(Protocol):
    """What is used of ``onnxruntime.InferenceSession``."""

    def get_inputs(self) -> Sequence[_Place]: ...

    def get_outputs(self) -> Sequence[_Place]: ...

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]: ...


def _open_session(path: Path) -> _Session:
    check_person_detector(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("finding people needs onnxruntime: pip install 'microg_da[detect]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    try:
        session: _Session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        return session
    except Exception as error:  # onnxruntime raises types of its own, one per fault
        raise InputError(f"{path}: not an ONNX network that can be run ({first_line(error)})") from error
