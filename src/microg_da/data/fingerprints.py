"""Finds similar clips by perceptual hashes of a few frames."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from microg_da.data.frames import FrameStore
from microg_da.errors import InputError

# Relative positions of the hashed frames (64 bits each), and the largest number of different bits of similar clips.
PLACES = (0.25, 0.5, 0.75)
MAX_BITS = 12
# A frame without contrast has no fingerprint, since all black frames would be similar.
MIN_CONTRAST = 4.0


def near_duplicates(frames: FrameStore, video_ids: Iterable[str]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return pairs of similar clips, and the unreadable clips with the reason."""
    hashes, known, unreadable = [], [], {}
    for video in video_ids:
        try:
            bits = fingerprint(frames, video)
        except InputError as error:
            unreadable[video] = str(error)
            continue
        if bits is not None:
            hashes.append(bits)
            known.append(video)
    pairs = close_pairs(np.array(hashes, dtype=bool).reshape(len(known), 64 * len(PLACES)), MAX_BITS)
    return [(known[first], known[second]) for first, second in pairs], unreadable


def fingerprint(frames: FrameStore, video_id: str) -> np.ndarray | None:
    """``(192,)`` bool: the difference hashes of three frames; None if one of them is nearly of one colour."""
    length = frames.num_frames(video_id)
    numbers = np.unique([int(place * length) for place in PLACES])
    pictures = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in frames.read(video_id, numbers, 32)]
    pictures += pictures[-1:] * (len(PLACES) - len(pictures))
    if min(float(picture.std()) for picture in pictures) < MIN_CONTRAST:
        return None
    return np.concatenate([difference_hash(picture) for picture in pictures])


def difference_hash(picture: np.ndarray) -> np.ndarray:
    """``(64,)`` bool: whether brightness rises to the right, on a grid of 8 × 9 (Krawetz, 2013)."""
    small = cv2.resize(picture, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()


def close_pairs(bits: np.ndarray, largest: int) -> list[tuple[int, int]]:
    """Pairs of rows of ``(N, D)`` bool that differ in at most ``largest`` places."""
    signs = np.where(bits, 1, -1).astype(np.float32)
    found = []
    for row in range(len(bits) - 1):
        # A scalar product of signs is the number of equal signs minus the number of different signs.
        differing = (bits.shape[1] - signs[row + 1 :] @ signs[row]) / 2
        found += [(row, row + 1 + int(other)) for other in np.flatnonzero(differing <= largest)]
    return found
