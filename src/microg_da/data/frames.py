"""Decoding: the frames of a window, and no others, from folders of JPEG files or from video files."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from microg_da.data.jpeg import REDUCTIONS, Reduction, decode_jpeg
from microg_da.errors import InputError
from microg_da.files import inside

if TYPE_CHECKING:
    import av

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")

_NUMBERED = re.compile(r"(\d+)\.jpe?g$", re.IGNORECASE)


class FrameStore(Protocol):
    """Source of the frames of a data set's videos. Frames are counted from 0."""

    def num_frames(self, video_id: str) -> int:
        """How many frames a video has."""

    def frame_size(self, video_id: str) -> tuple[int, int]:
        """Height and width in pixels."""

    def fps(self, video_id: str) -> float | None:
        """Return frames per second; None if the files do not contain it."""

    def missing(self, video_ids: Sequence[str]) -> dict[str, str]:
        """Return the missing videos with the reason, without decoding."""

    def read(self, video_id: str, numbers: np.ndarray, min_short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames as uint8 ``(H, W, 3)`` in OpenCV's channel order blue, green, red.

        Yielding single frames lets callers crop each frame while it is in the processor's cache.

        Args:
            video_id: the video.
            numbers: distinct frame numbers in ascending order.
            min_short_side: if given, frames may be decoded at a reduced size whose short side is not smaller than this.

        Raises:
            InputError: with the file that is missing, damaged or too short.
        """


@runtime_checkable
class StampedFrames(Protocol):
    """A :class:`FrameStore` that detects changes of its pixels, so that feature maps can be stored."""

    def stamp(self, video_id: str, numbers: np.ndarray) -> str:
        """Return text that changes if the pixels of these frames change, without decoding.

        Raises:
            InputError: if a file is missing.
        """


def file_stamp(path: str | Path) -> str:
    """Name, size and time of the last change of a file.

    Raises:
        InputError: if there is no such file.
    """
    try:
        facts = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Extract or copy it again.") from error
    return f"{Path(path).name}:{facts.st_size}:{facts.st_mtime_ns}"


def window(keyframe: int, num_frames: int, sampling_rate: int, video_length: int) -> np.ndarray:
    """Return the ``T`` frames of a window, ``τ`` apart, around the keyframe, clamped to the video.

    The window starts ``T·τ // 2`` frames before the keyframe, which has the index ``T/2`` for even ``T``.
    """
    start = keyframe - num_frames * sampling_rate // 2
    indices = start + sampling_rate * np.arange(num_frames)
    return np.clip(indices, 0, video_length - 1)


class JpegFolders:
    """One folder per video, one numbered JPEG per frame: ``<video>/<video>_000001.jpg``.

    Args:
        root: the folder that holds the videos' folders.
        folders: the folder of each ``video_id`` below ``root``; by default the name of the video.
    """

    def __init__(self, root: str | Path, folders: Mapping[str, str] | None = None) -> None:
        self.root = Path(root)
        self._folders = folders
        self._frames: dict[str, tuple[str, int, int, int]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def num_frames(self, video_id: str) -> int:
        """How many frames the folder holds."""
        return self._listing(video_id)[3]

    def frame_size(self, video_id: str) -> tuple[int, int]:
        """Height and width, from the header of the first frame."""
        if video_id not in self._sizes:
            path = self._path(video_id, 0)
            try:
                with Image.open(path) as image:
                    self._sizes[video_id] = image.height, image.width
            except OSError as error:
                raise InputError(
                    f"{path}: not a readable JPEG file. Extract the frames of {video_id} again."
                ) from error
        return self._sizes[video_id]

    def fps(self, video_id: str) -> float | None:
        """Return None, since JPEG files have no frame rate."""
        return None

    def missing(self, video_ids: Sequence[str]) -> dict[str, str]:
        """Videos without a folder."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder of frames. Extract the frames, or use decode=video.")
        if self._folders is not None:
            there = {video for video in video_ids if (self.root / self._folder(video)).is_dir()}
        else:
            there = {entry.name for entry in self.root.iterdir()}
        return {video: f"{self.root / video}: no such folder of frames" for video in video_ids if video not in there}

    def read(self, video_id: str, numbers: np.ndarray, min_short_side: int | None = None) -> Iterator[np.ndarray]:
        """See :meth:`FrameStore.read`."""
        reduction = self._reduction(video_id, min_short_side)
        shape: tuple[int, ...] = ()
        for number in numbers.tolist():
            image = decode_jpeg(self._path(video_id, number), reduction)
            if image.shape != (shape or image.shape):
                raise InputError(
                    f"{self._path(video_id, number)}: differs in size from the frames before it. "
                    f"Extract the frames again."
                )
            shape = image.shape
            yield image
            # Freed before the next frame is decoded, which then reuses the cached memory.
            del image

    def stamp(self, video_id: str, numbers: np.ndarray) -> str:
        """See :meth:`StampedFrames.stamp`."""
        return " ".join(file_stamp(self._path(video_id, number)) for number in numbers.tolist())

    def _reduction(self, video_id: str, min_short_side: int | None) -> Reduction:
        """The largest factor by which libjpeg may shrink while it decodes."""
        if min_short_side is None:
            return 1
        short = min(self.frame_size(video_id))
        return max((factor for factor in REDUCTIONS if short // factor >= min_short_side), default=1)

    def _path(self, video_id: str, index: int) -> str:
        prefix, first, width, _ = self._listing(video_id)
        return f"{self.root}/{self._folder(video_id)}/{prefix}{first + index:0{width}d}.jpg"

    def _folder(self, video_id: str) -> str:
        return video_id if self._folders is None else self._folders.get(video_id, video_id)

    def _listing(self, video_id: str) -> tuple[str, int, int, int]:
        """Return the prefix of names, the first number, the number of digits and the number of frames."""
        if video_id not in self._frames:
            self._frames[video_id] = self._list(video_id)
        return self._frames[video_id]

    def _list(self, video_id: str) -> tuple[str, int, int, int]:
        folder = inside(self.root, self._folder(video_id))
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder of frames. Extract the frames of {video_id}, or remove its rows."
            )
        names = sorted(entry.name for entry in folder.iterdir() if _NUMBERED.search(entry.name))
        if not names:
            raise InputError(f"{folder}: contains no numbered JPEG file such as {video_id}_000001.jpg")
        digits = _NUMBERED.search(names[0])
        assert digits is not None
        prefix, first, width = names[0][: digits.start()], int(digits[1]), len(digits[1])
        for number, name in enumerate(names, start=first):
            if name != f"{prefix}{number:0{width}d}.jpg":
                raise InputError(
                    f"{folder}: {prefix}{number:0{width}d}.jpg is missing. Extract the frames of {video_id} again."
                )
        return prefix, first, width, len(names)


class VideoFiles:
    """One video file per video, decoded with PyAV.

    Args:
        paths: the file of each ``video_id``.
    """

    def __init__(self, paths: dict[str, Path]) -> None:
        # Arrays of text instead of dicts of objects, since worker processes share arrays without copies.
        self._ids = np.array(sorted(paths), dtype=np.str_)
        self._paths = np.array([str(paths[name]) for name in sorted(paths)], dtype=np.str_)

    def num_frames(self, video_id: str) -> int:
        """How many frames the file holds."""
        return len(self._index(video_id).order)

    def frame_size(self, video_id: str) -> tuple[int, int]:
        """Height and width in pixels, from the file's header."""
        return self._index(video_id).size

    def fps(self, video_id: str) -> float | None:
        """The average frame rate, from the file's header."""
        return self._index(video_id).fps

    def missing(self, video_ids: Sequence[str]) -> dict[str, str]:
        """Videos without a file, or with an empty one."""
        faults = {}
        for video in video_ids:
            path = self._find(video)
            if path is None:
                faults[video] = f"{video}: no video file of that name ({', '.join(VIDEO_SUFFIXES)})"
            elif not path.is_file() or path.stat().st_size == 0:
                faults[video] = f"{path}: the video file is {'empty (0 bytes)' if path.is_file() else 'not there'}"
        return faults

    def read(self, video_id: str, numbers: np.ndarray, min_short_side: int | None = None) -> Iterator[np.ndarray]:
        """See :meth:`FrameStore.read`."""
        return self._index(video_id).decode(numbers, min_short_side)

    def stamp(self, video_id: str, numbers: np.ndarray) -> str:
        """See :meth:`StampedFrames.stamp`."""
        path = self._find(video_id)
        return f"{numbers.tolist()} {file_stamp(path or video_id)}"

    def _find(self, video_id: str) -> Path | None:
        place = int(np.searchsorted(self._ids, video_id))
        if place == len(self._ids) or self._ids[place] != video_id:
            return None
        return Path(str(self._paths[place]))

    def _index(self, video_id: str) -> VideoIndex:
        path = self._find(video_id)
        if path is None:
            raise InputError(f"{video_id}: no video file of that name ({', '.join(VIDEO_SUFFIXES)})")
        return index_video(str(path))


@dataclass(frozen=True)
class VideoIndex:
    """Properties of a video file, read without decoding a frame.

    Attributes:
        path: the file.
        size: height and width in pixels.
        fps: average frames per second, None if the file does not say.
        order: presentation time stamps of all frames, ascending.
        entries: time stamps of frames at which decoding can start.
    """

    path: str
    size: tuple[int, int]
    fps: float | None
    order: np.ndarray
    entries: np.ndarray

    def decode(self, numbers: np.ndarray, min_short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames by number (ascending, distinct), decoding each run from the nearest entry before it."""
        import av

        stamps = self.order[numbers]
        runs = np.searchsorted(self.entries, stamps, side="right") - 1
        try:
            with av.open(self.path, metadata_errors="ignore") as container:
                stream = container.streams.video[0]
                for run in np.unique(runs):
                    container.seek(int(self.entries[max(run, 0)]), stream=stream)
                    wanted = iter(stamps[runs == run].tolist())
                    stamp = next(wanted)
                    # Decoded frames are in presentation order.
                    for frame in _decoded(container, stream, set(stamps.tolist())):
                        if frame.pts == stamp:
                            yield self._pixels(frame, min_short_side)
                            stamp = next(wanted, None)
                        if stamp is None:
                            break
                    if stamp is not None:
                        number = int(np.searchsorted(self.order, stamp))
                        raise InputError(f"{self.path}: frame {number + 1} of {len(self.order)} cannot be decoded")
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: cannot be decoded ({error}). Download or copy it again.") from error

    def _pixels(self, frame: av.VideoFrame, min_short_side: int | None) -> np.ndarray:
        height, width = self.size
        factor = 1 if min_short_side is None else max(1, min(height, width) // min_short_side)
        smooth = "AREA" if factor > 1 else "BILINEAR"
        pixels: np.ndarray = frame.to_ndarray(
            format="bgr24", width=width // factor, height=height // factor, interpolation=smooth
        )
        return pixels


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, wanted: Container[int]
) -> Iterator[av.VideoFrame]:
    """The frames of a stream, in order, without those that are neither wanted nor needed to decode another."""
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted or packet.pts is None else "NONREF"
        yield from packet.decode()


@lru_cache(maxsize=512)
def index_video(path: str) -> VideoIndex:
    """Read the packets of a video file, decoding none.

    Raises:
        InputError: if PyAV is not installed, or the file contains no readable video.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(
            "reading video files needs PyAV: pip install 'microg_da[video]', or extract JPEG frames"
        ) from error
    try:
        with av.open(path, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.pts is not None and not packet.is_discard
            ]
            rate, size = stream.average_rate, (stream.height, stream.width)
    except (
        av.FFmpegError,
        OSError,
        IndexError,
        ValueError,
        AttributeError,
    ) as error:  # a stream without decoder has no size
        raise InputError(f"{path}: not a readable video file ({error}). Download or copy it again.") from error
    if not packets:
        raise InputError(f"{path}: contains no video frame with a time stamp. Download it again, or convert it to mp4.")
    stamps, entry = map(np.array, zip(*packets, strict=True))
    if not entry.any():
        raise InputError(f"{path}: contains no frame at which decoding can start. Download or copy it again.")
    return VideoIndex(path, size, float(rate) if rate else None, np.sort(stamps), np.sort(stamps[entry]))


def find_videos(root: str | Path) -> dict[str, Path]:
    """Every video file below a folder, by its name without suffix.

    Raises:
        InputError: if there are no videos, or two have the same name.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(root).rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if path.stem in found:
                raise InputError(f"{path}: the video {path.stem} is also at {found[path.stem]}; keep one of them")
            found[path.stem] = path
    if not found:
        raise InputError(f"{root}: no video files there ({', '.join(VIDEO_SUFFIXES)})")
    return found
