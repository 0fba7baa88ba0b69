"""Options of a made data set, checked before files are read or written."""

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
"""Default speeds of floating people, in degrees and in heights of the frame per second."""

LEAST_SIDE = 32
"""Minimum short side in pixels."""


@dataclass(frozen=True)
class Request:
    """Options of a made data set.

    Attributes:
        mode: ``rolled`` turns the camera, ``floating`` cuts people out and lets them float.
        rolls: the distribution of the roll, of the camera or of each person.
        spin: the maximum rotation, in degrees per second; None for 0 (rolled) or 10 (floating).
        drift: the maximum speed, in heights of the frame per second; None for 0 (rolled) or 0.08 (floating).
        fill: content outside the original frame in ``rolled``.
        backgrounds: a folder of pictures for ``floating``; None for drawn station modules.
        masks: a folder of masks; None for ``masks/`` in the data set, if it exists.
        segmenter: an ONNX network that segments people, as a replacement for masks.
        people: maximum number of people in a floating clip; additional people come from other clips of the same split.
        format: ``frames`` for JPEG, ``mp4`` for H.264.
        short_side: short side to which larger frames are reduced, in pixels; None for the original size.
        max_frames: length to which longer videos are cut, with one clip for each keyframe.
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
            raise InputError("people requires mode floating; rolled keeps the people of each clip")

    @property
    def spin_limit(self) -> float:
        """Maximum rotation in degrees per second."""
        return self.spin if self.spin is not None else (FLOATING_SPIN if self.mode == "floating" else 0.0)

    @property
    def drift_limit(self) -> float:
        """Maximum speed in heights of the frame per second."""
        return self.drift if self.drift is not None else (FLOATING_DRIFT if self.mode == "floating" else 0.0)

    def record(self) -> dict[str, str | int | float | None]:
        """Return all options as plain values, for the provenance."""
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
    """Return a hash of twelve hexadecimal digits of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
