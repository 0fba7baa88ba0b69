"""Boxes, what people do and how they lie, drawn into the frames of a video."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from microg_da.video.places import Area, inside_image, place_cards

_PAPER = (18, 20, 26)
_INK = (240, 242, 245)
_FAINT = (120, 126, 138)
_OPACITY = 0.78


class Label(NamedTuple):
    """What stands beside a person.

    Attributes:
        person_id: who; decides the colour.
        actions: names and whole percents, likeliest first.
        roll: degrees clockwise by which the person lies in the frame, NaN if nobody knows.
    """

    person_id: int
    actions: tuple[tuple[str, int], ...]
    roll: float = math.nan


def colour_of(person_id: int) -> tuple[int, int, int]:
    """A colour (blue, green, red) that neighbouring numbers do not share."""
    # Steps of the golden angle never come close to a colour used shortly before.
    red, green, blue = colorsys.hsv_to_rgb((0.55 + 0.618034 * person_id) % 1, 0.55, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_people(image: np.ndarray, people: Sequence[tuple[np.ndarray, Label]]) -> None:
    """Draw people into a uint8 ``(H, W, 3)`` image, channels blue, green, red; their panels do not overlap.

    Args:
        image: changed in place.
        people: of each the box, ``(4,)`` in [0, 1], and what to write.
    """
    height, width = image.shape[:2]
    size = text_size(height)
    boxes = [Area(*(box * np.array([width, height] * 2)).round().astype(int).tolist()) for box, _ in people]
    for box, (_, label) in zip(boxes, people, strict=True):
        corners = (box.left, box.top), (box.right, box.bottom)
        cv2.rectangle(image, *corners, colour_of(label.person_id), max(2, size // 8), cv2.LINE_AA)
    cards = [_card(label, size) for _, label in people]
    for card, area in zip(cards, place_cards([_size(card) for card in cards], boxes, (height, width)), strict=True):
        _blend(image, card, area)


def draw_note(image: np.ndarray, text: str) -> None:
    """Write one line into the lower left corner."""
    card = _line(text, text_size(image.shape[0]))
    _blend(image, card, inside_image(0, image.shape[0], _size(card), _size(image)))


def text_size(height: int) -> int:
    """Height of letters in pixels for a frame of some height."""
    return max(11, round(height / 34))


@lru_cache(maxsize=256)
def _card(label: Label, size: int) -> np.ndarray:
    """A panel with number, roll and actions: uint8 ``(h, w, 3)``, channels blue, green, red."""
    font, pad, line = _font(size), size // 2, round(1.35 * size)
    known_roll = not math.isnan(label.roll)
    title = f"person {label.person_id}" + (f"   {label.roll:.0f}°" if known_roll else "")
    widest = max((font.getlength(name) for name, _ in label.actions), default=0)
    bar = 3 * size
    width = round(max(widest + 2 * pad + bar + font.getlength("100% "), font.getlength(title) + 2 * line)) + 2 * pad
    height = line * (1 + max(len(label.actions), 1)) + pad
    panel = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(panel)
    colour = colour_of(label.person_id)[::-1]
    draw.rectangle((0, 0, max(2, size // 6), height), fill=colour)
    draw.text((pad, pad // 2), title, font=font, fill=colour)
    if known_roll:
        _dial(draw, (width - line, pad // 2 + size * 0.62), size * 0.62, label.roll, colour)
    if not label.actions:
        draw.text((pad, line + pad // 2), "no action above the threshold", font=_font(round(0.8 * size)), fill=_FAINT)
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
    """A circle whose hand points to where the person's head is."""
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
    # Matplotlib brings the font with it, so that pictures look the same everywhere.
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _size(image: np.ndarray) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _blend(image: np.ndarray, card: np.ndarray, area: Area) -> None:
    part = image[area.top : area.bottom, area.left : area.right]
    card = card[: part.shape[0], : part.shape[1]]
    part[:] = cv2.addWeighted(card, _OPACITY, part, 1 - _OPACITY, 0)
