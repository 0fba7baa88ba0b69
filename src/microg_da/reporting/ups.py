"""The estimated up of each person in the gallery: an arrow, and the density over angles as a curve around it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microg_da.errors import InputError
from microg_da.reporting.gallery import Example

LENGTH = 0.42
"""Of an arrow, in parts of the longer side of the person's box."""
INNER = 0.12
"""Radius of the circle that the density's curve starts from, in the same unit."""


@dataclass(frozen=True)
class Arrow:
    """One person's up, in pixels of the picture.

    Attributes:
        start: x and y of the middle of the box.
        end: x and y of the tip.
        barbs: x and y of the ends of the two barbs.
        curve: points of the closed curve, as SVG writes them.
        degrees: clockwise from the top.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    barbs: tuple[tuple[float, float], tuple[float, float]]
    curve: str
    degrees: float


def read_arrows(folder: Path, examples: Sequence[Example]) -> list[list[Arrow]]:
    """The arrows of each example; none where the run's method does not estimate up.

    Args:
        folder: where ``ups.json`` lies.
        examples: those of the gallery.

    Raises:
        InputError: if the file is damaged.
    """
    file = folder / "ups.json"
    if not file.exists():
        return [[] for _ in examples]
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        ups = {(up["domain"], up["video_id"], str(up["frame_stamp"])): up["people"] for up in entries}
        return [[arrow(person, example.size) for person in ups.get(_key(example), [])] for example in examples]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: damaged ({error!r}). Remove it; `fit --resume` makes it again.") from error


def arrow(person: dict[str, Any], size: tuple[int, int]) -> Arrow:
    """The arrow of one person.

    Args:
        person: ``box`` in [0, 1], ``degrees`` and ``density``.
        size: width and height of the picture in pixels.
    """
    x1, y1, x2, y2 = (float(value) * size[place % 2] for place, value in enumerate(person["box"]))
    x, y, side = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1)
    degrees, density = float(person["degrees"]), [float(value) for value in person["density"]]

    def place(angle: float, radius: float) -> tuple[float, float]:
        turned = math.radians(angle)
        return round(x + radius * side * math.sin(turned), 2), round(y - radius * side * math.cos(turned), 2)

    most = max(density, default=0.0) or 1.0
    points = [
        place(360 * number / len(density), INNER + (LENGTH - INNER) * value / most)
        for number, value in enumerate(density)
    ]
    tip = 0.78 * LENGTH
    barbs = (place(degrees - 14, tip), place(degrees + 14, tip))
    return Arrow((x, y), place(degrees, LENGTH), barbs, " ".join(f"{a},{b}" for a, b in points), degrees)


def _key(example: Example) -> tuple[str, str, str]:
    return example.domain, example.video_id, str(example.frame_stamp)
