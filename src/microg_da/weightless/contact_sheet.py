"""Contact sheet of made clips: first frame, keyframe with boxes, labels and up, last frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from microg_da.files import replacing
from microg_da.taxonomy import Taxonomy
from microg_da.weightless.clips import Row
from microg_da.weightless.folder import Folder
from microg_da.weightless.plan import ClipPlan

SHEET = "contact_sheet.png"
CLIPS, COLUMNS = 16, 2
HEIGHT, CAPTION, GAP = 180, 16, 6
PEOPLE = ((255, 214, 64), (94, 226, 255), (255, 138, 214), (140, 255, 140))
INK, PAPER = (235, 238, 242), (22, 25, 30)


def write_contact_sheet(folder: Folder, plans: Sequence[ClipPlan], taxonomy: Taxonomy) -> Path:
    """Draw up to 16 evenly selected clips into ``contact_sheet.png`` in the folder."""
    chosen = np.unique(np.linspace(0, len(plans) - 1, CLIPS).round().astype(int))
    strips = [_strip(folder, plans[number], taxonomy) for number in chosen.tolist()]
    width, height = max(strip.width for strip in strips), max(strip.height for strip in strips)
    rows = -(-len(strips) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) + GAP, rows * (height + GAP) + GAP), PAPER)
    for number, strip in enumerate(strips):
        column, row = number % COLUMNS, number // COLUMNS
        sheet.paste(strip, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    path = folder.root / SHEET
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    return path


def _strip(folder: Folder, plan: ClipPlan, taxonomy: Taxonomy) -> Image.Image:
    """Return three frames of a clip in a row, below the names of the actions."""
    rows = [row for row in folder.read_rows(plan.name) if row.frame == plan.middle]
    numbers = sorted({0, plan.middle, plan.count - 1})
    pictures = dict(zip(numbers, folder.read_frames(plan.name, numbers), strict=True))
    frames = [pictures[number] for number in (0, plan.middle, plan.count - 1)]
    width = round(HEIGHT * frames[0].shape[1] / frames[0].shape[0])
    strip = Image.new("RGB", (3 * width, HEIGHT + CAPTION), PAPER)
    for place, frame in enumerate(frames):
        small = cv2.resize(frame, (width, HEIGHT), interpolation=cv2.INTER_AREA)
        strip.paste(Image.fromarray(np.ascontiguousarray(small[:, :, ::-1])), (place * width, CAPTION))
    pen, left = ImageDraw.Draw(strip), 0.0
    for number, row in enumerate(rows):
        colour = PEOPLE[number % len(PEOPLE)]
        text = ", ".join(taxonomy.label(action) for action in dict.fromkeys(row.actions))
        pen.text((left, 1), text, colour, _font())
        left += pen.textlength(text, _font()) + 12
        _draw_person(pen, row, colour, (width, CAPTION), (width, HEIGHT))
    return strip


def _draw_person(
    pen: ImageDraw.ImageDraw, row: Row, colour: tuple[int, int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Draw a box, and an arrow from its centre in the direction of up."""
    x1, y1, x2, y2 = np.array(row.box) * np.tile(size, 2) + np.tile(corner, 2)
    pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour)
    angle = np.deg2rad(row.up)
    middle = np.array([x1 + x2, y1 + y2]) / 2
    up, aside = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])
    tip = middle + 26 * up
    pen.line((*middle, *tip), fill=colour, width=2)
    pen.polygon([tuple(tip + 7 * up), tuple(tip + 4 * aside), tuple(tip - 4 * aside)], fill=colour)


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 11)
