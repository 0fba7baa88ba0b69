"""The plots of a sweep's page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from plotly import graph_objects
from plotly.colors import sample_colorscale

from microg_da.sweeps.distributions import Choice, Parameter, Range
from microg_da.sweeps.results import SweepResults, number

_MOST_TICKS = 7
_LONGEST_TICK = 24
_PALEST, _DARKEST = 0.25, 1.0
"""Lower end of the colour scale: the line of the worst trial must be visible on white."""


@dataclass(frozen=True)
class Axis:
    """One axis of the parallel coordinates.

    Attributes:
        name: the name of the metric or the parameter.
        places: the position of each trial on the axis, from 0 at the bottom to 1.
        ticks: positions with unique labels.
    """

    name: str
    places: list[float]
    ticks: list[tuple[float, str]]


def parallel_coordinates(results: SweepResults) -> graph_objects.Figure:
    """Draw one line for each complete trial over the metric and all varied parameters, darkest for the best trial."""
    trials = results.complete
    axes = axes_of(results)
    best_last = list(reversed(range(len(trials))))
    shades = np.linspace(_DARKEST, _PALEST, len(trials))
    figure = graph_objects.Figure()
    for i in best_last:
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[axis.places[i] for axis in axes],
            mode="lines",
            line={"color": sample_colorscale("Blues", [float(shades[i])])[0], "width": 1.6},
            text=_hover(results, trials[i]),
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    for place, axis in enumerate(axes):
        figure.add_vline(x=place, line={"color": "#888", "width": 1}, layer="below")
        for y, text in axis.ticks:
            figure.add_annotation(
                x=place, y=y, text=html.escape(text), showarrow=False, xanchor="right", xshift=-3,
                font={"size": 11}, bgcolor="rgba(255, 255, 255, 0.8)",
            )  # fmt: skip
    names = [html.escape(axis.name).replace(".", ".<br>").replace("/", "/<br>") for axis in axes]
    figure.update_xaxes(tickvals=list(range(len(axes))), ticktext=names, tickangle=0, side="top", showgrid=False)
    figure.update_xaxes(range=[-0.5, len(axes) - 0.8], zeroline=False, fixedrange=True)
    figure.update_yaxes(range=[-0.06, 1.06], visible=False, fixedrange=True)
    figure.update_layout(plot_bgcolor="white", hovermode="closest")
    return figure


def axes_of(results: SweepResults) -> list[Axis]:
    """Return the axes: the metric, then the varied parameters in the order of the file."""
    trials = results.complete
    metric = results.sweep.metric
    first = _number_axis(metric.name if metric else "metric", [trial.value or 0.0 for trial in trials])
    drawn = {name: [trial.user_attrs["values"][name] for trial in trials] for name in results.sweep.varied}
    return [first, *(_axis(name, results.sweep.varied[name], values) for name, values in drawn.items())]


def _axis(name: str, parameter: Parameter, values: Sequence[Any]) -> Axis:
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numeric and not isinstance(parameter, Choice):
        return _number_axis(name, values, log=isinstance(parameter, Range) and parameter.log)
    kinds = list(dict.fromkeys(map(str, values)))
    if numeric:
        kinds.sort(key=float)
    elif isinstance(parameter, Choice):
        declared = list(map(str, parameter.values))
        kinds.sort(key=declared.index)
    places = {kind: i / (len(kinds) - 1) if len(kinds) > 1 else 0.5 for i, kind in enumerate(kinds)}
    texts = [kind if len(kind) <= _LONGEST_TICK else f"{kind[: _LONGEST_TICK - 1]}…" for kind in kinds]
    texts = texts if len(set(texts)) == len(texts) else kinds
    return Axis(name, [places[str(value)] for value in values], list(zip(places.values(), texts, strict=True)))


def _number_axis(name: str, values: Sequence[float], *, log: bool = False) -> Axis:
    low, high = min(values), max(values)
    if low == high:
        return Axis(name, [0.5] * len(values), [(0.5, f"{low:.12g}")])
    ticks = _ticks(low, high, log=log)
    scale = math.log if log else float

    def place(value: float) -> float:
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    return Axis(name, [place(value) for value in values], [(place(tick), f"{tick:.12g}") for tick in ticks])


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Return at least two round numbers between two bounds."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    for steps in ((1, 2, 5), (1,)) if log else ():
        ticks = _inside(LogLocator(subs=steps, numticks=_MOST_TICKS).tick_values(low, high), low, high)
        if 2 <= len(ticks) <= _MOST_TICKS:
            return ticks
    for most in (5, 10):
        ticks = _inside(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high), low, high)
        if len(ticks) >= 2:
            return ticks
    return [low, high]


def _inside(ticks: Sequence[float], low: float, high: float) -> list[float]:
    slack = 1e-9 * (high - low)
    return [float(tick) for tick in ticks if low - slack <= tick <= high + slack]


def _hover(results: SweepResults, trial: FrozenTrial) -> str:
    metric = results.sweep.metric
    facts = {metric.name if metric else "metric": trial.value} | {
        name: trial.user_attrs["values"][name] for name in results.sweep.varied
    }
    lines = [f"trial {trial.number}", *(f"{name}: {number(value)}" for name, value in facts.items())]
    return "<br>".join(map(html.escape, lines))
