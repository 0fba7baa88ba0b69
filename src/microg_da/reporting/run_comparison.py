"""Comparison of runs: means over seeds, and differences paired by seed.

Runs whose configurations differ only in the seed are repeats of one setting. Two settings are compared for each seed,
since the seed determines the rendered data and the initial weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import wrap

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from microg_da.errors import InputError
from microg_da.evaluation.finding import Verdict, verdict_of
from microg_da.evaluation.intervals import Interval
from microg_da.files import write_text
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.class_changes import SettingChanges, class_changes
from microg_da.reporting.finding_text import ABSENT, few_boxes_text, same_data_text
from microg_da.reporting.numbers import MISSING, percent
from microg_da.reporting.paired import Draws, PairedIntervals
from microg_da.reporting.report import environment
from microg_da.reporting.setting_names import setting_names
from microg_da.reporting.tables import VARIANT_TITLES
from microg_da.runs.layout import RunFolder
from microg_da.types import VARIANTS

_STYLES = {"better": "green", "worse": "red"}

EMBEDDED_NOTE = "Embedded synthetic data: the scores compare settings and do not apply to MicroG-4M."
FIGURES = (*VARIANTS, "gap_recovered")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``count`` values; NaN without values, or for the deviation of one."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: pd.Series) -> Spread:
        """Compute mean and deviation of the known values."""
        return cls(float(values.mean()), float(values.std()), int(values.count()))

    def text(self, *, signed: bool = False) -> str:
        """Return ``42.0 ± 1.3``, ×100; only the mean without a deviation."""
        mean = percent(self.mean, signed=signed)
        return mean if math.isnan(self.deviation) else f"{mean} ± {percent(self.deviation)}"


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in the seed.

    Attributes:
        name: the adaptation, and the keys in which it differs from the other settings.
        runs: one line per run: ``seed``, ``name``, target mAP (fraction) of each of
            :data:`~microg_da.types.VARIANTS`, ``gap_recovered`` and ``final``, the target mAP of the
            adapted model, or of the source-only model where nothing was adapted.
        figures: mean and deviation over seeds, for each of :data:`FIGURES` and ``final``.
        difference: ``final`` minus that of the baseline for each seed; None for the baseline.
        better: number of seeds with a difference above 0.
        interval: interval of the mean difference over source videos, or None.
        verdict: conclusion from the interval; ``unknown`` for the baseline.
    """

    name: str
    runs: pd.DataFrame
    figures: dict[str, Spread]
    difference: Spread | None
    better: int
    interval: Interval | None = None
    verdict: Verdict = "unknown"

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return self.runs["seed"].nunique()

    def text(self, figure: str) -> str:
        """Return a value as text, with the number of runs if only some runs have it."""
        spread = self.figures[figure]
        partial = 0 < spread.count < len(self.runs)
        return spread.text() + (f" ({spread.count} of {len(self.runs)})" if partial else "")


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare_runs`: settings in the order given, and why they may not be comparable.

    ``changes`` contains the difference of each setting from ``reference`` for each class. The reference is the baseline
    or, without other settings, the source-only model of each run. Runs that are not ``comparable`` have no intervals
    and no verdicts.
    """

    settings: list[Setting]
    baseline: str
    notes: list[str]
    reference: str
    changes: list[SettingChanges]
    comparable: bool

    def as_dict(self) -> dict[str, object]:
        """Return all values, for ``--json``."""
        settings = [asdict(setting) | {"runs": setting.runs.to_dict("records")} for setting in self.settings]
        changes = [asdict(setting) for setting in self.changes]
        about = {"baseline": self.baseline, "comparable": self.comparable, "settings": settings, "notes": self.notes}
        return {**about, "reference": self.reference, "changes": changes}


def compare_runs(
    folders: Sequence[str | Path], baseline: str | None = None, labels: Sequence[str] | None = None
) -> Comparison:
    """Read runs and group them by setting.

    Args:
        folders: run folders, or folders that hold them.
        baseline: the setting to compare with, or its adaptation if only one setting has it; by default the setting of
            the first run.
        labels: names of the runs of each folder; None names settings by method and by the keys that differ.

    Raises:
        InputError: if a folder contains no finished run, the numbers of labels and folders differ, or ``baseline`` is
            not a setting.
    """
    if labels is not None and len(labels) != len(folders):
        raise InputError(f"compare: {len(labels)} --labels for {len(folders)} folders of runs. Give one for each.")
    paths = find_runs(folders)
    runs = [RunAnalysis.read(path) for path in paths]
    names = setting_names(runs, None if labels is None else _labels_of_runs(paths, folders, labels))
    baseline = _full_name(baseline, names) if baseline else names[0]
    if baseline not in names:
        raise InputError(f"--baseline {baseline!r} is not one of the settings: {', '.join(dict.fromkeys(names))}.")
    table = pd.DataFrame([_line(run) for run in runs])
    groups = dict(list(table.groupby(pd.Series(names), sort=False)))
    reference = groups[baseline].groupby("seed")["final"].mean()
    comparable = not incomparabilities(runs)
    intervals = _intervals(runs, names, baseline) if comparable else {}
    settings = [
        _setting(name, group, reference, intervals.get(name), is_baseline=name == baseline)
        for name, group in groups.items()
    ]
    compared_with, changes = class_changes(runs, names, baseline)
    changes = [replace(setting, intervals=intervals.get(setting.name)) for setting in changes]
    return Comparison(settings, baseline, comparability_notes(runs), compared_with, changes, comparable)


def _intervals(runs: Sequence[RunAnalysis], names: Sequence[str], baseline: str) -> dict[str, PairedIntervals | None]:
    """Return the intervals of each setting against the baseline, or of the baseline alone against source-only."""
    draws = Draws()
    of_setting = {name: [run for run, other in zip(runs, names, strict=True) if other == name] for name in names}
    reference = of_setting[baseline]
    if len(of_setting) == 1:
        return {baseline: draws.within(reference)}
    return {name: draws.between(mine, reference) for name, mine in of_setting.items() if name != baseline}


def _full_name(baseline: str, names: Sequence[str]) -> str:
    """Return the only setting of an adaptation; return other names unchanged."""
    of_method = {name for name in names if name.split(", ")[0] == baseline}
    return of_method.pop() if len(of_method) == 1 else baseline


def _labels_of_runs(paths: Sequence[Path], folders: Sequence[str | Path], labels: Sequence[str]) -> list[str]:
    """Return the label of each run: that of the first folder that contains it."""
    of_run: dict[Path, str] = {}
    for folder, label in zip(folders, labels, strict=True):
        for path in find_runs([folder]):
            of_run.setdefault(path, label)
    return [of_run[path] for path in paths]


def find_runs(folders: Sequence[str | Path]) -> list[Path]:
    """Return the distinct run folders among and below the given folders."""
    found: list[Path] = []
    for folder in map(Path, folders):
        inside = [folder] if RunFolder(folder).results_file.is_file() else []
        inside = inside or sorted(path.parent for path in folder.glob("**/results.json"))
        if not inside:
            raise InputError(
                f"{folder} contains no results.json. Give the folder of a finished run, or a folder above it."
            )
        found += inside
    return list(dict.fromkeys(path.resolve() for path in found))


def comparison_table(comparison: Comparison) -> Table:
    """Return a table with one row per setting: target mAP ×100, mean ± standard deviation over seeds."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("setting")
    # With one run per setting, the name of the run identifies it.
    named = all(len(setting.runs) == 1 for setting in comparison.settings)
    if named:
        table.add_column("run", no_wrap=True)
    headers = dict(
        zip(
            FIGURES,
            (*(VARIANT_TITLES[variant].replace("-", "-\n") for variant in VARIANTS), "gap\nrecovered"),
            strict=True,
        )
    )
    # Columns without values are omitted.
    shown = [name for name in FIGURES if any(setting.figures[name].count for setting in comparison.settings)]
    for header in ("seeds", *(headers[name] for name in shown), "difference\nby seed"):
        table.add_column(header, justify="right", no_wrap=True)
    for setting in comparison.settings:
        figures = [setting.text(name) for name in shown]
        run = [Text(str(setting.runs["name"].iloc[0]))] if named else []
        table.add_row(Text(setting.name), *run, str(setting.seeds), *figures, _difference_cell(comparison, setting))
    return table


def _difference_cell(comparison: Comparison, setting: Setting) -> Text:
    """Return the difference, with the reason below it if it is not significant; colour and sign mark the direction."""
    if setting.difference is None:
        return Text(MISSING)
    figure, verdict = setting.difference.text(signed=True), verdict_text(comparison, setting)
    if verdict in _STYLES:
        return Text(figure, style=_STYLES[verdict])
    return Text("\n".join([figure, *wrap(verdict, width=14)]))


def verdict_text(comparison: Comparison, setting: Setting) -> str:
    """Return the conclusion about a setting's difference from the baseline."""
    if setting.difference is None:
        return "baseline"
    if not comparison.comparable:
        return "not comparable"
    if not setting.difference.count:
        return "no seed in common"
    return "no interval" if setting.verdict == "unknown" else setting.verdict.replace("_", " ")


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write the comparison as one self-contained HTML page.

    Raises:
        InputError: if the file cannot be written.
    """
    template = environment().get_template("compare.html.j2")
    values = [abs(change.mean) for setting in comparison.changes for change in setting.classes.values()]
    known = {action: change for setting in comparison.changes for action, change in setting.classes.items()}
    by_mean = sorted(known, key=lambda action: -_mean_change(comparison.changes, action))
    return write_text(
        path,
        template.render(
            comparison=comparison,
            columns=FIGURES,
            verdict_text=verdict_text,
            largest=max(values, default=0.0),
            classes=[(action, known[action]) for action in by_mean],
        ),
    )


def _mean_change(changes: Sequence[SettingChanges], action: int) -> float:
    known = [setting.classes[action].mean for setting in changes if action in setting.classes]
    return sum(known) / len(known)


def default_page(folders: Sequence[Path]) -> Path:
    """Return ``compare.html`` in the folder above all runs."""
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders])) / "compare.html"


def _line(run: RunAnalysis) -> dict[str, object]:
    maps = {variant: run.results.score(variant, "target", "map") for variant in VARIANTS}
    finding = run.finding
    return {
        "seed": run.record.seed,
        "name": run.run.path.name,
        **{str(variant): value for variant, value in maps.items()},
        "gap_recovered": math.nan if finding.gap_recovered is None else finding.gap_recovered,
        "absent": finding.absent,
        "final": run.results.final.target.map if run.results.final else math.nan,
    }


def _setting(
    name: str, runs: pd.DataFrame, reference: pd.Series, intervals: PairedIntervals | None, *, is_baseline: bool
) -> Setting:
    figures = {figure: Spread.of(runs[figure]) for figure in (*FIGURES, "final")}
    if is_baseline:
        return Setting(name, runs, figures, None, 0)
    paired = (runs.groupby("seed")["final"].mean() - reference).dropna()
    interval = None if intervals is None else intervals.change
    return Setting(name, runs, figures, Spread.of(paired), int((paired > 0).sum()), interval, verdict_of(interval))


def incomparabilities(runs: Sequence[RunAnalysis]) -> list[str]:
    """Return reasons why scores are not comparable: different protocols, targets or test sets."""
    notes = []
    kinds = {
        "protocols": {run.record.protocol for run in runs},
        "target domains": {run.record.target for run in runs},
        "splits": {str(run.record.split_hash) for run in runs},
    }
    for title, values in kinds.items():
        if len(values) > 1:
            notes.append(f"The runs were scored on different {title} ({', '.join(sorted(values))}): not comparable.")
    boxes = {result.target.num_boxes for run in runs for result in run.results.variants}
    if len(boxes) > 1:
        notes.append("The runs were tested on target test sets of different size: not comparable.")
    return notes


def comparability_notes(runs: Sequence[RunAnalysis]) -> list[str]:
    """Return notes on the scores: reasons why they are not comparable, small test sets, oracles."""
    notes = [*incomparabilities(runs), *_finding_notes(runs)]
    oracles = [run.run.path.name for run in runs if run.record.oracle]
    if oracles:
        notes.append(f"Oracle: target labels were used for {', '.join(oracles)}.")
    if any(run.record.embedded_data for run in runs):
        notes.append(EMBEDDED_NOTE)
    return notes


def _finding_notes(runs: Sequence[RunAnalysis]) -> list[str]:
    """Small test sets, source and target that share data, and gaps recovered that are not given."""
    notes: dict[str, list[str]] = {}
    for run in runs:
        finding = run.finding
        texts = [few_boxes_text(finding), same_data_text(finding)]
        if finding.absent not in (None, "no_adaptation", "no_bound"):
            texts.append(f"gap recovered is not given, {ABSENT[finding.absent]}")
        for text in texts:
            if text:
                notes.setdefault(text[0].upper() + text[1:], []).append(run.run.path.name)
    return [f"{text}." if len(of) == len(runs) else f"{text}: {', '.join(of)}." for text, of in notes.items()]
