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
"""Configuration keys (or their beginnings) that do not tell settings apart: the method is named anyway."""


def setting_names(runs: Sequence[RunAnalysis], labels: Sequence[str] | None = None) -> list[str]:
    """The name of each run's setting; runs of one name are repeats of one setting.

    Args:
        runs: what is compared.
        labels: of each run, what a person calls it; None for its method. The keys in which runs of one label differ
            are added to it.
    """
    # A run that is older than a key was made as the key's default makes it.
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
    """Label of the adapted variant, e.g. ``dann + rotation 180°``, if it is of the adaptation; else the adaptation."""
    adaptation = run.record.adaptation or "run"
    label = run.results.adapted.method if run.results.adapted else ""
    return label if label.split(" + ")[0] == adaptation else adaptation


def _telling(settings: pd.DataFrame, methods: pd.Series) -> list[str]:
    """The keys that tell runs apart: those that differ among the runs that read them."""

    def tells_apart(key: str) -> bool:
        if key.startswith(_NO_OUTCOME) or settings[key].nunique() <= 1:
            return False
        return not key.startswith("adaptation.") or bool((settings[key].groupby(methods).nunique() > 1).any())

    return [str(key) for key in settings if tells_apart(str(key))]


def _name(first: str, values: pd.Series) -> str:
    return ", ".join([first, *(f"{key}={value}" for key, value in values.items() if isinstance(value, str))])
