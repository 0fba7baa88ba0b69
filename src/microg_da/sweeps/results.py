"""The results of a sweep: its trials as a table and as JSON, and the best configuration as an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.table import Table
from rich.text import Text

from microg_da.adaptation import uses_target_labels
from microg_da.files import write_json, write_text
from microg_da.reporting.numbers import MISSING
from microg_da.reporting.run_comparison import EMBEDDED_NOTE
from microg_da.reporting.tables import duration
from microg_da.sweeps.file import SweepFile, nest
from microg_da.sweeps.study import counting_trials

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STATES = {TrialState.COMPLETE: "", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class SweepResults:
    """The trials of a sweep, best first.

    Attributes:
        sweep: the sweep file.
        study: the study of the trials.
        trials: finished trials: complete trials by value, then pruned, then failed trials.
        oracle: whether target labels took part in the selection.
        notes: notes for readers.
    """

    sweep: SweepFile
    study: Study
    trials: list[FrozenTrial]
    oracle: bool
    notes: list[str]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials with a value, best first."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The best trial; None without a complete trial or a metric."""
        return self.complete[0] if self.complete and self.sweep.metric else None


def read_results(sweep: SweepFile, study: Study) -> SweepResults:
    """Read all finished trials of a study."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    finished = [trial for trial in counting_trials(study) if trial.state in _FINISHED]
    finished.sort(key=lambda t: (_FINISHED.index(t.state), sign * (t.value or 0.0), t.number))
    config = sweep.request({name: parameter.examples()[0] for name, parameter in sweep.parameters.items()}).config()
    notes = []
    if uses_target_labels(config):
        notes.append("Oracle: target labels were used for selection, so test scores on the target are optimistic.")
    if any(source.startswith("synthetic:") for source in (config.data.source, config.data.target)):
        notes.append(EMBEDDED_NOTE)
    spec = sweep.content.get("metric")
    ignored = [key for key in ("impute", "impute_while_running") if isinstance(spec, dict) and key in spec]
    if ignored:
        notes.append(f"metric.{' and metric.'.join(ignored)} affects only W&B's search and is ignored.")
    return SweepResults(sweep, study, finished, uses_target_labels(config), notes)


def trials_table(results: SweepResults, most: int = 20) -> Table:
    """Return a table of the best trials for the terminal, with the varied parameters."""
    sweep = results.sweep
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False)
    oracle = " (oracle)" if results.oracle else ""
    table.add_column("trial", justify="right")
    table.add_column(f"{sweep.metric.name}{oracle}" if sweep.metric else "metric", justify="right")
    for name in sweep.varied:
        table.add_column(Text(name), overflow="fold")
    table.add_column("time", justify="right")
    table.add_column("", overflow="fold")
    for trial in results.trials[:most]:
        values = trial.user_attrs.get("values", {})
        state = ": ".join(text for text in (STATES[trial.state], trial.user_attrs.get("reason", "")) if text)
        table.add_row(
            str(trial.number),
            number(trial.value) if trial.state == TrialState.COMPLETE and sweep.metric else MISSING,
            *(Text(number(values.get(name))) for name in sweep.varied),
            duration(trial.user_attrs.get("seconds")),
            Text(state),
            style="bold" if results.best is not None and trial.number == results.best.number else None,
        )
    if len(results.trials) > most:
        table.caption = f"{len(results.trials) - most} more trials are on the page"
    return table


def number(value: Any) -> str:
    """Format a value with four significant digits; return text unchanged."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return MISSING if value is None else str(value)


def write_record(results: SweepResults, path: Path) -> Path:
    """Write all finished trials as JSON."""
    trials = [
        {
            "number": trial.number,
            "state": STATES[trial.state] or "complete",
            "value": trial.value if results.sweep.metric else None,
            "values": trial.user_attrs.get("values", {}),
            "seconds": trial.user_attrs.get("seconds"),
            "reason": trial.user_attrs.get("reason", ""),
            "run": trial.user_attrs.get("run"),
        }
        for trial in results.trials
    ]
    metric = results.sweep.metric.name if results.sweep.metric else None
    record = {"name": results.study.study_name, "metric": metric, "oracle": results.oracle, "notes": results.notes}
    return write_json(path, {**record, "trials": trials})


def write_best(results: SweepResults, path: Path) -> Path | None:
    """Write the configuration of the best trial as an experiment for ``fit``; return None without a best trial."""
    best, metric = results.best, results.sweep.metric
    if best is None or metric is None:
        return None
    experiment = best.user_attrs["experiment"] or "ava2microg"
    named_file = experiment.endswith((".yaml", ".yml")) or "/" in experiment
    keys = {key: value for key, value in best.user_attrs["keys"].items() if key not in ("logger", "experiment")}
    summary = f"{metric.name} {best.value:.4f}, trial {best.number} of {len(results.trials)}"
    content = {
        "base": str(Path(experiment).resolve()) if named_file else experiment,
        "experiment": f"{results.study.study_name}-best",
        "description": f"best of the sweep {results.study.study_name}: {summary}"
        + (", oracle" if results.oracle else ""),
        **nest({tuple(key.split(".")): value for key, value in keys.items()}),
    }
    head = f"# {content['description']}\n# python -m microg_da fit --experiment {path}\n"
    return write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
