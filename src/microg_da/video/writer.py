"""Writing frames as they come: MP4 at the times of the original, or the beginning as a GIF."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import cv2
import numpy as np
from PIL import Image

from microg_da.errors import InputError, first_line

VIDEO_FORMATS = ("mp4", "gif", "none")

GIF_RATE = 10.0
GIF_SECONDS = 20.0
GIF_WIDTH = 480
"""A GIF is held in memory while it is written, and a large one is of little use."""

_TICKS = 60_000
"""Of a second: 24, 25, 30 and 60 frames per second and their NTSC neighbours are all whole numbers of them."""


class FrameWriter(Protocol):
    """Takes frames one after the other."""

    def wants(self, seconds: float) -> bool:
        """Whether a frame shown at that moment will be used."""

    def add(self, image: np.ndarray, seconds: float) -> None:
        """Write one uint8 ``(H, W, 3)`` frame, channels blue, green, red; ``seconds`` grow."""


class Mp4Writer:
    """H.264 in MP4 (MPEG-4 where PyAV was built without it); a context manager.

    Args:
        path: the file.
        size: height and width; an odd row or column is left out, since the format has none.
        rate: frames per second, roughly: every frame keeps its own time.
        quality: H.264's constant rate factor; smaller is better.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float, quality: int = 23) -> None:
        import av

        self._av = av
        self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        if min(self._size) < 2:
            raise InputError(f"{path}: frames of {size[1]}×{size[0]} pixels are too small for a video")
        self._container = av.open(str(path), "w")
        codec: Literal["libx264", "mpeg4"] = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.options = {"crf": str(quality), "preset": "veryfast"} if codec == "libx264" else {"q:v": "4"}
        self._stream = stream

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
        finally:
            self._container.close()

    def wants(self, seconds: float) -> bool:
        """Every frame."""
        return True

    def add(self, image: np.ndarray, seconds: float) -> None:
        """See :class:`FrameWriter`."""
        height, width = self._size
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="bgr24")
        # Converted here: the bytes of a video vary from run to run if the encoder converts it.
        frame = frame.reformat(format="yuv420p")
        frame.pts = round(seconds * _TICKS)
        frame.time_base = Fraction(1, _TICKS)
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise InputError(f"the video cannot be written ({first_line(error)}). Is the disk full?") from error


class GifWriter:
    """The first :data:`GIF_SECONDS` at :data:`GIF_RATE` and at most :data:`GIF_WIDTH` wide; a context manager.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due = 0.0
        self._images: list[Image.Image] = []

    def __enter__(self) -> GifWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None and self._images:
            first, *rest = self._images
            first.save(self._path, save_all=True, append_images=rest, duration=round(1000 / GIF_RATE), loop=0)

    def wants(self, seconds: float) -> bool:
        """The next one that is due."""
        return self._due - 1e-6 <= seconds < GIF_SECONDS

    def add(self, image: np.ndarray, seconds: float) -> None:
        """See :class:`FrameWriter`."""
        if not self.wants(seconds):
            return
        self._due += (np.floor((seconds - self._due) * GIF_RATE + 1e-6) + 1) / GIF_RATE
        scale = min(1.0, GIF_WIDTH / image.shape[1])
        if scale < 1:
            size = (GIF_WIDTH, max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        picture = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
        self._images.append(picture.quantize(128, dither=Image.Dither.NONE))
