"""Person detection with YOLOX (Ge et al., 2021) from an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from microg_da.errors import InputError, first_line
from microg_da.video.inputs import check_person_detector
from microg_da.video.person_boxes import PersonBoxes, PersonDetector, inside_frame, suppress
from microg_da.video.roll_search import FAINT, GREY, RollSearch

PERSON = 0
"""The class of people in COCO's list."""

STRIDES = (8, 16, 32)

ADAPTIVE = "adaptive"
"""Name of the roll search at quarter turns, and between them if a person is found with an uncertain score."""


class Yolox:
    """A YOLOX network exported to ONNX, with COCO's classes.

    Args:
        path: the ONNX file.
        threshold: minimum score of people.

    Raises:
        InputError: if onnxruntime is not installed, or the file is not a YOLOX network.
    """

    def __init__(self, path: str | Path, threshold: float = 0.4) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self._session = _open_session(self.path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(inputs[0].shape)
        if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) for side in shape[2:]):
            raise self._invalid(f"its input is {shape}, expected [1, 3, height, width]")
        self.size = (int(shape[2]), int(shape[3]))
        self._names = (inputs[0].name, outputs[0].name)
        self._grid, self._stride = _grid(*self.size)
        blank = self._run(np.full((*self.size, 3), GREY, np.uint8))
        if blank.ndim != 2 or len(blank) != len(self._grid) or blank.shape[1] < 6:
            raise self._invalid(f"its output is {list(blank.shape)}, expected [{len(self._grid)}, 5 + classes]")
        # Some exported networks decode their outputs: their centres span the image instead of a cell.
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
        found = PersonBoxes(boxes, scores[likely], np.full(likely.sum(), np.nan))
        return suppress(inside_frame(found, image.shape[:2]))

    def _run(self, image: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)
        (output,) = self._session.run([self._names[1]], {self._names[0]: pixels})
        found: np.ndarray = output[0]
        return found

    def _invalid(self, problem: str) -> InputError:
        return InputError(f"{self.path}: not a YOLOX person detector: {problem}. Export YOLOX with COCO's classes.")


def create_person_detector(path: str | Path, threshold: float, rolls: int | str | None = None) -> PersonDetector:
    """Create a YOLOX detector, with or without a search over rolls.

    Args:
        path: the ONNX file.
        threshold: minimum score of people.
        rolls: number of rolls, or ``"adaptive"``, see :class:`~microg_da.video.roll_search.RollSearch`; None for
            detection in the original frame only.

    Raises:
        InputError: see :class:`Yolox`; also for an invalid threshold or number of rolls.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"--person-threshold {threshold}: expected a number in [0, 1]")
    if rolls is None:
        return Yolox(path, threshold)
    count = _roll_count(rolls)
    return RollSearch(Yolox(path, min(threshold, FAINT)), count, threshold)


def _roll_count(rolls: int | str) -> int | None:
    """Return the number of rolls, None for the adaptive search."""
    if rolls == ADAPTIVE:
        return None
    try:
        count = int(rolls)
    except ValueError:
        count = 0
    if not 2 <= count <= 36:
        raise InputError(f"--roll-search {rolls}: expected a number of rolls from 2 to 36, or {ADAPTIVE}")
    return count


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale an image into the upper left corner of a grey image; return that image and the scale."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    padded = np.full((*size, 3), GREY, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return padded, scale


def decode(output: np.ndarray, grid: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Convert offsets in cells and logarithms of sizes to pixels; the shape ``(N, 5 + classes)`` does not change."""
    boxes = np.concatenate([(output[:, :2] + grid) * stride, np.exp(output[:, 2:4]) * stride], axis=1)
    return np.concatenate([boxes, output[:, 4:]], axis=1)


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of every output, and the size of the cell in pixels: ``(N, 2)`` and ``(N, 1)``."""
    cells, sizes = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells), np.concatenate(sizes)


class _Place(Protocol):
    """Description of an input or output by onnxruntime."""

    name: str
    shape: Sequence[int | str]


class _Session(Protocol):
    """The used part of ``onnxruntime.InferenceSession``."""

    def get_inputs(self) -> Sequence[_Place]: ...

    def get_outputs(self) -> Sequence[_Place]: ...

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]: ...


def _open_session(path: Path) -> _Session:
    check_person_detector(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("person detection needs onnxruntime: pip install 'microg_da[detect]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    try:
        session: _Session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        return session
    except Exception as error:  # onnxruntime has a separate exception type for each error
        raise InputError(f"{path}: onnxruntime cannot load the network ({first_line(error)})") from error
