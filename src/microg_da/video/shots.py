"""Detection of the cuts of a film with PySceneDetect while the film is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from microg_da.errors import InputError
from microg_da.video.box_sources import RATE
from microg_da.video.reader import Frame

_WIDTH = 256
"""Size of reduced frames in comparisons, as in PySceneDetect."""


def with_shots(frames: Iterable[tuple[int, Frame]]) -> Iterator[tuple[int, Frame, bool]]:
    """Yield each frame, and whether it is the first of a shot.

    A cut is detected a few frames later, so the output has the same delay. Repeated frames are examined once, because
    the next movement after a repetition would look like a cut.

    Args:
        frames: the output of :func:`microg_da.video.reader.at_rate`.

    Yields:
        The number of the frame, the frame, and whether it is the first of a shot.

    Raises:
        InputError: if PySceneDetect is not installed.
    """
    try:
        from scenedetect import AdaptiveDetector, FrameTimecode
    except ImportError as error:
        raise InputError("shot detection needs PySceneDetect: pip install 'microg_da[ingest]'") from error
    detector = AdaptiveDetector()
    lag = detector.event_buffer_length
    waiting: deque[tuple[int, int, Frame]] = deque()  # index among distinct frames, number, frame
    cuts: set[int] = {0}
    distinct, shown = -1, None
    begun = -1
    for number, frame in frames:
        if frame is not shown:
            distinct, shown = distinct + 1, frame
            found = detector.process_frame(FrameTimecode(distinct, fps=RATE), _shrink(frame.image))
            cuts.update(cut.frame_num for cut in found)
        waiting.append((distinct, number, frame))
        while waiting and waiting[0][0] <= distinct - lag:
            place, decided, held = waiting.popleft()
            yield decided, held, place in cuts and place != begun
            begun = place
    for place, number, frame in waiting:
        yield number, frame, place in cuts and place != begun
        begun = place


def _shrink(image: np.ndarray) -> np.ndarray:
    factor = _WIDTH / image.shape[1]
    if factor >= 1:
        return image
    return cv2.resize(image, (_WIDTH, max(1, round(image.shape[0] * factor))), interpolation=cv2.INTER_LINEAR)
