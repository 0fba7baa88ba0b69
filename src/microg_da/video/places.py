"""Where the panels of people go in a frame: near their person, off people, and never on each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Area(NamedTuple):
    """A rectangle in pixels; ``right`` and ``bottom`` lie outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: Area) -> int:
        """How many pixels it shares with another."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)


def place_cards(cards: Sequence[tuple[int, int]], boxes: Sequence[Area], image: tuple[int, int]) -> list[Area]:
    """Choose a place for each panel.

    Args:
        cards: height and width of each panel.
        boxes: of each panel's person.
        image: height and width.

    Returns:
        An area for each panel, inside the image if it fits. Panels overlap only if no place is free.
    """
    placed: list[Area] = []
    for size, box in zip(cards, boxes, strict=True):
        # Of equally good places the first is taken, so that those next to the person come first.
        candidates = [*_beside(size, box, image), *_along_edges(size, box, placed, image)]
        placed.append(min(candidates, key=lambda area: _cost(area, box, boxes, placed)))
    return placed


def inside_image(left: int, top: int, size: tuple[int, int], image: tuple[int, int]) -> Area:
    """An area of some size, moved into the image; one larger than the image begins at its corner."""
    left = max(0, min(left, image[1] - size[1]))
    top = max(0, min(top, image[0] - size[0]))
    return Area(left, top, left + size[1], top + size[0])


def _beside(size: tuple[int, int], box: Area, image: tuple[int, int]) -> list[Area]:
    """Above the person, then to the right, to the left, and below."""
    height, width = size
    corners = (
        (box.left, box.top - height),
        (box.right, box.top),
        (box.left - width, box.top),
        (box.left, box.bottom),
    )
    return [inside_image(left, top, size, image) for left, top in corners]


def _along_edges(size: tuple[int, int], box: Area, placed: Sequence[Area], image: tuple[int, int]) -> list[Area]:
    """Places along the edges of the person, of other panels and of the image, nearest to the person first."""
    height, width = size
    lefts = [box.left, 0, image[1] - width, *(x for area in placed for x in (area.left - width, area.right))]
    tops = [box.top, 0, image[0] - height, *(y for area in placed for y in (area.top - height, area.bottom))]
    areas = dict.fromkeys(inside_image(left, top, size, image) for left in lefts for top in tops)
    return sorted(areas, key=lambda area: abs(area.left - box.left) + abs(area.top - box.top))


def _cost(area: Area, own: Area, boxes: Sequence[Area], placed: Sequence[Area]) -> tuple[int, int]:
    """Pixels shared with other panels, then pixels of people that are hidden; those of its own person count twice."""
    on_panels = sum(area.overlap(other) for other in placed)
    return on_panels, sum(area.overlap(box) for box in boxes) + area.overlap(own)
