"""A picture of the gravity frame: source clip, target clip as filmed with up, turned clip, scores."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.reporting.ups import arrow
from microg_da.runs.example_ups import PersonUp, read_ups
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, read_example_list
from microg_da.runs.folder import Run
from microg_da.taxonomy import get_taxonomy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_ROLL = 60
"""The smallest angle in degrees between up and the top in a shown clip."""
SHOWN = 4
"""The number of actions in a chart: labelled ones, then the most probable ones."""
BEFORE, AFTER = "#b0b7c3", "#2563eb"


class GravityRow(NamedTuple):
    """One row of the picture.

    Attributes:
        earth: the source example that shares most actions.
        target: a target example whose people share an estimated up that is far from the top.
        ups: estimated up of its people.
    """

    earth: ExampleKeyframe
    target: ExampleKeyframe
    ups: tuple[PersonUp, ...]


def gravity_rows(run: Run, rows: int = 3) -> list[GravityRow]:
    """The first examples of a run's report whose people share an up more than 60° from the top.

    Raises:
        InputError: if there is none.
    """
    examples = read_example_list(run.examples_file)
    ups = {(up.domain, up.video_id, up.frame_stamp): up.people for up in read_ups(run.example_ups_file)}
    earth = [example for example in examples if example.domain == "source"]
    chosen = []
    for example in examples:
        people = ups.get((example.domain, example.video_id, example.frame_stamp), ())
        angles = {round(person.degrees) % 360 for person in people}
        if example.domain != "target" or len(angles) != 1 or 180 - abs(angles.pop() - 180) <= LEAST_ROLL:
            continue
        true = _actions(example)
        alike = max(earth, key=lambda other, true=true: len(true & _actions(other)))  # type: ignore[misc]
        chosen.append(GravityRow(alike, example, people))
    if not chosen:
        raise InputError(f"{run.path}: no example of the report has people turned by more than {LEAST_ROLL}°.")
    return chosen[:rows]


def write_gravity_picture(run: Run, path: str | Path, rows: int = 3) -> Path:
    """Draw examples of a run whose method finds up, e.g. ``gravity_frame``.

    Columns: the Earth clip that shares most actions, the target clip as filmed with the estimated up and its
    density, the clip turned upright, and the probabilities of both detectors for the person with the largest box.

    Args:
        run: a finished run.
        path: path of the PNG file.
        rows: largest number of examples.

    Raises:
        InputError: if no example's people are turned far enough, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    chosen = gravity_rows(run, rows)
    taxonomy = get_taxonomy(run.config.data.taxonomy)
    names = dict(zip(taxonomy.ids, taxonomy.names, strict=True))
    figure = Figure(figsize=(10.5, 2.35 * len(chosen)), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(chosen), 4, width_ratios=[1, 1, 1, 1.25], squeeze=False)
    for number, (line, row) in enumerate(zip(grid, chosen, strict=True)):
        earth, filmed = (_read(run, example) for example in (row.earth, row.target))
        titles = ("source: Earth", "target as filmed, estimated up", "gravity frame") if number == 0 else ("", "", "")
        for axes, picture, title in zip(
            line, (earth, filmed, _turned(filmed, row.ups[0].degrees)), titles, strict=False
        ):
            _show(axes, picture, title)
        for up in row.ups:
            _draw_up(line[1], up, filmed)
        _chart(line[3], max(row.target.people, key=_area), names)
    grid[0, 3].set_title("probability (labelled actions in bold)", fontsize=9)
    grid[0, 3].legend(fontsize=7, frameon=False, loc="lower right")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with replacing(Path(path)) as temporary:
        # A palette reduces noisy pictures to a third of the size.
        Image.open(drawn).convert("RGB").quantize(256).save(temporary, format="png", optimize=True)
    return Path(path)


def _actions(example: ExampleKeyframe) -> set[int]:
    return {action for person in example.people for action in person.true}


def _area(person: ExamplePerson) -> float:
    x1, y1, x2, y2 = person.box
    return (x2 - x1) * (y2 - y1)


def _read(run: Run, example: ExampleKeyframe) -> np.ndarray:
    picture = cv2.imread(str(run.examples_file.parent / example.image))
    if picture is None:
        raise InputError(
            f"{run.examples_file.parent / example.image} is not an image. Create the examples of the report again."
        )
    return np.ascontiguousarray(picture[:, :, ::-1])


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="lanczos")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _draw_up(axes: Axes, up: PersonUp, picture: np.ndarray) -> None:
    drawn = arrow(up, (picture.shape[1], picture.shape[0]))
    curve = np.array([point.split(",") for point in drawn.curve.split()], dtype=float)
    axes.fill(*curve.T, color="#facc15", alpha=0.45, linewidth=0)
    axes.annotate("", drawn.end, drawn.start, arrowprops={"arrowstyle": "-|>", "color": "#dc2626", "linewidth": 2.2})


def _turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """Turn the picture so that the direction ``degrees`` clockwise from the top points to the top."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _chart(axes: Axes, person: ExamplePerson, names: dict[int, str]) -> None:
    """Draw bars of both detectors."""
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
