"""Request for a made data set: its options, checked before anything is read or written."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from microg_da.errors import InputError, unknown_name
from microg_da.transforms.camera import FILLS, Fill, RollDistribution

Mode = Literal["rolled", "floating"]
Format = Literal["frames", "mp4"]
MODES: tuple[Mode, ...] = get_args(Mode)
FORMATS: tuple[Format, ...] = get_args(Format)

FLOATING_SPIN, FLOATING_DRIFT = 10.0, 0.08
"""Of people who float, where the request does not say: degrees and heights of the frame per second."""

LEAST_SIDE = 32
"""Pixels of the smallest short side."""


@dataclass(frozen=True)
class Request:
    """Options of a made data set.

    Attributes:
        mode: ``rolled`` turns the camera, ``floating`` cuts people out and lets them float.
        rolls: the distribution of the roll, of the camera or of each person.
        spin: the largest speed of turning, degrees per second; None for 0 (rolled) or 10 (floating).
        drift: the largest speed of moving, heights of the frame per second; None for 0 (rolled) or 0.08 (floating).
        fill: what is seen beyond the frame in ``rolled``.
        backgrounds: a folder of pictures for ``floating``; None for drawn station modules.
        masks: a folder of masks; None for ``masks/`` in the data set, if it has one.
        segmenter: an ONNX network that finds the pixels of people, in place of masks.
        people: the most people of a floating clip; further ones come from other clips of the same split.
        format: ``frames`` for JPEG, ``mp4`` for H.264.
        short_side: to which larger frames are shrunk, in pixels; None keeps their size.
        max_frames: a longer video becomes one clip of so many frames for each keyframe.
        seed: seed of all random values.

    Raises:
        InputError: for an invalid value.
    """

    mode: Mode = "rolled"
    rolls: RollDistribution = field(default_factory=RollDistribution)
    spin: float | None = None
    drift: float | None = None
    fill: Fill = "reflect"
    backgrounds: Path | None = None
    masks: Path | None = None
    segmenter: Path | None = None
    people: int = 1
    format: Format = "frames"
    short_side: int | None = None
    max_frames: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("mode", self.mode, MODES),
            ("fill", self.fill, FILLS),
            ("format", self.format, FORMATS),
        ):
            if value not in valid:
                raise unknown_name(name, value, valid)
        for name, number in (("spin", self.spin), ("drift", self.drift)):
            if number is not None and not (math.isfinite(number) and number >= 0):
                raise InputError(f"{name} is {number:g}: expected 0 or more")
        for name, count, least in (
            ("people", self.people, 1),
            ("max_frames", self.max_frames, 1),
            ("short_side", self.short_side or LEAST_SIDE, LEAST_SIDE),
        ):
            if count < least:
                raise InputError(f"{name} is {count}: expected {least} or more")
        if self.masks is not None and self.segmenter is not None:
            raise InputError("masks and segmenter both define the pixels of people. Give one of them.")
        self._check_mode()

    def _check_mode(self) -> None:
        if self.mode == "rolled" and self.backgrounds is not None:
            raise InputError("--backgrounds requires --mode floating; rolled keeps the original background")
        if self.mode == "rolled" and self.people != 1:
            raise InputError("people is for mode floating: rolled keeps the people of each clip")

    @property
    def spin_limit(self) -> float:
        """Degrees per second."""
        return self.spin if self.spin is not None else (FLOATING_SPIN if self.mode == "floating" else 0.0)

    @property
    def drift_limit(self) -> float:
        """Heights of the frame per second."""
        return self.drift if self.drift is not None else (FLOATING_DRIFT if self.mode == "floating" else 0.0)

    def record(self) -> dict[str, str | int | float | None]:
        """Every option as plain values, for the provenance."""
        paths = {name: getattr(self, name) for name in ("backgrounds", "masks", "segmenter")}
        return {
            "mode": self.mode,
            "rolls": str(self.rolls),
            "spin": self.spin_limit,
            "drift": self.drift_limit,
            "fill": self.fill,
            **{name: None if path is None else str(path) for name, path in paths.items()},
            "people": self.people,
            "format": self.format,
            "short_side": self.short_side,
            "max_frames": self.max_frames,
            "seed": self.seed,
        }


def short_hash(value: object) -> str:
    """Twelve hexadecimal digits of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
