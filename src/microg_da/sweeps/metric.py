"""The metric of a sweep: its name in W&B, and its location in a run's folder.

- ``STAGE-COLUMN``, e.g. ``adapt-val/map``: a value that a stage logs every epoch; the last value counts.
- ``VARIANT/DOMAIN_map``, e.g. ``adapted/source_map``: a score of the results.
- ``validator/NAME``: the score of a label-free validator for the final model of the run.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from microg_da.adaptation import uses_target_labels
from microg_da.config import Config
from microg_da.errors import InputError, unknown_name
from microg_da.runs.layout import RunFolder
from microg_da.runs.results import read_results
from microg_da.types import DOMAINS, STAGES, VARIANTS, Domain, Stage, Variant

GOALS = ("minimize", "maximize")
Goal = Literal["minimize", "maximize"]
_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
_VALIDATOR = "validator/"
_TESTS = [(variant, domain) for variant in VARIANTS for domain in DOMAINS]


@dataclass(frozen=True)
class Metric:
    """The value that a sweep optimises.

    Attributes:
        name: the name in W&B.
        goal: ``minimize`` or ``maximize``.
        stage: the stage that logs the metric every epoch; None for a metric that is known only at the end.
        target: no trials start after a trial has reached this value; None for no limit.
    """

    name: str
    goal: Goal
    stage: Stage | None
    target: float | None = None

    @property
    def column(self) -> str:
        """The column of the stage's ``metrics.csv``."""
        return self.name.partition("-")[2]

    def needs_target_labels(self, config: Config) -> bool:
        """Return whether the metric needs target labels in a run of this configuration."""
        if self.stage is None:
            return "/target_" in self.name
        of_scores = self.column.startswith("val/")
        return of_scores and (self.stage == "target_supervised" or config.selection == "oracle")

    def check(self, config: Config, where: str) -> None:
        """Check that the run has the metric, and that a metric of target labels is declared as an oracle.

        Raises:
            InputError: for an unavailable metric, or a metric of target labels without ``oracle``.
        """
        part = self.stage or self.name.partition("/")[0]
        if part in ("adapt", "adapted") and config.adaptation.name == "source_only":
            raise InputError(f"{where}: metric {self.name!r}: adaptation.name=source_only has no adapted variant.")
        if part == "target_supervised" and not config.bounds:
            raise InputError(f"{where}: metric {self.name!r} needs bounds=true.")
        if self.needs_target_labels(config) and not uses_target_labels(config):
            raise InputError(
                f"{where}: the metric {self.name!r} needs target labels, so the best trial would be an oracle. "
                f"Use a source metric or a validator, or declare the oracle, which is then stated in every output: "
                f"parameters: {{oracle: {{value: true}}}}."
            )

    def history(self, run: Path) -> list[float]:
        """Return the values logged so far, oldest first; empty for a metric that is known only at the end."""
        return [] if self.stage is None else _column(RunFolder(run).metrics_file(self.stage), self.column)

    def value(self, run: Path) -> float | None:
        """Return the final value of a finished run; None if the run has no value."""
        if self.stage is not None:
            history = self.history(run)
            return history[-1] if history else None
        results = read_results(RunFolder(run).results_file)
        if self.name.startswith(_VALIDATOR):
            scores = results.final.validators if results.final else {}
            value = scores.get(self.name.removeprefix(_VALIDATOR), math.nan)
        else:
            maps = {(variant, domain): results.score(variant, domain, "map") for variant, domain in _TESTS}
            value = next(value for test, value in maps.items() if _name_of_map(*test) == self.name)
        return value if math.isfinite(value) else None


def _name_of_map(variant: Variant, domain: Domain) -> str:
    return f"{variant}/{domain}_map"


def read_metric(spec: Any, where: str) -> Metric | None:
    """Read the ``metric`` of a sweep file.

    Raises:
        InputError: if the metric or a key is unknown.
    """
    if spec is None:
        return None
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise InputError(f"{where}: metric must have a name, and goal: maximize or minimize.")
    for key in spec:
        if key not in _KEYS:
            raise unknown_name("key of metric", str(key), _KEYS, where)
    goal = spec.get("goal", "minimize")
    if goal not in GOALS:
        raise unknown_name("goal of metric", str(goal), GOALS, where)
    target = spec.get("target")
    if target is not None and (isinstance(target, bool) or not isinstance(target, (int, float)) or target != target):
        raise InputError(f"{where}: metric: target={target!r} must be a number.")
    return Metric(spec["name"], goal, _stage(spec["name"], where), target)


def _stage(name: str, where: str) -> Stage | None:
    before, dash, column = name.partition("-")
    for stage in STAGES:
        if dash and before == stage and column.startswith(("val/", "train/", _VALIDATOR)):
            return stage
    maps = [_name_of_map(*test) for test in _TESTS]
    if name.startswith(_VALIDATOR) or name in maps:
        return None
    raise unknown_name("metric", name, [*(f"{stage}-val/map" for stage in STAGES), *maps, "validator/NAME"], where)


def _column(file: Path, column: str) -> list[float]:
    """Return the numbers of a column from the complete lines of the file, because a run may be writing it."""
    import pandas as pd

    try:
        text = file.read_text(encoding="utf-8")
        table = pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1]))
    except (OSError, ValueError):
        return []
    return table[column].dropna().astype(float).tolist() if column in table else []
