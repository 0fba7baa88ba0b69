"""Published and corrected values side by side, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from microg_da.errors import InputError
from microg_da.evaluation.protocols import Scores
from microg_da.files import replacing
from microg_da.reporting.tables import METRICS

FORMATS = (".png", ".svg", ".pdf")
COLOURS = {"published": "#9aa5b1", "corrected": "#1f6f8b"}


def write_score_figure(
    scores: Mapping[str, Mapping[str, Scores]],
    path: str | Path,
    intervals: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]] | None = None,
) -> Path:
    """Draw one panel per metric, one pair of bars per part.

    Args:
        scores: for each protocol, for each part of the data, its scores.
        path: a .png, .svg or .pdf file.
        intervals: likewise, for each metric its interval; drawn as whiskers.

    Raises:
        InputError: if the suffix is not one of these, or the file cannot be written.
    """
    if Path(path).suffix not in FORMATS:
        raise InputError(f"{path}: a figure can be written as {', '.join(FORMATS)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = list(next(iter(scores.values())))
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(METRICS), sharey=True, squeeze=False)[0]
    height = 0.8 / len(scores)
    for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
        for i, (protocol, found) in enumerate(scores.items()):
            centre = np.arange(len(parts)) + (i - (len(scores) - 1) / 2) * height
            values = np.array([100 * getattr(found[part], metric) for part in parts])
            whiskers = None
            if intervals:
                bounds = 100 * np.array([intervals[protocol][part][metric] for part in parts])
                whiskers = np.nan_to_num(np.clip([values - bounds[:, 0], bounds[:, 1] - values], 0, None))
            panel.barh(
                centre, np.nan_to_num(values), height, xerr=whiskers, color=COLOURS.get(protocol), label=protocol
            )
        panel.set(title=f"{title} (%)", xlim=(0, 100))
        panel.spines[["top", "right"]].set_visible(False)
    counts = [next(iter(scores.values()))[part].num_boxes for part in parts]
    labels = [f"{part}\n{count:,} people" for part, count in zip(parts, counts, strict=True)]
    panels[0].set_yticks(np.arange(len(parts)), labels)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return Path(path)
