"""Stills: photographs, which are read as videos of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from microg_da.errors import InputError, first_line
from microg_da.files import replacing
from microg_da.video.inputs import is_image
from microg_da.video.reader import Frame, Video

JPEG_QUALITY = 92


class Still(Video):
    """A photograph, read as a video with one frame and a duration of 0.

    Attributes: see :class:`~microg_da.video.reader.Video`.

    Raises:
        InputError: if the file does not exist or is not a readable image.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.video_id = self.path.stem
        self.faults: list[str] = []
        self.last_seconds = 0.0
        self.rate = None
        self.seconds = 0.0
        self._pixels = _read_image(self.path)
        self.size = self._pixels.shape[0], self._pixels.shape[1]

    def frames(self) -> Iterator[Frame]:
        """Yield the image."""
        yield Frame(None, self.size, 0.0, image=self._pixels)


def open_input(path: str | Path) -> Video:
    """Open a video, or a still if the file has the suffix of an image.

    Raises:
        InputError: if the file cannot be read.
    """
    return Still(path) if is_image(path) else Video(path)


def write_picture(image: np.ndarray, path: Path) -> None:
    """Write a uint8 ``(H, W, 3)`` image with channels blue, green, red as JPEG, atomically."""
    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image[:, :, ::-1])).save(temporary, "JPEG", quality=JPEG_QUALITY)


def _read_image(path: Path) -> np.ndarray:
    if not path.is_file():
        what = "expected an image file, found a folder" if path.is_dir() else "the image file does not exist"
        raise InputError(f"{path}: {what}")
    try:
        with Image.open(path) as image:
            # Cameras store the rotation of the image in the file.
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a readable image file. Check the path and the format.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: the image cannot be read ({first_line(error)}). Download or copy the file again."
        ) from error
    return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1])
