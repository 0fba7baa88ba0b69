"""Export of a detector to ONNX, with clips and boxes as inputs and logits as outputs, and comparison with torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from microg_da.errors import InputError, first_line
from microg_da.files import replacing
from microg_da.logs import log_level
from microg_da.models.detector import ActionDetector
from microg_da.models.mvit import MViT
from microg_da.models.timm_encoder import TimmEncoder

INPUTS = ("frames", "boxes", "clip_index")
OUTPUT = "logits"
TOLERANCE = 1e-3
"""The maximum difference between a logit of the ONNX file and that of torch."""

_ONE_SIZE = (MViT, TimmEncoder)
"""Backbones that resize their position embeddings to the frame size, which is fixed at export."""

_TRACED = (2, 3)
"""Numbers of clips and boxes of the example: the exporter treats 0 and 1 as constants."""

_CHECKED = ((1, 1), (2, 5), (3, 0), (1, 4))
"""Numbers of clips and boxes in the comparison; a clip may have no people."""

Inputs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that agrees with torch.

    Attributes:
        path: the file.
        difference: the largest difference between logits of the file and of torch, for random clips and boxes.
        largest_logit: the largest absolute value of those logits.
        frames: shape of the frames; names for dimensions of any size.
        size: size of the file in bytes.
    """

    path: Path
    difference: float
    largest_logit: float
    frames: tuple[str | int, ...]
    size: int


class _Logits(nn.Module):
    def __init__(self, detector: ActionDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
        logits: Tensor = self.detector(frames, boxes, clip_index).logits
        return logits


def export_onnx(
    detector: ActionDetector,
    path: str | Path,
    num_frames: int,
    size: tuple[int, int],
    metadata: Mapping[str, str] | None = None,
) -> OnnxFile:
    """Write a detector as ONNX and compare the file with torch in onnxruntime.

    Args:
        detector: the detector on the CPU; it is switched to evaluation mode.
        path: the file.
        num_frames: T, which is fixed in the file.
        size: height and width of the frames in pixels. A convolutional network also accepts other sizes; a network that
            resizes its position embeddings accepts only this size.
        metadata: additional metadata of the file; each value is stored as JSON.

    Raises:
        InputError: if a package is missing, ONNX does not support the network, or the file differs from torch by more
            than 1e-3. No file is left in these cases.
    """
    detector.eval()
    generator = torch.Generator().manual_seed(0)
    with replacing(path) as temporary:
        program = _program(detector, _random_inputs(*_TRACED, num_frames, size, generator))
        program.model.metadata_props.update(metadata or {})
        program.save(temporary)
        difference, largest, frames = _compare(detector, temporary, num_frames, size, generator)
    path = Path(path)
    return OnnxFile(path, difference, largest, frames, path.stat().st_size)


def _program(detector: ActionDetector, example: Inputs) -> Any:
    _require("onnx", "onnxscript", "onnxruntime")
    if getattr(detector, "group", None) == "c8":
        raise InputError(
            "model.roll_pooling=c8 resamples the frames at 45°, in steps that depend on their values, which ONNX does "
            "not support. Export without --onnx, or train with model.roll_pooling=c4."
        )
    dynamic = getattr(torch.export.Dim, "DYNAMIC", None)
    if dynamic is None:
        raise InputError(f"ONNX needs torch 2.6 or newer, found {torch.__version__}: pip install 'microg_da[onnx]'")
    frames = {0: dynamic}
    if not isinstance(detector.backbone, _ONE_SIZE):
        frames |= {3: dynamic, 4: dynamic}
    try:
        with _quiet(), torch.no_grad():
            return torch.onnx.export(
                _Logits(detector),
                example,
                dynamo=True,
                dynamic_shapes=(frames, {0: dynamic}, {0: dynamic}),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        # The exporter wraps the exception of the failed step in several layers.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(f"this network cannot be exported to ONNX: {first_line(cause)[:300]}") from error


def _compare(
    detector: ActionDetector, file: Path, num_frames: int, size: tuple[int, int], generator: torch.Generator
) -> tuple[float, float, tuple[str | int, ...]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shape: list[str | int] = session.get_inputs()[0].shape
    frames = tuple(name if isinstance(given, str) else given for name, given in zip("B3THW", shape, strict=True))
    difference = largest = 0.0
    for index, (clips, boxes) in enumerate(_CHECKED):
        # If the file accepts frames of any size, every second comparison uses a larger frame of another shape.
        other = index % 2 and isinstance(shape[3], str)
        here = (size[1] + 32, size[0] + 64) if other else size
        inputs = _random_inputs(clips, boxes, num_frames, here, generator)
        with torch.no_grad():
            wanted = detector(*inputs).logits.numpy()
        given = dict(zip(INPUTS, (x.numpy() for x in inputs), strict=True))
        found = session.run([OUTPUT], given)[0]
        if found.shape != wanted.shape:
            raise InputError(
                f"the ONNX file was removed: its logits have shape {found.shape}, expected {wanted.shape} as in torch"
            )
        apart = float(np.abs(found - wanted).max(initial=0))
        if not apart <= TOLERANCE:
            raise InputError(
                f"the ONNX file was removed: a logit differs from that of torch by {apart:.2g} > {TOLERANCE:g} "
                f"(clips {clips}, boxes {boxes}, frames {here[0]}×{here[1]})"
            )
        difference = max(difference, apart)
        largest = max(largest, float(np.abs(wanted).max(initial=0)))
    return difference, largest, frames


def _random_inputs(
    clips: int, boxes: int, num_frames: int, size: tuple[int, int], generator: torch.Generator
) -> Inputs:
    """Return random frames, and random boxes of different sizes inside the frames."""
    height, width = size
    corners = torch.rand(boxes, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
    return (
        torch.randint(0, 256, (clips, 3, num_frames, height, width), dtype=torch.uint8, generator=generator),
        corners.flatten(1),
        torch.randint(0, clips, (boxes,), generator=generator),
    )


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"--onnx needs the packages {', '.join(missing)}: pip install 'microg_da[onnx]'.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of the exporter about its own parts; errors are still raised."""
    names, silence = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export"), io.StringIO()
    with (
        warnings.catch_warnings(),
        log_level(logging.ERROR, names),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        warnings.simplefilter("ignore")
        yield
