"""Sequential writing of frames: as MP4 with the original times, or the beginning as a GIF."""

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
"""Limits of a GIF, which is held in memory while it is written."""

_TICKS = 60_000
"""Ticks per second: frame durations at 24, 25, 30 and 60 frames per second and NTSC rates are whole numbers."""


class FrameWriter(Protocol):
    """Interface of writers of frames."""

    def wants(self, seconds: float) -> bool:
        """Return whether the writer uses a frame at that time."""

    def add(self, image: np.ndarray, seconds: float) -> None:
        """Write one uint8 ``(H, W, 3)`` frame with channels blue, green, red; ``seconds`` must increase."""


class Mp4Writer:
    """Context manager that writes H.264 in MP4, or MPEG-4 if PyAV was built without H.264.

    Args:
        path: the file.
        size: height and width; an odd row or column is omitted, because the format needs even sizes.
        rate: approximate frames per second; every frame keeps its own time.
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
        """Return True, because every frame is used."""
        return True

    def add(self, image: np.ndarray, seconds: float) -> None:
        """See :class:`FrameWriter`."""
        height, width = self._size
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="bgr24")
        # The conversion in the encoder is not reproducible, so the image is converted here.
        frame = frame.reformat(format="yuv420p")
        frame.pts = round(seconds * _TICKS)
        frame.time_base = Fraction(1, _TICKS)
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise InputError(f"the video cannot be written ({first_line(error)}). The disk may be full.") from error


class GifWriter:
    """Context manager that writes the first :data:`GIF_SECONDS` at :data:`GIF_RATE`, at most :data:`GIF_WIDTH` wide.

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
        """Return whether the next frame of the GIF is due."""
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
