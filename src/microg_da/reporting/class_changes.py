"""Comparison of runs class by class: differences in AP for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from microg_da.evaluation.intervals import Interval
from microg_da.evaluation.protocols import MIN_SUPPORT
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.paired import PairedIntervals
from microg_da.reporting.tables import GROUP_TITLES, per_class

OWN_SOURCE_ONLY = "each run's own source-only model"


@dataclass(frozen=True)
class Change:
    """The change of one class, or of the mean of a group of classes.

    Attributes:
        name: name of the class or the group.
        group: ``"PM"``, ``"OM"`` or ``"PI"``.
        support: labels in the target test set.
        seeds: ``(seed, difference of AP)`` as fractions, for the seeds that both settings have.
        mean: over seeds.
        deviation: sample standard deviation over seeds; NaN with one.
    """

    name: str
    group: str
    support: int
    seeds: list[tuple[int, float]]
    mean: float
    deviation: float


@dataclass(frozen=True)
class SettingChanges:
    """Changes by a setting, by action id and by group.

    ``intervals`` are over source videos; None where there are none, or the runs are not comparable.
    """

    name: str
    classes: dict[int, Change]
    groups: dict[str, Change]
    intervals: PairedIntervals | None = None

    @property
    def largest(self) -> float:
        """The largest difference of any class and seed, either way."""
        values = [abs(value) for change in self.classes.values() for _, value in change.seeds]
        return max(values, default=0.0)

    def class_interval(self, action: int) -> Interval | None:
        """Return the interval of a class's mean difference; None if missing, or if the class has too few labels."""
        change = self.classes.get(action)
        if self.intervals is None or change is None or change.support < MIN_SUPPORT:
            return None
        return self.intervals.classes.get(action)

    @property
    def ordered(self) -> list[tuple[int, Change]]:
        """The classes by action id, best first."""
        return sorted(self.classes.items(), key=lambda item: -item[1].mean)


def class_changes(runs: Sequence[RunAnalysis], names: Sequence[str], baseline: str) -> tuple[str, list[SettingChanges]]:
    """Compare the final target AP of each class, paired by seed.

    Args:
        runs: any number of repeats of each setting.
        names: the setting of each run.
        baseline: the setting with which the others are compared. Without other settings, the adapted detector of each
            run is compared with its source-only detector.

    Returns:
        The reference, and the settings in the given order, without settings that share no seed with the baseline and
        without classes that have no ground truth.
    """
    tables = [per_class(run.results) for run in runs]
    alone = set(names) == {baseline}
    repeats: dict[tuple[str, int], list[pd.Series]] = {}
    for run, name, table in zip(runs, names, tables, strict=True):
        values = _gain(table) if alone else table.get("adapted", table.get("source_only"))
        if values is not None:
            repeats.setdefault((name, run.record.seed), []).append(values)
    # Runs of one setting and seed are one repeat.
    ap = {key: pd.concat(values, axis=1).mean(axis=1, skipna=False) for key, values in repeats.items()}
    known = pd.concat([table[["name", "group", "support"]] for table in tables])
    classes = known[~known.index.duplicated()]
    settings = []
    for name in dict.fromkeys(names):
        mine = {seed: values for (other, seed), values in ap.items() if other == name}
        if not alone:
            mine = {seed: values - ap[baseline, seed] for seed, values in mine.items() if (baseline, seed) in ap}
        if mine and (alone or name != baseline):
            settings.append(_changes(name, pd.DataFrame(mine), classes))
    return (OWN_SOURCE_ONLY if alone else baseline), settings


def _gain(table: pd.DataFrame) -> pd.Series | None:
    """Return the changes by adaptation within a run, if it has both detectors."""
    return table["adapted"] - table["source_only"] if {"adapted", "source_only"} <= set(table) else None


def _changes(name: str, differences: pd.DataFrame, classes: pd.DataFrame) -> SettingChanges:
    """Return the changes from differences by class and seed."""
    differences = differences[differences.notna().any(axis=1)].sort_index(axis=1)
    found = {}
    for about in classes.reindex(differences.index).reset_index().to_dict("records"):
        action = int(about["action_id"])
        found[action] = _change(about["name"], about["group"], int(about["support"]), differences.T[action])
    group_of = classes["group"].reindex(differences.index)
    groups = {}
    for group in [group for group in GROUP_TITLES if group in set(group_of)]:
        members = list(group_of.index[group_of == group])
        support = int(classes["support"].reindex(members).sum())
        groups[group] = _change(GROUP_TITLES[group], group, support, differences.loc[members].mean())
    return SettingChanges(name, found, groups)


def _change(name: str, group: str, support: int, values: pd.Series) -> Change:
    values = values.dropna()
    seeds = [(int(str(seed)), float(value)) for seed, value in values.items()]
    return Change(name, group, support, seeds, float(values.mean()), float(values.std()))
