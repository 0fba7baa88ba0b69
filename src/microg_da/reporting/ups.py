"""The estimated up of each person in the gallery: an arrow, and the density over angles as a curve around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from microg_da.reporting.gallery import Example
from microg_da.runs.example_ups import KeyframeUps, PersonUp

LENGTH = 0.42
"""Length of an arrow, as a fraction of the longer side of the person's box."""
INNER = 0.12
"""Radius of the circle that the density's curve starts from, in the same unit."""


@dataclass(frozen=True)
class Arrow:
    """One person's up, in pixels of the picture.

    Attributes:
        start: x and y of the middle of the box.
        end: x and y of the tip.
        barbs: x and y of the ends of the two barbs.
        curve: points of the closed curve, in SVG syntax.
        degrees: clockwise from the top.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    barbs: tuple[tuple[float, float], tuple[float, float]]
    curve: str
    degrees: float


def arrows_of(ups: Sequence[KeyframeUps], examples: Sequence[Example]) -> list[list[Arrow]]:
    """Return the arrows of each example; none if the method of the run does not estimate up.

    Args:
        ups: estimated ups of the run.
        examples: those of the gallery.
    """
    people = {(up.domain, up.video_id, up.frame_stamp): up.people for up in ups}
    return [
        [
            arrow(person, example.size)
            for person in people.get((example.domain, example.video_id, example.frame_stamp), ())
        ]
        for example in examples
    ]


def arrow(person: PersonUp, size: tuple[int, int]) -> Arrow:
    """Return the arrow of one person.

    Args:
        person: box, angle and density.
        size: width and height of the picture in pixels.
    """
    x1, y1, x2, y2 = (value * size[place % 2] for place, value in enumerate(person.box))
    x, y, side = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1)
    degrees, density = person.degrees, person.density

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
