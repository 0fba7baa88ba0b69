"""What a sweep found: a table, one page that opens anywhere, and the best configuration as an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.table import Table
from rich.text import Text

from microg_da.errors import InputError, first_line
from microg_da.files import write_json, write_text
from microg_da.reporting.report import environment
from microg_da.reporting.run_comparison import EMBEDDED_NOTE
from microg_da.reporting.tables import MISSING, duration
from microg_da.sweeps.distributions import Choice, Parameter, Range
from microg_da.sweeps.file import SweepFile
from microg_da.sweeps.study import counting_trials

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_PARALLEL = "Parallel coordinates"
_STATES = {TrialState.COMPLETE: "", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class SweepResults:
    """The trials of a sweep, best first.

    Attributes:
        sweep: the file.
        study: where they are stored.
        trials: finished ones: complete by value, then pruned, then failed.
        oracle: whether target labels took part in the choice.
        notes: what a reader must know.
    """

    sweep: SweepFile
    study: Study
    trials: list[FrozenTrial]
    oracle: bool
    notes: list[str]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that have a value, best first."""
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The best trial; None where none is complete or nothing is optimised."""
        return self.complete[0] if self.complete and self.sweep.metric else None


def read_results(sweep: SweepFile, study: Study) -> SweepResults:
    """Everything that has finished in a study so far."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    finished = [trial for trial in counting_trials(study) if trial.state in _FINISHED]
    finished.sort(key=lambda t: (_FINISHED.index(t.state), sign * (t.value or 0.0), t.number))
    config = sweep.request({name: parameter.examples()[0] for name, parameter in sweep.parameters.items()}).config()
    notes = []
    if config.uses_target_labels:
        notes.append("Oracle: target labels took part in choosing, so that a test on them says too much.")
    if any(source.startswith("synthetic:") for source in (config.data.source, config.data.target)):
        notes.append(EMBEDDED_NOTE)
    metric = sweep.content.get("metric") or {}
    ignored = [key for key in ("impute", "impute_while_running") if key in metric]
    if ignored:
        notes.append(f"metric.{' and metric.'.join(ignored)} concerns W&B's own search and has no part in this one.")
    return SweepResults(sweep, study, finished, config.uses_target_labels, notes)


def results_table(results: SweepResults, most: int = 20) -> Table:
    """The best trials for the terminal, with all that was varied."""
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
        state = ": ".join(text for text in (_STATES[trial.state], trial.user_attrs.get("reason", "")) if text)
        table.add_row(
            str(trial.number),
            number(trial.value) if trial.state == TrialState.COMPLETE and sweep.metric else MISSING,
            *(Text(number(values.get(name))) for name in sweep.varied),
            duration(trial.user_attrs.get("seconds")),
            Text(state),
            style="bold" if results.best is not None and trial.number == results.best.number else None,
        )
    if len(results.trials) > most:
        table.caption = f"and {len(results.trials) - most} more, on the page"
    return table


def number(value: Any) -> str:
    """A value as people read it: four significant digits, text as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return MISSING if value is None else str(value)


def write_record(results: SweepResults, path: Path) -> Path:
    """Every finished trial as JSON, for programs and for other pages."""
    trials = [
        {
            "number": trial.number,
            "state": _STATES[trial.state] or "complete",
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
    """The best trial's configuration as an experiment for ``fit --experiment``; None where there is no best one."""
    best, metric = results.best, results.sweep.metric
    if best is None or metric is None:
        return None
    experiment = best.user_attrs["experiment"] or "ava2microg"
    named_file = experiment.endswith((".yaml", ".yml")) or "/" in experiment
    keys = {key: value for key, value in best.user_attrs["keys"].items() if key not in ("logger", "experiment")}
    said = f"{metric.name} {best.value:.4f}, trial {best.number} of {len(results.trials)}"
    content = {
        "base": str(Path(experiment).resolve()) if named_file else experiment,
        "experiment": f"{results.study.study_name}-best",
        "description": f"best of the sweep {results.study.study_name}: {said}" + (", oracle" if results.oracle else ""),
        **_nested(keys),
    }
    head = f"# {content['description']}\n# python -m microg_da fit --experiment {path}\n"
    return write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _nested(keys: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as YAML has them, a section's together."""
    nested: dict[str, Any] = {}
    for key, value in keys.items():
        *sections, leaf = key.split(".")
        inside = nested
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[leaf] = value
    return nested


# ---------------------------------------------------------------------------------------------------------- page


def write_page(results: SweepResults, path: Path) -> Path:
    """One self-contained HTML page: plots, and every trial.

    Raises:
        InputError: if plotly is not installed, or the file cannot be written.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise InputError("the page of a sweep needs the package plotly: pip install 'microg_da[optuna]'.") from error
    template = environment().get_template("sweep.html.j2")
    plots = _plots(results)
    script = get_plotlyjs() if any(figure for _, figure, _ in plots) else ""
    text = template.render(results=results, plots=plots, plotlyjs=script, number=number, states=_STATES)
    return write_text(path, text)


def _plots(results: SweepResults) -> list[tuple[str, str | None, str]]:
    """Title, HTML and what to say instead where there is nothing to draw."""
    from optuna import visualization

    from microg_da.sweeps.plots import parallel_coordinates

    study, metric = readable_study(results), results.sweep.metric
    label = metric.name if metric else "metric"
    importances = optuna.importance.FanovaImportanceEvaluator(seed=0)
    makers = {
        _PARALLEL: lambda: parallel_coordinates(results),
        "Importance of parameters": lambda: visualization.plot_param_importances(study, evaluator=importances),
        "History": lambda: visualization.plot_optimization_history(study, target_name=label),
    }
    plots: list[tuple[str, str | None, str]] = []
    for title, make in makers.items():
        if len(results.complete) < 2 or results.sweep.metric is None:
            plots.append((title, None, "Nothing to draw with fewer than two complete trials of a metric."))
            continue
        try:
            figure = make()
        except (ValueError, RuntimeError, ImportError) as error:
            plots.append((title, None, f"Not drawn: {first_line(error)}"))
            continue
        figure.update_layout(
            title=None, paper_bgcolor="white", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
        )
        figure.update_layout(margin={"t": 70, "b": 50, "l": 40, "r": 30})
        # Axes that stand closer cannot be read: on a narrow screen the plot scrolls.
        width = 5 * (1 + len(results.sweep.varied)) if title == _PARALLEL else 0
        drawn = figure.to_html(full_html=False, include_plotlyjs=False)
        plots.append((title, f'<div style="min-width: {width}rem">{drawn}</div>', ""))
    return plots


def readable_study(results: SweepResults) -> Study:
    """The complete trials in memory, with each parameter's own values where Optuna has stored its quantiles.

    Each keeps its number: failed trials without parameters fill the numbers between them.
    """
    study = optuna.create_study(direction=results.study.direction)
    complete = sorted(results.complete, key=lambda trial: trial.number)
    drawn = {name: [t.user_attrs["values"][name] for t in complete] for name in results.sweep.varied}
    shown = {name: p for name, p in results.sweep.varied.items() if drawn[name]}
    axes = {name: _axis(parameter, drawn[name]) for name, parameter in shown.items()}
    for i, trial in enumerate(complete):
        study.add_trials([optuna.create_trial(state=TrialState.FAIL)] * (trial.number - len(study.trials)))
        params = {name: _label(parameter, drawn[name][i]) for name, parameter in shown.items()}
        study.add_trial(optuna.create_trial(value=trial.value, params=params, distributions=axes))
    return study


def _axis(parameter: Parameter, values: list[Any]) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.labels)
    if isinstance(parameter, Range):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(list(dict.fromkeys(map(str, values))))


def _label(parameter: Parameter, value: Any) -> Any:
    if isinstance(parameter, Choice):
        return parameter.labels[parameter.values.index(value)]
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if numeric else str(value)
