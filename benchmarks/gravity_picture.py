"""The picture of the gravity frame in the README, from a finished run of ava2microg.

    python benchmarks/gravity_picture.py RUN --output docs/pictures/gravity_frame.png

The rows are the first examples of the run's report whose people share an estimated up more than 60° from the top.
Columns: an Earth clip with most of the same actions, the target clip as filmed with the estimated up and its density,
the clip turned upright, and the probabilities of both detectors for the person with the largest box.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from microg_da.errors import InputError
from microg_da.reporting.ups import arrow
from microg_da.runs.example_ups import PersonUp, read_ups
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, read_example_list
from microg_da.runs.folder import Run
from microg_da.taxonomy import get_taxonomy

ROWS = 3
LEAST_ROLL = 60
SHOWN = 4
"""Actions in a chart: the true ones, then the most probable ones."""
BEFORE, AFTER = "#b0b7c3", "#2563eb"


def chosen(run: Run) -> list[tuple[ExampleKeyframe, ExampleKeyframe, tuple[PersonUp, ...]]]:
    """Earth example, target example and the ups of its people, one for each row of the picture."""
    examples = read_example_list(run.examples_file)
    ups = {(up.domain, up.video_id, up.frame_stamp): up.people for up in read_ups(run.example_ups_file)}
    earth = [example for example in examples if example.domain == "source"]
    rows = []
    for example in examples:
        people = ups.get((example.domain, example.video_id, example.frame_stamp), ())
        angles = {round(person.degrees) % 360 for person in people}
        if example.domain != "target" or len(angles) != 1 or 180 - abs(angles.pop() - 180) <= LEAST_ROLL:
            continue
        true = actions_of(example)
        alike = max(earth, key=lambda other, true=true: len(true & actions_of(other)))
        rows.append((alike, example, people))
    return rows[:ROWS]


def actions_of(example: ExampleKeyframe) -> set[int]:
    return {action for person in example.people for action in person.true}


def area(person: ExamplePerson) -> float:
    x1, y1, x2, y2 = person.box
    return (x2 - x1) * (y2 - y1)


def show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="lanczos")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def draw_up(axes: Axes, up: PersonUp, picture: np.ndarray) -> None:
    drawn = arrow(up, (picture.shape[1], picture.shape[0]))
    curve = np.array([point.split(",") for point in drawn.curve.split()], dtype=float)
    axes.fill(*curve.T, color="#facc15", alpha=0.45, linewidth=0)
    axes.annotate("", drawn.end, drawn.start, arrowprops={"arrowstyle": "-|>", "color": "#dc2626", "linewidth": 2.2})


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """The picture turned so that ``degrees`` clockwise from the top comes to the top."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def chart(axes: Axes, person: ExamplePerson, names: dict[int, str]) -> None:
    """Bars of both detectors."""
    before, after = (person.predictions[variant] for variant in ("source_only", "adapted"))
    others = sorted(set(after) - set(person.true), key=lambda action: -max(before[action], after[action]))
    actions = [*person.true, *others][:SHOWN]
    places = np.arange(len(actions))
    axes.barh(places - 0.2, [before[action] for action in actions], 0.38, color=BEFORE, label="source-only")
    axes.barh(places + 0.2, [after[action] for action in actions], 0.38, color=AFTER, label="adapted")
    axes.set_yticks(places, [names[action] for action in actions], fontsize=8)
    for label, action in zip(axes.get_yticklabels(), actions, strict=True):
        label.set_fontweight("bold" if action in person.true else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def draw(run: Run, output: Path) -> None:
    rows = chosen(run)
    if not rows:
        raise InputError(f"{run.path}: no example of the report has people turned by more than {LEAST_ROLL}°.")
    taxonomy = get_taxonomy(run.config.data.taxonomy)
    names = dict(zip(taxonomy.ids, taxonomy.names, strict=True))
    figure = Figure(figsize=(10.5, 2.35 * len(rows)), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), 4, width_ratios=[1, 1, 1, 1.25], squeeze=False)
    folder = run.examples_file.parent
    for line, (earth, target, ups) in zip(grid, rows, strict=True):
        pictures = [cv2.imread(str(folder / example.image))[:, :, ::-1] for example in (earth, target)]
        first = line[0] is grid[0][0]
        show(line[0], pictures[0], "source: Earth" if first else "")
        show(line[1], pictures[1], "target as filmed, estimated up" if first else "")
        for up in ups:
            draw_up(line[1], up, pictures[1])
        show(line[2], turned(pictures[1], ups[0].degrees), "gravity frame" if first else "")
        chart(line[3], max(target.people, key=area), names)
        if first:
            line[3].set_title("probability (true actions in bold)", fontsize=9)
            line[3].legend(fontsize=7, frameon=False, loc="lower right")
    figure.savefig(output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run of ava2microg")
    parser.add_argument("--output", type=Path, default=Path("gravity_frame.png"))
    args = parser.parse_args()
    draw(Run.open(args.run), args.output)
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
