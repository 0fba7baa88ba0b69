"""Contact sheet of both domains: ``python -m microg_da.synthetic.contact_sheet OUT.png``.

Each row shows one clip of each domain: four frames, the boxes at the keyframe, and the actions of the people.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from microg_da.files import replacing
from microg_da.synthetic.render import RenderedClip, render_clip, stage_clip
from microg_da.synthetic.spec import DOMAINS, KEYFRAME, LOOKS, SyntheticSpec
from microg_da.taxonomy import get_taxonomy

FRAMES = (KEYFRAME - 16, KEYFRAME - 8, KEYFRAME, KEYFRAME + 8)
PEOPLE = ((255, 214, 64), (94, 226, 255), (255, 138, 214))
INK, PAPER = (235, 238, 242), (22, 25, 30)
CAPTION, HEADER, GAP = 17, 26, 10


def contact_sheet(rows: int = 5, size: int = 152, seed: int = 0) -> Image.Image:
    """Draw ``rows`` clips of each domain with frames of ``size`` pixels."""
    width = len(FRAMES) * size
    sheet = Image.new("RGB", (2 * width + 3 * GAP, HEADER + rows * (size + CAPTION + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, domain in enumerate(DOMAINS):
        left = GAP + column * (width + GAP)
        pen.text((left, 5), f"synthetic:{domain}", INK, _font(14))
        spec = SyntheticSpec(domain, "test", 240, size=size, seed=seed)
        for row, index in enumerate(choose_clips(spec, rows)):
            top = HEADER + row * (size + CAPTION + GAP)
            clip = render_clip(spec, index, FRAMES)
            _caption(pen, left, top, clip)
            sheet.paste(Image.fromarray(np.concatenate(list(clip.frames), axis=1)), (left, top + CAPTION))
            _outline(pen, left + FRAMES.index(KEYFRAME) * size, top + CAPTION, size, clip)
    return sheet


def choose_clips(spec: SyntheticSpec, count: int) -> list[int]:
    """Select clips that show as many actions as possible, with alternating looks."""
    labels = {index: _actions(spec, index) for index in range(spec.num_clips)}
    chosen: list[int] = []
    shown: set[int] = set()
    for turn in range(count):
        candidates = [index for index in labels if index % len(LOOKS) == turn % len(LOOKS) and index not in chosen]
        best = max(candidates, key=lambda index: (len(labels[index] - shown), -len(labels[index]), -index))
        chosen.append(best)
        shown |= labels[best]
    return chosen


def _actions(spec: SyntheticSpec, index: int) -> set[int]:
    return set().union(*(actor.labels for actor in stage_clip(spec, index).performance.actors))


def _caption(pen: ImageDraw.ImageDraw, left: int, top: int, clip: RenderedClip) -> None:
    taxonomy = get_taxonomy("microg50")
    for person, actions in enumerate(clip.action_ids):
        names = [taxonomy.names[taxonomy.index(action)].split(" (")[0] for action in actions]
        text = ", ".join(names)
        pen.text((left, top), text, PEOPLE[person], _font(11))
        left += int(pen.textlength(text, _font(11))) + 14


def _outline(pen: ImageDraw.ImageDraw, left: int, top: int, size: int, clip: RenderedClip) -> None:
    for person, box in enumerate(np.rint(clip.boxes * (size - 1)).astype(int).tolist()):
        pen.rectangle((left + box[0], top + box[1], left + box[2], top + box[3]), outline=PEOPLE[person])


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m microg_da.synthetic.contact_sheet", description=__doc__)
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--size", type=int, default=152, help="side of a frame in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A palette reduces the size of noisy pictures to a third.
    picture = contact_sheet(options.rows, options.size, options.seed).quantize(256, kmeans=2)
    with replacing(options.output) as temporary:
        picture.save(temporary, optimize=True)


if __name__ == "__main__":
    main()
