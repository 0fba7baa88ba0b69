"""mAP against camera roll: a picture for light and dark backgrounds, and a table."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from microg_da.errors import InputError
from microg_da.evaluation.protocols import MIN_SUPPORT
from microg_da.evaluation.roll_response import RollResponse
from microg_da.files import replacing
from microg_da.reporting.content import Content
from microg_da.reporting.numbers import percent
from microg_da.reporting.tables import GROUP_TITLES

INK = "#7d8590"
STYLES = (("#2f81d0", "-"), ("#d9822b", "--"), ("#2a9d6f", "-."), ("#b25fa3", ":"))
FORMATS = ("svg", "png")


def write_roll_figure(curves: Mapping[str, pd.Series], path: str | Path, title: str = "") -> list[Path]:
    """Draw polar curves of mAP (fractions, indexed by degrees), with 0° at the top and clockwise angles.

    Args:
        curves: curves by name; the first is emphasised.
        path: path without suffix; ``.svg`` and ``.png`` files are written.
        title: title of the picture.

    Raises:
        InputError: if a file cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

    figure = Figure(figsize=(5.2, 5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot(projection="polar")
    assert isinstance(axes, PolarAxes)
    axes.set(theta_zero_location="N", theta_direction=-1, facecolor="none", ylim=(0, _outer_circle(curves)))
    axes.set_thetagrids(range(0, 360, 45))
    axes.set_rlabel_position(22.5)
    for number, (name, curve) in enumerate(curves.items()):
        colour, dashes = STYLES[number % len(STYLES)]
        around = np.deg2rad([*curve.index, curve.index[0] + 360])
        values = 100 * np.array([*curve, curve.iloc[0]])
        axes.plot(around, values, dashes, color=colour, linewidth=2.4 if number == 0 else 1.8, label=name)
    axes.tick_params(colors=INK)
    axes.grid(color=INK, alpha=0.35)
    axes.spines["polar"].set_color(INK)
    if title:
        axes.set_title(title, color=INK, fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    written = []
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "microg_da"}):
        for ending in FORMATS:
            file = Path(path).with_name(f"{Path(path).name}.{ending}")
            with replacing(file) as temporary:
                figure.savefig(temporary, format=ending, dpi=120, metadata={"Date": None} if ending == "svg" else None)
            written.append(file)
    return written


def _outer_circle(curves: Mapping[str, pd.Series]) -> float:
    """Return the next multiple of ten above all values ×100."""
    highest = np.nanmax([0.01, *(value for curve in curves.values() for value in curve)])
    return float(np.ceil(10 * highest) * 10)


def roll_table(response: RollResponse, title: str, most: int = 5) -> Table:
    """Return a table of scores ×100 at 0°, in the mean and at worst: all classes, groups, and the most biased classes.

    Args:
        response: the measured roll response.
        title: title of the table.
        most: number of shown classes, among those with at least :data:`MIN_SUPPORT` labels.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold", show_edge=False)
    table.add_column("mAP × 100")
    for header in ("at 0°", "mean", "worst", "at", "gravity bias %"):
        table.add_column(header, justify="right", no_wrap=True)
    summary = response.summary()
    classes = summary[(summary["kind"] == "class") & (summary["support"] >= MIN_SUPPORT)]
    bound = classes.sort_values("gravity_bias", ascending=False, kind="stable").head(most)
    for part in (summary[summary["kind"] != "class"], bound):
        table.add_section()
        for name, *values in part[["name", "upright", "mean", "worst", "worst_angle", "gravity_bias"]].to_numpy():
            upright, mean, worst, at, bias = map(float, values)
            angle = "–" if np.isnan(at) else f"{at:g}°"
            figures = [percent(value) for value in (upright, mean, worst)]
            table.add_row(GROUP_TITLES.get(str(name), str(name)), *figures, angle, percent(bias))
    return table


def roll_responses(folder: Path) -> list[Content]:
    """Contents of the files of a run's ``roll_response/``, finished ones only, each with its ``picture`` as a data URI.

    Raises:
        InputError: if a file cannot be read or is not from `roll-response`.
    """
    found: list[Content] = []
    for path in sorted(folder.glob("*.json")):
        try:
            response = json.loads(path.read_text(encoding="utf-8"))
            if response["complete"]:
                picture = base64.b64encode(path.with_suffix(".svg").read_bytes()).decode("ascii")
                found.append(
                    {"variant": response.get("row"), **response, "picture": f"data:image/svg+xml;base64,{picture}"}
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error}. Run `roll-response` again, or delete the file.") from error
    return found
