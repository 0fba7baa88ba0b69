"""Frames of a camera, a network stream or a file played in real time, in the order of their arrival."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from microg_da.errors import InputError, first_line
from microg_da.video.reader import Frame, decode_frames, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer

QUEUE = 30
"""Maximum number of waiting frames: one second of a usual camera."""

_PATIENCE = 10.0
"""Time in seconds after which a stream without frames ends."""


class Arrived(NamedTuple):
    """A frame that has arrived.

    Attributes:
        frame: the frame with its time in the stream, counted from the first frame.
        moment: time of arrival by :func:`time.monotonic`.
    """

    frame: Frame
    moment: float


class LatestFrames:
    """Queue between a reader and a consumer that may be slower. A full queue drops its oldest frame.

    Args:
        size: maximum number of waiting frames.

    Attributes:
        dropped: number of dropped frames.
        received: number of received frames.
    """

    def __init__(self, size: int = QUEUE) -> None:
        self.dropped = 0
        self.received = 0
        self._frames: deque[Arrived] = deque(maxlen=size)
        self._closed = False
        self._changed = threading.Condition()

    def put(self, arrived: Arrived) -> None:
        """Add the newest frame without waiting."""
        with self._changed:
            self.dropped += len(self._frames) == self._frames.maxlen
            self.received += 1
            self._frames.append(arrived)
            self._changed.notify()

    def close(self) -> None:
        """Close the queue; no more frames are added."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __iter__(self) -> Iterator[list[Arrived]]:
        """Yield all waiting frames, oldest first. Wait for a frame; end when the queue is closed and empty."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._closed)
                waiting = list(self._frames)
                self._frames.clear()
            if not waiting:
                return
            yield waiting


def is_live(text: str) -> bool:
    """Return whether a text is the number of a camera or the URL of a stream."""
    return text.isdecimal() or re.match(r"[a-z][a-z0-9+.-]*://", text, flags=re.IGNORECASE) is not None


class LiveSource:
    """A camera, a stream or a file, opened for a single reading.

    Recordings, which have a duration, are played in real time. Other sources are read as fast as they send.

    Args:
        text: the number of a camera, a URL, or a file.

    Attributes:
        name: name of the source, without a password.
        video_id: name of the source for file names.
        faults: errors in the source; the list is complete at the end of the source.

    Raises:
        InputError: if the source cannot be opened or has no video.
    """

    def __init__(self, text: str) -> None:
        self.name = _without_password(text)
        self.video_id = _file_name(text)
        self.faults: list[str] = []
        self._container = _open(text, self.name)
        self._stream = video_stream(self._container, self.name)
        self._rate = float(self._stream.average_rate or 0) or 30.0
        self._plays = bool(self._container.duration and self._container.duration > 0)

    def read_into(self, queue: LatestFrames, stop: threading.Event) -> threading.Thread:
        """Start a thread that puts frames into a queue until the source ends or ``stop`` is set."""
        thread = threading.Thread(target=self._read, args=(queue, stop), daemon=True)
        thread.start()
        return thread

    def _read(self, queue: LatestFrames, stop: threading.Event) -> None:
        try:
            for frame in self._frames():
                if self._plays and frame.seconds > (now := time.monotonic() - self._begun):
                    stop.wait(frame.seconds - now)
                if stop.is_set():
                    break
                queue.put(Arrived(frame, time.monotonic()))
            self._container.close()
        except Exception as error:  # an error that ends a thread is not shown
            self.faults.append(f"stopped: {first_line(error)}")
        finally:
            queue.close()

    def _frames(self) -> Iterator[Frame]:
        """Yield every frame with its time, from the stamps of the stream or, if they do not advance, from the clock."""
        first: float | None = None
        size = (0, 0)
        seconds = -1 / self._rate
        for decoded in decode_frames(self._container, self._stream, self.faults):
            if first is None:
                self._begun = time.monotonic()
                size = decoded.height, decoded.width  # a frame of another size is stretched to that of the first
            clock = time.monotonic() - self._begun
            stamp = None if decoded.pts is None or decoded.time_base is None else float(decoded.pts * decoded.time_base)
            if first is None:
                first = stamp or 0.0
            shown = clock if stamp is None else stamp - first
            seconds = shown if shown > seconds else max(clock, seconds + 1 / self._rate)
            turns = round(getattr(decoded, "rotation", 0) / 90) % 4
            yield Frame(decoded, size, seconds, turns)


def _open(text: str, name: str) -> InputContainer:
    try:
        import av
    except ImportError as error:
        raise InputError("reading cameras and streams needs PyAV: pip install 'microg_da[video]'") from error
    av.logging.set_level(None)
    file, options = text, {"metadata_errors": "ignore"}
    arguments: dict[str, object] = {}
    if text.isdecimal():
        file, arguments["format"] = _camera(text)
    elif text.lower().startswith("rtsp"):
        arguments["options"] = {"rtsp_transport": "tcp"}
    if is_live(text):
        arguments["timeout"] = _PATIENCE
    try:
        return av.open(file, **options, **arguments)  # type: ignore[call-overload,no-any-return]
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _without_password(first_line(error))
        camera = "Check that the camera is connected and not in use."
        remedy = camera if text.isdecimal() else "Check the address and that the stream is running."
        raise InputError(f"--video {name}: cannot open the source ({reason}). {remedy}") from error


def _camera(number: str) -> tuple[str, str]:
    """Return FFmpeg's file and format of a camera."""
    if sys.platform == "darwin":
        return number, "avfoundation"
    if sys.platform.startswith("linux"):
        return f"/dev/video{number}", "v4l2"
    raise InputError(f"--video {number}: cameras are read on Linux and macOS. Give the URL of a stream.")


def _without_password(text: str) -> str:
    """Return a URL without user, password and query."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _file_name(text: str) -> str:
    if text.isdecimal():
        return f"camera{text}"
    if not is_live(text):
        return Path(text).stem
    return re.sub(r"[^A-Za-z0-9.]+", "-", _without_password(text).partition("://")[2]).strip("-.") or "stream"
