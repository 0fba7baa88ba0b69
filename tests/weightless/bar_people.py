"""A small data set on disk: people as tall bars with a red head and blue feet, in front of a green gradient."""

from pathlib import Path

import cv2
import numpy as np

from microg_da.data.annotations import read_annotations
from microg_da.data.masks import write_masks

HEIGHT, WIDTH, FRAMES, KEYFRAME = 72, 96, 7, 4
CLIPS = {
    "filmA_001": ("train", 1, (34, 14)),
    "filmA_002": ("train", 2, (60, 20)),
    "filmB_001": ("train", 3, (20, 16)),
    "filmC_001": ("val", 1, (48, 18)),
    "filmD_001": ("test", 2, (50, 15)),
    "filmD_002": ("test", 3, (70, 22)),
}
"""Split, action, and the person's left upper corner at the first frame."""
PERSON = (14, 42)
"""Width and height."""


def picture(corner) -> tuple[np.ndarray, np.ndarray]:
    """A frame and the mask of its person, who is red in the upper third, white in the middle, blue in the lower third."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([40 + 0 * rows, 60 + rows + columns // 2, 40 + 0 * rows], axis=-1).astype(np.uint8)
    left, top = corner
    width, height = PERSON
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    third = height // 3
    image[mask] = (230, 230, 230)
    image[top : top + third, left : left + width] = (20, 20, 220)
    image[top + 2 * third : top + height, left : left + width] = (220, 20, 20)
    return image, mask


def write_source(root: Path, clips=CLIPS, masks: bool = True) -> Path:
    (root / "annotations").mkdir(parents=True)
    rows: dict[str, list[str]] = {}
    for name, (split, action, (left, top)) in clips.items():
        folder = root / "frames" / name
        folder.mkdir(parents=True)
        found = []
        for number in range(FRAMES):
            image, mask = picture((left + number, top))
            cv2.imwrite(str(folder / f"{name}_{number + 1:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 98])
            found.append(mask)
        if masks:
            (root / "masks").mkdir(exist_ok=True)
            write_masks(np.stack(found), root / "masks" / f"{name}.npz")
        x1, y1 = left + KEYFRAME - 1, top
        box = (x1 / WIDTH, y1 / HEIGHT, (x1 + PERSON[0]) / WIDTH, (y1 + PERSON[1]) / HEIGHT)
        text = ",".join(map(repr, box))
        rows.setdefault(split, []).append(f"{name},{KEYFRAME},{text},{action},0")
        if action == 2:  # a second label of the same person
            rows[split].append(f"{name},{KEYFRAME},{text},1,0")
    for split, lines in rows.items():
        (root / "annotations" / f"ava_{split}.csv").write_text("\n".join(lines) + "\n")
    items = "".join(f'item {{ name: "act {number}" id: {number} }}\n' for number in (1, 2, 3))
    (root / "annotations" / "label_map.pbtxt").write_text(items)
    (root / "annotations" / "dataset.json").write_text('{"stamp": "frames", "start": 0.0, "fps": 10}')
    return root


def annotations(root: Path):
    """All rows of a data set in AVA's layout, by split."""
    return {
        split: read_annotations(path)
        for split in ("train", "val", "test")
        if (path := root / "annotations" / f"ava_{split}.csv").is_file()
    }
