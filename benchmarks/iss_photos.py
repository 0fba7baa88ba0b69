"""Recall of people in photographs from orbit, by upright detection and by the search over rolls, at equal precision.

    python benchmarks/iss_photos.py PHOTOS YOLOX.onnx [--people tests/video/iss_people.csv] [--rolls 4 8 adaptive]

PHOTOS is a folder of 35 photographs by NASA with manual boxes. The table `--people` contains the name of each
photograph, the box in [0, 1], the person's up in degrees clockwise from the top of the picture (0: head up), and a
note:

- `partial`: the frame or an object hides a part of the body; `crowd`: mostly hidden by other people;
- `ignore`: empty suits, reflections and hands of people outside the picture. Detections of these regions do not count.

A detection is correct if it overlaps a person that no detection with a higher score has matched. For each precision the
table shows the largest recall among the score thresholds that reach it. Brackets contain the recall of people within 45
degrees of upright and of all other people.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torchvision.ops import box_iou

from microg_da.video.person_boxes import PersonBoxes, PersonDetector
from microg_da.video.person_detector import Yolox, create_person_detector
from microg_da.video.roll_search import RollSearch

BOX = ["x1", "y1", "x2", "y2"]
LOWEST = 0.05
TILTED = 45
PEOPLE = Path(__file__).resolve().parents[1] / "tests" / "video" / "iss_people.csv"


@dataclass(frozen=True)
class Matched:
    """The detections of all photographs, in descending order of scores.

    Attributes:
        scores: ``(N,)``.
        person: ``(N,)`` Row of the matched person; -1 for a false positive.
        roll: ``(N,)`` Roll of the person from the search; NaN without a search.
    """

    scores: np.ndarray
    person: np.ndarray
    roll: np.ndarray

    def best_count(self, precision: float) -> int:
        """Return the number of top detections with the largest recall at a precision."""
        right = np.cumsum(self.person >= 0)
        enough = np.flatnonzero(right / np.arange(1, len(right) + 1) >= precision)
        return int(enough[-1]) + 1 if len(enough) else 0


def match(found: PersonBoxes, people: np.ndarray, ignored: np.ndarray, least: float) -> np.ndarray:
    """Match the detections of one photograph to people: ``(N,)``, -1 for a false positive, -2 for an ignored region.

    Args:
        found: Detections in descending order of scores.
        people: ``(P, 4)`` Boxes in pixels.
        ignored: ``(I, 4)`` Ignored regions in pixels.
        least: Minimum IoU.
    """
    boxes = torch.from_numpy(found.boxes)
    overlap = box_iou(boxes, torch.from_numpy(people)).numpy()
    result = np.full(len(boxes), -1)
    for number, box in enumerate(found.boxes):
        best = int(overlap[number].argmax())
        if overlap[number, best] >= least:
            result[number] = best
            overlap[:, best] = -1.0
        elif len(ignored):
            sides = np.minimum(box[2:], ignored[:, 2:]) - np.maximum(box[:2], ignored[:, :2])
            inside = sides.clip(0).prod(axis=1) / (box[2:] - box[:2]).prod()
            result[number] = -2 if inside.max() > 0.5 else -1
    return result


def matched(found: dict[str, PersonBoxes], table: pd.DataFrame, sizes: dict[str, np.ndarray], least: float) -> Matched:
    """Combine the matches of all photographs in one list."""
    parts = []
    for name, boxes in found.items():
        boxes = boxes.take(np.argsort(-boxes.scores, kind="stable"))
        rows = table[table.file == name]
        people, ignored = rows[rows.note != "ignore"], rows[rows.note == "ignore"]
        local = match(boxes, people[BOX].to_numpy() * sizes[name], ignored[BOX].to_numpy() * sizes[name], least)
        person = np.where(local >= 0, people.index.to_numpy()[local.clip(0)], local)
        parts.append(np.stack([boxes.scores, person, boxes.rolls], axis=1)[local > -2])
    scores, person, roll = np.concatenate(parts).T
    order = np.argsort(-scores, kind="stable")
    return Matched(scores[order], person[order].astype(int), roll[order])


def off_upright(degrees: np.ndarray) -> np.ndarray:
    """Return the absolute differences of angles from 0, in [0, 180]."""
    return np.abs((degrees + 180) % 360 - 180)


def rows_of(result: Matched, people: pd.DataFrame, precisions: list[float]) -> list[str]:
    """Return the recall at each precision: all people, and in brackets upright people / all other people."""
    tilted = off_upright(people.up.to_numpy()) > TILTED
    cells = []
    for precision in precisions:
        count = result.best_count(precision)
        got = people.index.isin(result.person[:count])
        least = result.scores[count - 1] if count else np.nan
        shares = (100 * got.mean(), 100 * got[~tilted].mean(), 100 * got[tilted].mean())
        cells.append("{:.0f} ({:.0f} / {:.0f}) @{:.2f}".format(*shares, least))
    return cells


def measure(detector: PersonDetector, images: dict[str, np.ndarray]) -> tuple[dict[str, PersonBoxes], float, float]:
    """Return the detections, and the passes and milliseconds of CPU time per photograph."""
    start = time.process_time()
    found = {name: detector(image) for name, image in track(images.items(), "photographs", transient=True)}
    spent = 1000 * (time.process_time() - start) / len(images)
    return found, detector.passes / len(images) if isinstance(detector, RollSearch) else 1.0, spent


def roll_errors(result: Matched, people: pd.DataFrame, precision: float) -> str:
    """Return the median error of the roll of matched people, and the share of errors above 45 degrees."""
    count = result.best_count(precision)
    right = result.person[:count] >= 0
    errors = off_upright(result.roll[:count][right] - people.up.loc[result.person[:count][right]].to_numpy())
    if not len(errors) or np.isnan(errors).all():
        return "-"
    return f"{np.median(errors):.0f}°, {100 * (errors > TILTED).mean():.0f} %"


def draw(found: dict[str, PersonBoxes], images: dict[str, np.ndarray], folder: Path, least: float) -> None:
    """Write each photograph with its detections. Do not commit these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, boxes in found.items():
        image = images[name].copy()
        for box, score, roll in zip(*boxes.take(boxes.scores >= least), strict=True):
            x1, y1, x2, y2 = box.round().astype(int).tolist()
            cv2.rectangle(image, (x1, y1), (x2, y2), (0, 255, 255), 2)
            cv2.putText(image, f"{score:.2f} {roll:.0f}", (x1 + 3, y1 + 18), 0, 0.6, (0, 255, 255), 2)
        cv2.imwrite(str(folder / f"{Path(name).stem}.png"), image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--people", type=Path, default=PEOPLE)
    parser.add_argument("--rolls", nargs="+", default=["4", "8", "adaptive"], metavar="N|adaptive")
    parser.add_argument("--iou", nargs="+", type=float, default=[0.5, 0.3])
    parser.add_argument("--precisions", nargs="+", type=float, default=[0.95, 0.9, 0.8])
    parser.add_argument("--draw", type=Path, help="output folder for the photographs with the boxes of the last search")
    args = parser.parse_args()
    table = pd.read_csv(args.people, keep_default_na=False, na_values={"up": ""})
    images = {name: cv2.imread(str(args.photos / name)) for name in sorted(set(table.file))}
    absent = [name for name, image in images.items() if image is None]
    if absent:
        sys.exit(
            f"{args.photos}: cannot read the photograph {absent[0]}. Expected all {len(images)} files of {args.people}."
        )
    sizes = {name: np.array([image.shape[1], image.shape[0]] * 2) for name, image in images.items()}
    people = table[table.note != "ignore"]
    console = Console()
    looks: dict[str, PersonDetector] = {"upright": Yolox(args.detector, LOWEST)}
    looks |= {f"{rolls} rolls": create_person_detector(args.detector, LOWEST, rolls) for rolls in args.rolls}
    measured = {name: measure(detector, images) for name, detector in looks.items()}
    tilted = int((off_upright(people.up.to_numpy()) > TILTED).sum())
    for iou in args.iou:
        grid = Table(title=f"{len(people)} people, {tilted} of them rotated by more than {TILTED}°; IoU {iou}")
        for column in ("", *(f"recall at precision {p}" for p in args.precisions), "roll", "passes", "CPU ms"):
            grid.add_column(column)
        for name, (found, passes, spent) in measured.items():
            result = matched(found, table, sizes, iou)
            cells = [*rows_of(result, people, args.precisions), roll_errors(result, people, args.precisions[-1])]
            grid.add_row(name, *cells, f"{passes:.1f}", f"{spent:.0f}")
        console.print(grid)
    if args.draw:
        draw(found, images, args.draw, 0.4)


if __name__ == "__main__":
    main()
