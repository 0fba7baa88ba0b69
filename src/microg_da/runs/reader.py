"""Reading a run folder back: what it holds, checked, as one object."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from microg_da.config.experiments import YAML_ERRORS
from microg_da.errors import InputError
from microg_da.evaluation.finding import Finding, find, read_finding
from microg_da.evaluation.intervals import ADAPTED, SOURCE_ONLY, TARGET_SUPERVISED, VARIANTS
from microg_da.reporting.target_scores import TargetTest, read_source_truth, read_target_test

if TYPE_CHECKING:
    from microg_da.reporting.intervals import Intervals

ROWS = VARIANTS
STAGES = ("source", "adapt", "target_supervised")

__all__ = ["ADAPTED", "ROWS", "SOURCE_ONLY", "STAGES", "TARGET_SUPERVISED", "RunFolder", "flatten", "read_run_folder"]


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
        run: ``run.json``: what the run was.
        results: ``results.json``: ``rows`` of scores, ``gap_recovered`` and ``finding``.
        config: the text of ``config.yaml``, if there.
        environment: ``environment.json``, empty if not there.
        curves: ``metrics/<stage>/metrics.csv`` by stage, in the order of training.
        examples: ``examples/examples.json``: annotated keyframes, each with people and predictions.
    """

    path: Path
    run: dict[str, Any]
    results: dict[str, Any]
    config: str | None
    environment: dict[str, Any]
    curves: dict[str, pd.DataFrame]
    examples: list[dict[str, Any]]

    @property
    def settings(self) -> dict[str, Any]:
        """``config.yaml`` as nested dictionaries; empty if it is missing or cannot be parsed."""
        with contextlib.suppress(*YAML_ERRORS):
            settings = yaml.safe_load(self.config or "")
            return settings if isinstance(settings, dict) else {}
        return {}

    @cached_property
    def target_test(self) -> TargetTest | None:
        """What is true of the target test set and what was said of it, if the tables are in the folder."""
        return self.read_test([row["name"] for row in self.results["rows"]])

    def read_test(self, variants: list[str]) -> TargetTest | None:
        """As :attr:`target_test`, of some detectors of the run only, and not kept."""
        return read_target_test(self.path, variants, self.run.get("protocol") or "corrected", self.settings)

    @cached_property
    def intervals(self) -> Intervals | None:
        """How sure the target scores are; None without the tables, or with too few source videos."""
        from microg_da.reporting.intervals import target_intervals

        return None if self.target_test is None else target_intervals(self.target_test)

    @cached_property
    def finding(self) -> Finding:
        """What the run found: as its results say, or, where these hold none, worked out from its tables.

        Raises:
            InputError: if the results hold a finding that cannot be understood.
        """
        if (found := read_finding(self.results, str(self.path / "results.json"))) is not None:
            return found
        target = None if self.target_test is None else self.target_test.truth
        return find(self.results["rows"], self.intervals, source=read_source_truth(self.path), target=target)

    def row(self, name: str) -> dict[str, Any] | None:
        """The row of ``results.json`` with this name (one of :data:`ROWS`), if the run has it."""
        return next((row for row in self.results["rows"] if row["name"] == name), None)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots, with their values as text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat


def read_run_folder(path: str | Path) -> RunFolder:
    """Read everything a report shows.

    Raises:
        InputError: if ``run.json`` or ``results.json`` is missing, or any file cannot be understood.
    """
    folder = Path(path)
    return RunFolder(
        path=folder,
        run=_read_object(folder / "run.json"),
        results=read_results(folder / "results.json"),
        config=_read_text(folder / "config.yaml"),
        environment=_read_object(folder / "environment.json", required=False),
        curves=_read_curves(folder / "metrics"),
        examples=_read_examples(folder / "examples" / "examples.json"),
    )


def read_results(path: Path) -> dict[str, Any]:
    """Read and check ``results.json``.

    Raises:
        InputError: if the file is missing, is not JSON, or its rows lack a name or target scores.
    """
    results = _read_object(path)
    rows = results.get("rows")
    if not isinstance(rows, list):
        raise InputError(f"{path}: no list under the key 'rows'. Is this the results.json of a microg_da run?")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.get("name") not in ROWS:
            raise InputError(f"{path}: row {number} needs a 'name', one of {', '.join(ROWS)}.")
        if not isinstance(row.get("target"), dict):
            raise InputError(f"{path}: row {row['name']!r} has no scores under the key 'target'.")
    return results


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}.") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds; None if there is no such file.

    Raises:
        InputError: if it cannot be read, or is not JSON.
    """
    text = _read_text(path)
    if text is None:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets nested as deep
        raise InputError(f"{path}: not JSON ({error}).") from error


def _read_object(path: Path, *, required: bool = True) -> dict[str, Any]:
    value = read_json(path)
    if value is None and required:
        raise InputError(f"{path} not found: a report is made from the folder of a run, runs/<experiment>/<name>.")
    if not isinstance(value, (dict, type(None))):
        raise InputError(f"{path}: expected one JSON object, found {type(value).__name__}.")
    return value or {}


def _read_examples(path: Path) -> list[dict[str, Any]]:
    examples = read_json(path) or []
    if not isinstance(examples, list) or not all(isinstance(e, dict) and "image" in e for e in examples):
        raise InputError(f"{path}: expected a list of objects that each name an 'image'.")
    return examples


def _read_curves(folder: Path) -> dict[str, pd.DataFrame]:
    found = {path.parent.name: path for path in sorted(folder.glob("*/metrics.csv"))}
    ordered = [stage for stage in STAGES if stage in found] + [stage for stage in found if stage not in STAGES]
    return {stage: _read_curve(found[stage]) for stage in ordered}


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a CSV of metrics ({error}).") from error
