"""The clips of the simulator: names, splits and the seed of every clip.

A clip depends only on (seed, domain, look, scene, number in the scene), so that a name always refers to the same clip,
for any order and number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from microg_da.errors import InputError, unknown_name
from microg_da.types import Split

DOMAINS = ("earth", "microgravity")
LOOKS = ("real", "simulated")
SCENES: dict[Split, range] = {"train": range(0, 40), "val": range(40, 55), "test": range(55, 80)}
"""The scenes of each split, for each look. A scene is a source video, so splits share no scene."""

SMALLEST_SIZE = 32
"""The minimum side of a frame, in pixels."""

CLIP_FRAMES, FRAMES_PER_SECOND, KEYFRAME = 90, 30, 46
"""A clip lasts 3 s as in MicroG-4M; frames are counted from 1."""


class ClipName(NamedTuple):
    """Values that determine a clip in addition to the seed."""

    domain: str
    look: str
    scene: int
    number: int

    @property
    def source_video(self) -> str:
        """The scene's name, e.g. ``earth-real-07``."""
        return f"{self.domain}-{self.look}-{self.scene:02d}"

    @property
    def video_id(self) -> str:
        """The clip's name, e.g. ``earth-real-07_0012``."""
        return f"{self.source_video}_{self.number:04d}"


@dataclass(frozen=True)
class SyntheticSpec:
    """A set of synthetic clips.

    Attributes:
        domain: ``"earth"`` or ``"microgravity"``.
        split: ``"train"``, ``"val"`` or ``"test"``; splits share no source video.
        num_clips: number of clips.
        look: ``"real"`` (video camera), ``"simulated"`` (film) or ``"any"`` (half of each).
        size: side of the square frames in pixels.
        num_frames: T, the frames of the window around the keyframe.
        sampling_rate: τ, distance of the frames in the window.
        seed: seed of the scenes and clips.
        places: selects clips by their places in the unlimited set, in increasing order; None for the first ones.

    Raises:
        InputError: for an unknown name or an invalid number.
    """

    domain: str
    split: Split = "train"
    num_clips: int = 1200
    look: str = "any"
    size: int = 96
    num_frames: int = 8
    sampling_rate: int = 2
    seed: int = 0
    places: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for key, valid in (("domain", DOMAINS), ("split", tuple(SCENES)), ("look", (*LOOKS, "any"))):
            if getattr(self, key) not in valid:
                raise unknown_name(f"synthetic {key}", getattr(self, key), valid)
        for key, least in (
            ("num_clips", 0),
            ("size", SMALLEST_SIZE),
            ("num_frames", 1),
            ("sampling_rate", 1),
            ("seed", 0),
        ):
            if getattr(self, key) < least:
                raise InputError(f"synthetic {key} must be at least {least}, got {getattr(self, key)}.")
        if self.places is not None and len(self.places) != self.num_clips:
            raise InputError(f"synthetic places: expected {self.num_clips} places, got {len(self.places)}.")

    def name(self, index: int) -> ClipName:
        """Return the name of the clip at ``index``; neighbouring clips come from different scenes."""
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip {index} of {self.num_clips}")
        return self.name_at(index if self.places is None else self.places[index])

    def name_at(self, place: int) -> ClipName:
        """The clip at a place of the unlimited set, of which this set is a part."""
        look, index = self.look, place
        if look == "any":
            look, index = LOOKS[index % 2], index // 2
        scenes = SCENES[self.split]
        return ClipName(self.domain, look, scenes[index % len(scenes)], index // len(scenes))

    @property
    def window(self) -> tuple[int, ...]:
        """The ``num_frames`` frame numbers of the window, with repetition at the ends of the clip."""
        half = self.num_frames * self.sampling_rate // 2
        numbers = range(KEYFRAME - half, KEYFRAME - half + self.num_frames * self.sampling_rate, self.sampling_rate)
        return tuple(min(max(number, 1), CLIP_FRAMES) for number in numbers)


def generator(seed: int, name: ClipName, *stream: int) -> np.random.Generator:
    """Return the random generator of a clip; other integers give independent streams (scenery, noise of a frame, …)."""
    key = [seed, DOMAINS.index(name.domain), LOOKS.index(name.look), name.scene, *stream]
    # These are the numbers that numpy derives from the list, computed faster.
    words = np.array(key, np.uint32) if seed < 2**32 else key
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))
