"""mAP over the temporal window of a network: T frames, τ apart, spanning T·τ / fps seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich import box
from rich.table import Table

from microg_da.errors import InputError
from microg_da.files import write_text
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.figures import LineChart, line_chart
from microg_da.reporting.numbers import MISSING, percent
from microg_da.reporting.report import environment
from microg_da.reporting.run_comparison import comparability_notes, find_runs
from microg_da.reporting.tables import GROUP_TITLES, per_class, per_group
from microg_da.runs.fields import Fields, read_json
from microg_da.types import VARIANTS, Variant

ALL = "all"
_TITLES = {ALL: "all classes", **GROUP_TITLES}
_WINDOW = ("model.num_frames", "model.sampling_rate")
_BUDGET = ("training.epochs", "training.batch_size", "adaptation.epochs", "synthetic.train_clips")
"""Keys that determine the number of optimiser steps of a run."""


@dataclass(frozen=True)
class TemporalWindows:
    """Scores of runs with different windows on the target.

    Attributes:
        table: one line per variant, group of classes and window: ``variant``, ``group`` (``all`` or a group's key),
            ``num_frames``, ``sampling_rate``, ``span`` and ``map`` (fraction, mean over runs of one window).
        unit: unit of ``span``: seconds, or frames if the frame rate is unknown.
        notes: reasons why scores are not comparable, and rejected windows.
    """

    table: pd.DataFrame
    unit: str
    notes: list[str]

    @property
    def variants(self) -> list[Variant]:
        """The variants that the runs have, in order."""
        return [variant for variant in VARIANTS if variant in set(self.table["variant"])]

    @property
    def groups(self) -> list[str]:
        """All classes, then the groups that have ground truth."""
        return [group for group in _TITLES if group in set(self.table["group"])]

    def grid(self, variant: Variant, group: str = ALL) -> pd.DataFrame:
        """Return a table of mAP with T in rows and τ in columns; NaN for windows without a run."""
        chosen = self.table[(self.table["variant"] == variant) & (self.table["group"] == group)]
        return chosen.pivot(index="num_frames", columns="sampling_rate", values="map")

    def curve(self, variant: Variant, group: str) -> pd.Series:
        """The mAP over the span; windows of the same span are averaged."""
        chosen = self.table[(self.table["variant"] == variant) & (self.table["group"] == group)]
        return chosen.groupby("span")["map"].mean().rename_axis(f"T·τ, {self.unit}")

    def chart(self, variant: Variant) -> LineChart | None:
        """The curve of every group over the span."""
        curves = {_TITLES[group]: self.curve(variant, group) for group in self.groups}
        return line_chart("mAP × 100", curves, scale=100)


def read_windows(folders: Sequence[str | Path]) -> TemporalWindows:
    """Read runs and group them by window.

    Args:
        folders: run folders, or folders that contain them, such as that of a sweep.

    Raises:
        InputError: if there is no finished run, or a run has no record of its window.
    """
    runs = [RunAnalysis.read(path) for path in find_runs(folders)]
    rates = [_fps(run) for run in runs]
    known = all(rates)
    lines = [line for run, rate in zip(runs, rates, strict=True) for line in _lines(run, rate if known else None)]
    keys = ["variant", "group", "num_frames", "sampling_rate", "span"]
    table = pd.DataFrame(lines).groupby(keys, as_index=False)[["map"]].mean()
    return TemporalWindows(table, "seconds" if known else "frames", [*_notes(runs), *_refused(folders)])


def _lines(run: RunAnalysis, fps: float | None) -> list[dict[str, object]]:
    model = run.record.model
    if model is None:
        raise InputError(f"{run.run.path}: run.json has no window of the model. Give the folder of a finished run.")
    frames, rate = model.num_frames, model.sampling_rate
    window = {"num_frames": frames, "sampling_rate": rate, "span": frames * rate / (fps or 1.0)}
    groups = per_group(per_class(run.results))
    lines: list[dict[str, object]] = []
    for result in run.results.variants:
        name = result.variant
        lines.append({"variant": name, "group": ALL, **window, "map": result.target.map})
        lines += [{"variant": name, "group": group, **window, "map": groups.loc[group, name]} for group in groups.index]
    return lines


def _fps(run: RunAnalysis) -> float | None:
    return run.record.fps.get("target/test")


def _notes(runs: Sequence[RunAnalysis]) -> list[str]:
    notes = comparability_notes(runs)
    for key in _BUDGET:
        values = {str(run.run.settings.get(key)) for run in runs}
        if len(values) > 1:
            notes.append(f"The runs differ in {key} ({', '.join(sorted(values))}): not the same optimiser steps.")
    clamped = {
        f"{run.record.model.num_frames}×{run.record.model.sampling_rate}"
        for run in runs
        if run.record.model and any("frames are repeated" in warning for warning in run.record.warnings)
    }
    if clamped:
        notes.append(f"Windows longer than the clips, with repeated end frames: {', '.join(sorted(clamped))}.")
    return notes


def _refused(folders: Sequence[str | Path]) -> list[str]:
    """Return the failed windows of a sweep from its ``sweep.json``; windows longer than the clips in one line."""
    notes, too_long = [], []
    for folder in folders:
        for trial in _read_trials(Path(folder) / "sweep.json"):
            if trial.state == "complete":
                continue
            if set(trial.values) == set(_WINDOW) and trial.reason.startswith("refused: the window"):
                too_long.append(" × ".join(str(trial.values[key]) for key in _WINDOW))
                continue
            values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
            notes.append(f"Not run: {values}: {trial.reason}")
    if too_long:
        windows = ", ".join(sorted(set(too_long), key=lambda window: [int(part) for part in window.split(" × ")]))
        notes.append(f"Not run, because the window is longer than the clips (T × τ): {windows}.")
    return notes


@dataclass(frozen=True)
class _Trial:
    """One trial of a sweep: its state, the values of its parameters, and the reason for a missing result."""

    state: str
    values: Mapping[str, object]
    reason: str


def _read_trials(file: Path) -> list[_Trial]:
    """Return the trials of a sweep; empty if the folder is not from a sweep.

    Raises:
        InputError: if the file is damaged.
    """
    record = read_json(file)
    if record is None:
        return []
    trials = Fields(record, str(file), "Run `sweep` again to restore the file.").objects("trials")
    return [_Trial(trial.text("state"), trial.fields("values").values, trial.text("reason")) for trial in trials]


def windows_table(found: TemporalWindows, variant: Variant) -> Table:
    """Return a table of target mAP × 100 of all classes, with T in rows and τ in columns."""
    grid = found.grid(variant)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("T \\ τ", justify="right")
    for rate in grid.columns:
        table.add_column(str(rate), justify="right")
    for frames, line in grid.iterrows():
        table.add_row(str(frames), *(percent(value) for value in line))
    return table


def write_windows(found: TemporalWindows, path: str | Path) -> Path:
    """Write heat maps and curves as one self-contained HTML page.

    Raises:
        InputError: if the file cannot be written.
    """
    template = environment().get_template("temporal_window.html.j2")
    maps = {
        (variant, group): heat_map(found.grid(variant, group)) for variant in found.variants for group in found.groups
    }
    return write_text(path, template.render(found=found, maps=maps, titles=_TITLES, missing=MISSING))


def heat_map(grid: pd.DataFrame) -> list[tuple[int, list[tuple[float, int]]]]:
    """For each T, in order, mAP and shade of every τ: 0 for the lowest of the grid to 100 for the highest."""
    low, high = float(grid.min().min()), float(grid.max().max())

    def shade(value: float) -> int:
        return 0 if math.isnan(value) else round(100 * (value - low) / (high - low)) if high > low else 50

    return [(int(frames), [(value, shade(value)) for value in line]) for frames, line in grid.iterrows()]  # type: ignore[call-overload]
