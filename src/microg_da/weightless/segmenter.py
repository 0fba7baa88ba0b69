"""Segmentation of people with an ONNX network, as a replacement for masks.

The network has one float32 input ``[1, 3, height, width]`` with red, green, blue in [0, 1], and one output of the same
height and width: ``[1, 1, height, width]`` or ``[1, height, width]`` for the probability of a person, or
``[1, classes, height, width]`` for class scores. Class 0 is the background. The metadata ``person_class`` gives the
class of people; the default is 15, as in PASCAL VOC, or 1 for two classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from microg_da.errors import InputError, first_line

FREE_SIDE = 320
"""Short side of the input of a network without a fixed input size, in pixels."""

_VOC_PERSON = 15
_MULTIPLE = 32


class Segmenter:
    """A network that segments people.

    Args:
        path: the ONNX file.

    Raises:
        InputError: if onnxruntime is not installed, or the network has another form.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._session = _open_session(self.path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(inputs[0].shape)
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise self._invalid(
                f"its inputs are {[list(each.shape) for each in inputs]}, expected one [1, 3, height, width]"
            )
        self._fixed = (shape[2], shape[3]) if all(isinstance(side, int) for side in shape[2:]) else None
        self._names = (inputs[0].name, outputs[0].name)
        named = self._session.get_modelmeta().custom_metadata_map.get("person_class")
        self._person = int(named) if named and named.isdecimal() else None
        self(np.zeros((64, 64, 3), np.uint8))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the mask of people ``(H, W)`` bool in a uint8 ``(H, W, 3)`` image with channels blue, green, red."""
        height, width = image.shape[:2]
        rows, columns = self._fixed or _free_size(height, width)
        pixels = cv2.resize(image, (int(columns), int(rows)), interpolation=cv2.INTER_AREA)[:, :, ::-1]
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255
        try:
            output = np.asarray(self._session.run([self._names[1]], {self._names[0]: batch})[0], np.float32)
        except Exception as error:  # onnxruntime has its own exception types
            raise self._invalid(f"it cannot be run on {list(batch.shape)} ({first_line(error)})") from error
        if output.shape[-2:] != (rows, columns) or output.ndim not in (3, 4) or len(output) != 1:
            raise self._invalid(f"its output is {list(output.shape)}, expected [1, classes, {rows}, {columns}]")
        share = cv2.resize(self._probability(output.reshape(-1, *output.shape[-2:])), (width, height))
        return np.asarray(share >= 0.5)

    def _probability(self, scores: np.ndarray) -> np.ndarray:
        if len(scores) == 1:
            if scores.min() < -1e-3 or scores.max() > 1 + 1e-3:
                raise self._invalid("its output is not a probability in [0, 1]. Export the network with a sigmoid")
            return np.asarray(scores[0])
        person = self._person if self._person is not None else (1 if len(scores) == 2 else _VOC_PERSON)
        if not 0 <= person < len(scores):
            raise self._invalid(f"it has {len(scores)} classes, but people are class {person}. Set person_class")
        return np.asarray((scores.argmax(axis=0) == person).astype(np.float32))

    def _invalid(self, problem: str) -> InputError:
        return InputError(f"{self.path}: not a network that segments people: {problem}. See docs/weightless.md.")


@lru_cache(maxsize=2)
def open_segmenter(path: str) -> Segmenter:
    """Return the network of a file, opened once in each process."""
    return Segmenter(path)


def _free_size(height: int, width: int) -> tuple[int, int]:
    factor = FREE_SIDE / min(height, width)
    rows, columns = (max(round(side * factor / _MULTIPLE), 1) * _MULTIPLE for side in (height, width))
    return rows, columns


class _Place(Protocol):
    name: str
    shape: Sequence[int | str]


class _Facts(Protocol):
    custom_metadata_map: Mapping[str, str]


class _Session(Protocol):
    """The used part of ``onnxruntime.InferenceSession``."""

    def get_inputs(self) -> Sequence[_Place]: ...

    def get_outputs(self) -> Sequence[_Place]: ...

    def get_modelmeta(self) -> _Facts: ...

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]: ...


def _open_session(path: Path) -> _Session:
    if not path.is_file():
        raise InputError(f"{path}: the file does not exist. Give an ONNX network that segments people.")
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("segmentation of people needs onnxruntime: pip install 'microg_da[detect]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # parallelism comes from processes, and one thread keeps the order of sums
    options.log_severity_level = 3
    try:
        session: _Session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session
    except Exception as error:  # onnxruntime has a separate exception type for each error
        raise InputError(f"{path}: onnxruntime cannot load the network ({first_line(error)})") from error
