"""Names of the settings of a comparison: the label, or the method and the keys in which the settings differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from microg_da.config import Config
from microg_da.config.relevance import unread_keys
from microg_da.reporting.analysis import RunAnalysis
from microg_da.runs.environment import flatten

_NO_OUTCOME = (
    "experiment",
    "adaptation.name",
    "seed",
    "description",
    "bounds",
    "logger",
    "trainer.",
    "data.num_workers",
    "synthetic.workers",
    "synthetic.cache",
    "training.activation_checkpointing",
    "evaluation.fold_batch_norm",
)
"""Configuration keys (or prefixes) that are ignored in names of settings, since the method is named anyway."""


def setting_names(runs: Sequence[RunAnalysis], labels: Sequence[str] | None = None) -> list[str]:
    """Return the name of each run's setting; runs with equal names are repeats of one setting.

    Args:
        runs: the compared runs.
        labels: label of each run; None for its method. The keys in which runs of one label differ are appended.
    """
    # A run from before the introduction of a key has the default of the key.
    defaults = flatten(asdict(Config()))
    settings = pd.DataFrame([defaults | run.run.settings for run in runs]).fillna("").astype(object)
    for i, run in enumerate(runs):
        settings.loc[i, list(unread_keys(defaults | run.run.settings))] = None
    first = list(labels) if labels is not None else [method_name(run) for run in runs]
    if labels is None:
        keys = _telling(settings, pd.Series(first))
        return [_name(name, settings[keys].iloc[i]) for i, name in enumerate(first)]
    names = [""] * len(runs)
    for label, group in settings.groupby(pd.Series(first), sort=False):
        keys = _telling(group, pd.Series([method_name(runs[i]) for i in group.index], index=group.index))
        for i in group.index:
            names[i] = _name(str(label), group.loc[i, keys])
    return names


def method_name(run: RunAnalysis) -> str:
    """Return the label of the adapted variant, e.g. ``dann + rotation 180°``, if any; else the adaptation."""
    adaptation = run.record.adaptation or "run"
    label = run.results.adapted.method if run.results.adapted else ""
    return label if label.split(" + ")[0] == adaptation else adaptation


def _telling(settings: pd.DataFrame, methods: pd.Series) -> list[str]:
    """Return the keys that distinguish runs: those that differ among the runs that read them."""

    def tells_apart(key: str) -> bool:
        if key.startswith(_NO_OUTCOME) or settings[key].nunique() <= 1:
            return False
        return not key.startswith("adaptation.") or bool((settings[key].groupby(methods).nunique() > 1).any())

    return [str(key) for key in settings if tells_apart(str(key))]


def _name(first: str, values: pd.Series) -> str:
    return ", ".join([first, *(f"{key}={value}" for key, value in values.items() if isinstance(value, str))])
