"""Reading of video files from beginning to end. Every frame is upright and has its time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microg_da.data.frames import VIDEO_SUFFIXES
from microg_da.errors import InputError, first_line

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# A container may declare a slightly later end than its last frame. A larger difference means that the end is missing.
_TOLERATED_SECONDS = 1.0
_LONGEST_STILL = 600.0
"""Maximum duration of a frame in seconds. Longer gaps come from damaged times or another recording."""
_GIVE_UP_AFTER = 500
"""The number of consecutive undecodable packets after which the rest of a file is ignored."""


class Frame:
    """One decoded frame, which is converted to an image at the first access.

    Args:
        decoded: the frame of the decoder.
        size: height and width of the image before rotation; a frame of another size is stretched to it.
        seconds: display time, counted from the first frame.
        turns: number of quarter turns counter-clockwise that make the image upright.
        image: the image itself, if there is no decoder.
    """

    def __init__(
        self,
        decoded: av.VideoFrame | None,
        size: tuple[int, int],
        seconds: float,
        turns: int = 0,
        image: np.ndarray | None = None,
    ) -> None:
        self.seconds = seconds
        self._size = size
        self._decoded = decoded
        self._turns = turns
        self._image = image

    @property
    def image(self) -> np.ndarray:
        """The image, uint8 ``(H, W, 3)``, with channels blue, green, red as in OpenCV."""
        if self._image is None:
            assert self._decoded is not None
            height, width = self._size
            image = self._decoded.to_ndarray(format="bgr24", width=width, height=height)
            self._image = np.ascontiguousarray(np.rot90(image, self._turns))
            self._decoded = None  # release the buffer of the decoder for the next frame
        return self._image


class Video:
    """A video file: the facts of its header, and its frames in sequence.

    Attributes:
        path: the file.
        video_id: the file name without suffix.
        size: height and width in pixels, as displayed.
        rate: average frames per second; None if the file does not declare it.
        seconds: duration that the file declares; None if it declares none.
        faults: errors in the file; the list is complete when :meth:`frames` has ended.

    Raises:
        InputError: if the file does not exist, is not a video, has only sound, or has no decodable frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.video_id = self.path.stem
        self.faults: list[str] = []
        self.last_seconds = 0.0
        if not self.path.is_file():
            what = "expected a video file, found a folder" if self.path.is_dir() else "the video file does not exist"
            raise InputError(f"{self.path}: {what}")
        with _open(self.path) as container:
            stream = video_stream(container, self.path)
            rate = float(stream.average_rate or 0)
            self.rate = rate if rate > 1 / _LONGEST_STILL else None
            self.seconds = _announced_seconds(container, stream)
            first = next(decode_frames(container, stream, self.faults), None)
        if first is None:
            raise InputError(f"{self.path}: no frame can be decoded. Download or copy the file again.")
        # Phones may be held sideways; the file contains the rotation of the frames.
        self._turns = round(getattr(first, "rotation", 0) / 90) % 4
        self._coded_size = first.height, first.width
        self.size = self._coded_size[::-1] if self._turns % 2 else self._coded_size
        self.faults.clear()

    def frames(self) -> Iterator[Frame]:
        """Yield every decodable frame in display order."""
        self.faults.clear()
        with _open(self.path) as container:
            stream = video_stream(container, self.path)
            step = 1 / (self.rate or 30.0)
            first = math.nan
            seconds = -step
            leaps = resized = 0
            for decoded in decode_frames(container, stream, self.faults):
                pts, unit = decoded.pts, decoded.time_base
                shown = math.nan if pts is None or unit is None else float(pts * unit)
                if math.isnan(first):
                    first = shown
                elif abs(shown - first - seconds) > _LONGEST_STILL:
                    leaps += 1
                    first = shown - seconds - step
                # Files without time stamps, or with descending time stamps, are read at their average rate.
                seconds = shown - first if shown - first > seconds else seconds + step
                resized += (decoded.height, decoded.width) != self._coded_size
                self.last_seconds = seconds
                yield Frame(decoded, self._coded_size, seconds, self._turns)
            end = seconds + step
        if leaps:
            self.faults.append(
                f"{leaps} gaps of more than {_LONGEST_STILL / 60:.0f} minutes between time stamps were removed"
            )
        if resized:
            self.faults.append(f"{resized} frames have another size and were stretched to the size of the first frame")
        if self.seconds is not None and end < self.seconds - max(_TOLERATED_SECONDS, 0.01 * self.seconds):
            self.faults.append(f"the video ends after {end:.1f} s, but the file declares {self.seconds:.1f} s")


def decode_frames(container: InputContainer, stream: VideoStream, faults: list[str]) -> Iterator[av.VideoFrame]:
    """Yield the decodable frames of a stream; at the end, append its errors to ``faults``."""
    import av

    broken = in_a_row = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.FFmpegError, OSError) as error:
            faults.append(f"the end of the file cannot be read ({first_line(error)})")
            break
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            broken, in_a_row = broken + 1, in_a_row + 1
            if in_a_row > _GIVE_UP_AFTER:
                break
            continue
        in_a_row = 0 if decoded else in_a_row
        yield from decoded
    if broken:
        faults.append(f"{broken} damaged parts were skipped")


def at_rate(frames: Iterable[Frame], rate: float) -> Iterator[tuple[int, Frame]]:
    """Resample frames to a constant rate by omitting or repeating frames, without blending.

    Yields:
        The number of the frame at that rate, counted from 0, and the frame. A repeated frame is the same object.
    """
    shown: Frame | None = None
    due = 0
    for frame in frames:
        number = round(frame.seconds * rate)
        while shown is not None and due < number:
            yield due, shown
            due += 1
        if number >= due:
            yield number, frame
            due = number + 1
        shown = frame


def find_video_files(path: str | Path, suffixes: Sequence[str] = VIDEO_SUFFIXES) -> list[Path]:
    """Return a file, or all files with the given suffixes in a folder and its subfolders, by name.

    Raises:
        InputError: if there is no file, a file is empty, or two files have the same name.
    """
    path = Path(path)
    if path.is_file():
        if not path.stat().st_size:
            raise InputError(f"{path}: the file is empty. Download or copy it again.")
        return [path]
    if not path.exists():
        raise InputError(f"{path}: the file or folder does not exist")
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in suffixes and each.is_file())
    if not found:
        raise InputError(f"{path}: the folder contains no files of these kinds: {', '.join(suffixes)}")
    check_names(found)
    return found


def check_names(paths: Iterable[Path]) -> None:
    """Check that file names are unique, since they identify results."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.stem in seen:
            raise InputError(
                f"{path}: another file has the same name {path.stem!r}: {seen[path.stem]}. Rename one of the files."
            )
        seen[path.stem] = path


def _open(path: Path) -> InputContainer:
    try:
        import av
    except ImportError as error:
        raise InputError("reading video files needs PyAV: pip install 'microg_da[video]'") from error
    # The decoder's messages about damaged frames are disabled; the frames are counted and reported once.
    av.logging.set_level(None)
    try:
        return av.open(str(path), metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable video file ({_reason(error)}). Check the path and the format."
        ) from error


def _reason(error: Exception) -> str:
    """Return the message of a library without number and path."""
    return getattr(error, "strerror", None) or first_line(error)


def video_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """Return the video stream of a container.

    Raises:
        InputError: if the container has no video. The message contains ``path``.
    """
    import av

    pictures = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        found = "only sound" if container.streams.audio else "none"
        raise InputError(f"{path}: expected a video stream, found {found}. Check that this is the right file.")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _announced_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None
