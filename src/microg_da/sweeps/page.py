"""The HTML page of a sweep: plots and all trials, in one self-contained file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState

from microg_da.errors import InputError, first_line
from microg_da.files import write_text
from microg_da.reporting.report import environment
from microg_da.sweeps.distributions import Choice, Parameter, Range
from microg_da.sweeps.results import STATES, SweepResults, number

_PARALLEL = "Parallel coordinates"


def write_page(results: SweepResults, path: Path) -> Path:
    """Write a self-contained HTML page with plots and all trials.

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
    text = template.render(results=results, plots=plots, plotlyjs=script, number=number, states=STATES)
    return write_text(path, text)


def _plots(results: SweepResults) -> list[tuple[str, str | None, str]]:
    """Return title, HTML and, for a missing plot, the reason."""
    from optuna import visualization

    from microg_da.sweeps.plots import parallel_coordinates  # needs plotly

    study, metric = readable_study(results), results.sweep.metric
    label = metric.name if metric else "metric"
    importances = optuna.importance.FanovaImportanceEvaluator(seed=0)
    makers: dict[str, Callable[[], Any]] = {  # plotly has no type annotations
        _PARALLEL: lambda: parallel_coordinates(results),
        "Importance of parameters": lambda: visualization.plot_param_importances(study, evaluator=importances),
        "History": lambda: visualization.plot_optimization_history(study, target_name=label),
    }
    plots: list[tuple[str, str | None, str]] = []
    for title, make in makers.items():
        if len(results.complete) < 2 or results.sweep.metric is None:
            plots.append((title, None, "Plots need at least two complete trials with a metric."))
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
        # Closer axes are not legible, so on a narrow screen the plot scrolls.
        width = 5 * (1 + len(results.sweep.varied)) if title == _PARALLEL else 0
        drawn = figure.to_html(full_html=False, include_plotlyjs=False)
        plots.append((title, f'<div style="min-width: {width}rem">{drawn}</div>', ""))
    return plots


def readable_study(results: SweepResults) -> Study:
    """Return a study in memory with the complete trials, in which quantiles are replaced by values.

    Trials keep their numbers: failed trials without parameters fill the gaps.
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
