"""Drawing of the boxes, actions and orientations of people into the frames of a video."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from microg_da.video.layout import Layout, Rectangle

_PAPER = (18, 20, 26)
_INK = (240, 242, 245)
_FAINT = (120, 126, 138)
_OPACITY = 0.78

_STYLES: tuple[tuple[float, int | None], ...] = ((1.0, None), (1.0, 1), (0.75, 1), (0.75, 0))
"""Styles of panels from full to brief: font size, and number of actions (None: all)."""

_MOST_COVERED = 0.3
"""Maximum share of the frame that panels cover. With more people, each panel shows less."""


class Label(NamedTuple):
    """The text next to a person.

    Attributes:
        person_id: number of the person; it selects the colour.
        actions: names and whole percents, likeliest first.
        roll: degrees clockwise by which the person is turned in the frame, NaN if unknown.
        score: score of the person detector in [0, 1]; NaN to omit it.
        up: the estimated direction from feet to head, degrees clockwise from the top of the picture; drawn as an
            arrow. NaN to omit it.
    """

    person_id: int
    actions: tuple[tuple[str, int], ...]
    roll: float = math.nan
    score: float = math.nan
    up: float = math.nan

    @property
    def head(self) -> float:
        """Best known direction of the head, in degrees clockwise; NaN if unknown."""
        return self.roll if math.isnan(self.up) else self.up


def colour_of(person_id: int) -> tuple[int, int, int]:
    """Return a colour (blue, green, red) that differs from those of neighbouring numbers."""
    # Steps of the golden angle keep the hues of successive numbers apart.
    red, green, blue = colorsys.hsv_to_rgb((0.55 + 0.618034 * person_id) % 1, 0.55, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_people(
    image: np.ndarray, people: Sequence[tuple[np.ndarray, Label]], keep_free: Sequence[Rectangle] = ()
) -> None:
    """Draw the people of one frame, with panels that do not overlap.

    Args:
        image: uint8 ``(H, W, 3)``, channels blue, green, red; changed in place.
        people: for each person a box ``(4,)`` in [0, 1] and a label.
        keep_free: pixels ``x1 y1 x2 y2`` that no panel may cover.
    """
    height, width = image.shape[:2]
    size = text_size(height)
    boxes = [(box * np.array([width, height] * 2)).round().astype(int) for box, _ in people]
    thickness = max(2, size // 8)
    for box, (_, label) in zip(boxes, people, strict=True):
        x1, y1, x2, y2 = box.tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), colour_of(label.person_id), thickness, cv2.LINE_AA)
    for box, (_, label) in zip(boxes, people, strict=True):
        _draw_up(image, box, label, thickness)
    layout = Layout((height, width), boxes, [label.head for _, label in people], keep_free)
    fullest = _fullest([label for _, label in people], size, height * width)
    for box, (_, label) in zip(boxes, people, strict=True):
        card, (left, top) = _fitting_card(layout, box, label, size, fullest)
        _draw_leader(image, box, (left, top, left + card.shape[1], top + card.shape[0]), label, thickness)
        _blend(image, card, left, top)


def up_arrow(box: np.ndarray, up: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the ends of a person's arrow: the centre of the box ``(4,)`` in pixels, and the tip in direction up.

    The arrow ends shortly before the border of the box.
    """
    centre, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 1)
    direction = np.array([math.sin(math.radians(up)), -math.cos(math.radians(up))])
    room = (half / np.maximum(np.abs(direction), 1e-9)).min()
    start, tip = (np.round(point).astype(int).tolist() for point in (centre, centre + 0.8 * room * direction))
    return (start[0], start[1]), (tip[0], tip[1])


def _draw_up(image: np.ndarray, box: np.ndarray, label: Label, thickness: int) -> None:
    if math.isnan(label.up):
        return
    start, tip = up_arrow(box, label.up)
    barbs = min(0.3, 6 * thickness / max(math.dist(start, tip), 1))
    for colour, width in ((_PAPER, 2 * thickness), (colour_of(label.person_id), thickness)):
        cv2.arrowedLine(image, start, tip, colour, width, cv2.LINE_AA, tipLength=barbs)


def _fullest(labels: Sequence[Label], size: int, area: int) -> int:
    """Return the index of the first of :data:`_STYLES` whose panels leave enough of the frame visible."""
    for style in range(len(_STYLES)):
        if sum(math.prod(_styled_card(label, size, style).shape[:2]) for label in labels) <= _MOST_COVERED * area:
            return style
    return len(_STYLES) - 1


def _styled_card(label: Label, size: int, style: int) -> np.ndarray:
    scale, most = _STYLES[style]
    shown = label.actions[:most]
    # Panels are cached by label, without the arrow. All NaNs must be the same object, because NaN is not equal to NaN.
    roll, score = (math.nan if math.isnan(value) else value for value in (label.roll, label.score))
    plain = Label(label.person_id, shown, roll, score)
    # The text "no action above the threshold" appears only if the label has no actions, not if the style omits them.
    return _card(plain, max(round(scale * size), 9), brief=bool(label.actions) and not shown)


def _fitting_card(
    layout: Layout, box: np.ndarray, label: Label, size: int, fullest: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the fullest panel for which there is space, and its position."""
    for style in range(fullest, len(_STYLES)):
        card = _styled_card(label, size, style)
        place = layout.place(card.shape[:2], box)
        if place is not None:
            return card, place
    return card, layout.nearest(card.shape[:2], box)


def _draw_leader(image: np.ndarray, box: np.ndarray, card: Rectangle, label: Label, thickness: int) -> None:
    """Draw a line from a panel to its box if they do not touch."""
    near = [np.clip(box[[axis, axis + 2]], card[axis], card[axis + 2]) for axis in (0, 1)]
    start = tuple(int(part[0]) for part in near)
    end = tuple(int(np.clip(start[axis], box[axis], box[axis + 2])) for axis in (0, 1))
    if start != end:
        cv2.line(image, start, end, colour_of(label.person_id), thickness, cv2.LINE_AA)


def draw_note(image: np.ndarray, text: str) -> Rectangle:
    """Write one line into the lower left corner; return the covered pixels."""
    card = _line(text, text_size(image.shape[0]))
    _blend(image, card, 0, image.shape[0] - len(card))
    return (0, image.shape[0] - len(card), card.shape[1], image.shape[0])


def text_size(height: int) -> int:
    """Return the font size in pixels for a frame height."""
    return max(11, round(height / 34))


@lru_cache(maxsize=256)
def _card(label: Label, size: int, brief: bool = False) -> np.ndarray:
    """Return a panel with number, roll and actions (none if ``brief``): uint8 ``(h, w, 3)``, blue, green, red."""
    font, pad, line = _font(size), size // 2, round(1.35 * size)
    known_roll = not math.isnan(label.roll)
    title = f"person {label.person_id}"
    title += "" if math.isnan(label.score) else f"   {label.score:.2f}"
    title += f"   {label.roll:.0f}°" if known_roll else ""
    bar = 3 * size
    small, nothing = _font(round(0.8 * size)), "no action above the threshold"
    if label.actions:
        widest = max(font.getlength(name) for name, _ in label.actions) + 2 * pad + bar + font.getlength("100% ")
    else:
        widest = 0.0 if brief else small.getlength(nothing)
    width = round(max(widest, font.getlength(title) + 2 * line * known_roll)) + 2 * pad
    height = line * (1 + (0 if brief else max(len(label.actions), 1))) + pad
    panel = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(panel)
    colour = colour_of(label.person_id)[::-1]
    draw.rectangle((0, 0, max(2, size // 6), height), fill=colour)
    draw.text((pad, pad // 2), title, font=font, fill=colour)
    if known_roll:
        _dial(draw, (width - line, pad // 2 + size * 0.62), size * 0.62, label.roll, colour)
    if not label.actions and not brief:
        draw.text((pad, line + pad // 2), nothing, font=small, fill=_FAINT)
    for place, (name, percent) in enumerate(label.actions, start=1):
        top = pad // 2 + place * line
        draw.text((pad, top), name, font=font, fill=_INK)
        left = width - pad - bar - font.getlength("100% ")
        draw.rectangle((left, top + 0.35 * size, left + bar, top + 0.85 * size), fill=(52, 56, 66))
        draw.rectangle((left, top + 0.35 * size, left + bar * percent / 100, top + 0.85 * size), fill=colour)
        draw.text((width - pad, top), f"{percent}%", font=font, fill=_INK, anchor="ra")
    return np.asarray(panel)[:, :, ::-1].copy()


def _dial(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, roll: float, colour: tuple[int, ...]
) -> None:
    """Draw a circle with a hand that points to the person's head."""
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_FAINT, width=max(1, round(radius / 6)))
    angle = math.radians(roll)
    tip = (x + radius * math.sin(angle), y - radius * math.cos(angle))
    draw.line((x, y, *tip), fill=colour, width=max(2, round(radius / 3)))
    head = radius / 3
    draw.ellipse((tip[0] - head, tip[1] - head, tip[0] + head, tip[1] + head), fill=colour)


@lru_cache(maxsize=64)
def _line(text: str, size: int) -> np.ndarray:
    font, pad = _font(size), size // 2
    panel = Image.new("RGB", (round(font.getlength(text)) + 2 * pad, round(1.5 * size)), _PAPER)
    ImageDraw.Draw(panel).text((pad, 0.1 * size), text, font=font, fill=_INK)
    return np.asarray(panel)[:, :, ::-1].copy()


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib contains the font, so that pictures are the same on all machines.
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _blend(image: np.ndarray, card: np.ndarray, left: int, top: int) -> None:
    height, width = image.shape[:2]
    left = max(0, min(left, width - card.shape[1]))
    top = max(0, min(top, height - card.shape[0]))
    part = image[top : top + card.shape[0], left : left + card.shape[1]]
    card = card[: part.shape[0], : part.shape[1]]
    part[:] = cv2.addWeighted(card, _OPACITY, part, 1 - _OPACITY, 0)
