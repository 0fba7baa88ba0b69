"""Decoding of JPEG files, at full size or reduced by libjpeg."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

import cv2
import numpy as np

from microg_da.errors import InputError

HAS_SIMPLEJPEG = find_spec("simplejpeg") is not None
"""Whether the extra ``jpeg`` is installed. It decodes the same pixels as OpenCV in less time."""

Reduction = Literal[1, 2, 4, 8]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
"""Divisors of height and width. Other factors of libjpeg take longer than the full size."""

_OPENCV_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_END_OF_IMAGE = b"\xff\xd9"
# Some cameras pad a JPEG file after its end marker. A marker farther from the end belongs to a thumbnail.
_PADDING = 1024
# OpenCV rotates a picture by its EXIF data, which precede the tables of the picture.
_EXIF = b"Exif\0\0"
_HEADER = 4096


def decode_jpeg(path: str, reduction: Reduction = 1) -> np.ndarray:
    """Decode a JPEG file.

    Args:
        path: the file.
        reduction: divisor of height and width, which are rounded up.

    Returns:
        The picture, uint8 ``(H, W, 3)`` with channels blue, green, red.

    Raises:
        InputError: if the file cannot be read, is truncated or is not a JPEG file.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot read the frame: {error.strerror or error}") from error
    # OpenCV silently fills the rest of a truncated image with grey.
    if _END_OF_IMAGE not in data[-_PADDING:].tobytes():
        raise InputError(f"{path}: the JPEG file is truncated ({len(data)} bytes). Extract the frame again.")
    image = _decode_quickly(data, reduction) if HAS_SIMPLEJPEG else None
    if image is None:
        image = cv2.imdecode(data, _OPENCV_FLAGS[reduction])
    if image is None:
        raise InputError(f"{path}: not a readable JPEG file. Extract the frame again.")
    return image


def _decode_quickly(data: np.ndarray, reduction: Reduction) -> np.ndarray | None:
    """Decode without OpenCV; return None for pictures that need it, such as CMYK, rotated or damaged pictures."""
    import simplejpeg

    if _EXIF in data[:_HEADER].tobytes():
        return None
    smallest = {}
    try:
        if reduction > 1:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            smallest = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
        image: np.ndarray = simplejpeg.decode_jpeg(data, "BGR", **smallest)
    except ValueError:
        return None
    return image
