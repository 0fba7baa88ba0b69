"""Figures as inline SVG and small images: theme-aware, self-contained, drawn from data.

Colours are CSS variables of the page, so one drawing serves light, dark and print. Lines differ by dash
pattern as well as by colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from microg_da.data.pictures import data_uri, shrunk
from microg_da.errors import InputError

MAX_POINTS = 120
"""A curve with more points is averaged in equal bins of the x axis."""

KEYFRAME_SIZE, STRIP_SIZE, STRIP_FRAMES = 640, 256, 12
"""Longest side of an embedded keyframe and strip frame, in pixels; most frames of a strip."""


@dataclass(frozen=True)
class Line:
    """One curve in the pixels of its chart: ``points`` is the attribute of an SVG polyline."""

    name: str
    points: str
    last: float
    dot: tuple[float, float] | None


@dataclass(frozen=True)
class LineChart:
    """Data of the template ``line_chart.html.j2``; ticks are (pixel, text)."""

    title: str
    width: int
    height: int
    left: int
    bottom: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    x_label: str


def line_chart(title: str, curves: dict[str, pd.Series], *, scale: float = 1.0, zero: bool = True) -> LineChart | None:
    """Lay out curves that share their axes.

    Args:
        title: title of the y axis.
        curves: for each name, values indexed by x; the index has a name. NaN values are skipped.
        scale: factor on the values, e.g. 100 for scores.
        zero: whether the y axis starts at 0 at the highest.

    Returns:
        The chart, or None if no curve has a finite value.
    """
    from matplotlib.ticker import MaxNLocator

    kept = {name: thin(curve * scale) for name, curve in curves.items()}
    kept = {name: curve for name, curve in kept.items() if len(curve)}
    if not kept:
        return None
    width, height, left, right, top, bottom = 380, 210, 38, 10, 10, 34
    every_x = np.concatenate([curve.index.to_numpy(float) for curve in kept.values()])
    every_y = np.concatenate([curve.to_numpy(float) for curve in kept.values()])
    x_low, x_high = _span(every_x.min(), every_x.max())
    y_low, y_high = _span(min(every_y.min(), 0.0) if zero else every_y.min(), every_y.max())
    y_ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(y_low, y_high)
    y_low, y_high = y_ticks[0], y_ticks[-1]
    # An axis of one epoch has one tick; the locator would add ticks between whole numbers with equal labels.
    x_ticks = np.asarray(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True).tick_values(x_low, x_high))
    x_ticks = x_ticks[(x_ticks >= x_low) & (x_ticks <= x_high) & (np.abs(x_ticks - np.round(x_ticks)) < 1e-9)]

    def to_x(x: Any) -> Any:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def to_y(y: Any) -> Any:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    lines = []
    for name, curve in kept.items():
        x, y = to_x(curve.index.to_numpy(float)), to_y(curve.to_numpy(float))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(Line(name, points, float(curve.iloc[-1]), (x[0], y[0]) if len(curve) == 1 else None))
    return LineChart(
        title=title,
        width=width,
        height=height,
        left=left,
        bottom=bottom,
        x_ticks=[(float(to_x(tick)), f"{tick:,.0f}") for tick in x_ticks],
        y_ticks=[(float(to_y(tick)), f"{tick:g}") for tick in np.round(y_ticks, 10)],
        lines=lines,
        x_label=str(next(iter(curves.values())).index.name or ""),
    )


def thin(curve: pd.Series, most: int = MAX_POINTS) -> pd.Series:
    """The finite values of a curve, averaged in bins of equal count if there are more than ``most``."""
    curve = curve[np.isfinite(curve.to_numpy(float)) & np.isfinite(curve.index.to_numpy(float))]
    if len(curve) <= most:
        return curve
    bins = np.arange(len(curve)) * most // len(curve)
    means = pd.DataFrame({"x": curve.index.to_numpy(float), "y": curve.to_numpy(float)}).groupby(bins).mean()
    return pd.Series(means["y"].to_numpy(), index=pd.Index(means["x"], name=curve.index.name), name=curve.name)


def _span(low: float, high: float) -> tuple[float, float]:
    """A range of more than zero length."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def embedded_image(path: Path, budget: int) -> tuple[str, int, int]:
    """Return an image file as a data URI of at most ``budget`` bytes, with its width and height.

    It is at most as large as :data:`KEYFRAME_SIZE`, and is reduced in size or quality to fit the budget.
    """
    image = shrunk(_read_image(path), KEYFRAME_SIZE)
    return data_uri(image, budget), image.shape[1], image.shape[0]


def embedded_strip(paths: list[Path], budget: int) -> tuple[str, int] | None:
    """Frames of a window side by side in one image, as a data URI, and how many; None for fewer than two."""
    if len(paths) < 2:
        return None
    if len(paths) > STRIP_FRAMES:
        paths = [paths[round(i)] for i in np.linspace(0, len(paths) - 1, STRIP_FRAMES)]
    frames = [shrunk(_read_image(path), STRIP_SIZE) for path in paths]
    height, width = frames[0].shape[:2]
    frames = [f if f.shape[:2] == (height, width) else cv2.resize(f, (width, height)) for f in frames]
    return data_uri(np.concatenate(frames, axis=1), budget), len(frames)


def _read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"cannot read the image {path}: it is missing or damaged. examples.json refers to it.")
    return image
