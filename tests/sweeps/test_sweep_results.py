"""The table, the page and the best experiment."""

import dataclasses
import io
import math
import re

import numpy as np
import optuna
import pytest
from rich.console import Console

from microg_da.adaptation import uses_target_labels
from microg_da.config import load_config
from microg_da.sweeps.file import read_sweep
from microg_da.sweeps.page import readable_study, write_page
from microg_da.sweeps.plots import _number_axis, axes_of
from microg_da.sweeps.results import read_results, trials_table, write_best
from microg_da.sweeps.trial import TrialRunner
from microg_da.sweeps.worker import Plan, run_plan

NASTY = "</script><script>alert(1)</script>"


@pytest.fixture
def run_sweep(tmp_path, monkeypatch):
    """Run a sweep file, its trials without processes, and read its results."""

    def without_process(runner, trial, values):
        request = runner.sweep.request(values)
        trial.set_user_attr("experiment", request.experiment)
        trial.set_user_attr("keys", request.keys())
        return values["training.lr"]

    monkeypatch.setattr(TrialRunner, "run", without_process)

    def run(path, trials=5):
        folder = tmp_path / "runs"
        plan = Plan(str(path), path.stem, folder, f"sqlite:///{folder}/study.db", trials)
        study = run_plan(plan, 1, Console(quiet=True))
        return read_results(read_sweep(str(path), check=False), study)

    return run


@pytest.fixture
def results(make_quick_sweep, run_sweep):
    """A finished sweep over every kind of parameter, one of its values hostile."""
    parameters = {
        "training.lr": {"distribution": "log_normal", "mu": -4.0, "sigma": 1.0},
        "augment.scale": {"values": [[0.9, 1.1], [1.0, 1.2]]},
        "description": {"values": [NASTY, "plain"]},
        "augment.flip": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
    }
    return run_sweep(make_quick_sweep(parameters=parameters))


def text_of(table):
    console = Console(width=400, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_the_table_leads_with_the_best(results):
    values = [trial.value for trial in results.complete]
    assert values == sorted(values, reverse=True)
    lines = [line for line in text_of(trials_table(results)).splitlines() if re.match(r"\s+\d", line)]
    assert len(lines) == 5
    assert f"{values[0]:.4g}" in lines[0]


def test_the_best_configuration_is_an_experiment_that_fit_takes(results, tmp_path):
    best = write_best(results, tmp_path / "best.yaml")
    loaded, drawn = load_config(str(best)), results.best.user_attrs["values"]
    original = results.sweep.request(drawn).config()
    assert (loaded.training, loaded.augment, loaded.model) == (original.training, original.augment, original.model)
    assert loaded.training.lr == drawn["training.lr"]
    assert loaded.experiment == "quick-best"


def test_the_page_holds_everything_and_escapes_what_users_wrote(results, tmp_path):
    page = write_page(results, tmp_path / "sweep.html").read_text()
    for title in ("Parallel coordinates", "Importance of parameters", "History"):
        assert title in page
    assert page.count("Plotly.newPlot(") >= 3
    assert "Not drawn" not in page
    assert "alert(1)" in page
    assert NASTY not in page
    # Whatever it needs is inside.
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_plots_show_the_values_and_not_the_quantiles_that_optuna_keeps(results):
    shown = {trial.number: trial.params["training.lr"] for trial in readable_study(results).trials}
    assert shown == {trial.number: trial.user_attrs["values"]["training.lr"] for trial in results.complete}
    assert readable_study(results).best_value == results.best.value


def test_the_history_shows_each_trial_at_its_own_number(results, tmp_path, monkeypatch):
    # One of them has failed: its number stays free.
    failed = results.complete[2]
    results = dataclasses.replace(results, trials=[trial for trial in results.trials if trial is not failed])
    drawn = {}
    original = optuna.visualization.plot_optimization_history

    def record(*args, **options):
        drawn["figure"] = original(*args, **options)
        return drawn["figure"]

    monkeypatch.setattr(optuna.visualization, "plot_optimization_history", record)
    write_page(results, tmp_path / "sweep.html")
    points = next(trace for trace in drawn["figure"].data if trace.mode == "markers")
    shown = {x: y for x, y in zip(points.x, points.y, strict=True) if not math.isnan(y)}
    assert shown == {trial.number: trial.value for trial in results.complete}
    assert failed.number not in shown
    assert drawn["figure"].layout.yaxis.title.text == "adapt-val/map"


def test_the_ticks_of_every_axis_are_distinct_and_where_they_belong(results):
    for axis, values in zip(
        axes_of(results),
        [[t.value for t in results.complete]]
        + [[t.user_attrs["values"][name] for t in results.complete] for name in results.sweep.varied],
        strict=True,
    ):
        texts = [text for _, text in axis.ticks]
        assert len(set(texts)) == len(texts), axis.name
        assert all(-1e-6 <= place <= 1 + 1e-6 for place in [*axis.places, *(place for place, _ in axis.ticks)])
        # The order of trials along an axis of numbers is that of their values.
        if all(isinstance(value, float) for value in values):
            assert np.argsort(axis.places, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"), [(0.33181, 0.33184), (0.01, 1), (1e-6, 10), (0.0998, 0.1003), (3e-5, 4e-5), (1, 3), (0.5, 0.5)]
)
def test_numbers_that_lie_close_or_far_apart_have_ticks_that_can_be_told_apart(low, high, log):
    axis = _number_axis("x", [low, high], log=log)
    texts = [text for _, text in axis.ticks]
    assert len(set(texts)) == len(texts)
    assert len(texts) >= (2 if high > low else 1)
    if high > low:
        # A tick stands where its text says.
        scale = np.log if log else np.asarray
        expected = (scale(np.array(texts, float)) - scale(low)) / (scale(high) - scale(low))
        np.testing.assert_allclose([place for place, _ in axis.ticks], expected, atol=1e-6)


def test_a_choice_shows_its_values_in_order(make_quick_sweep, run_sweep):
    names = ["the same beginning of many letters, a", "the same beginning of many letters, b"]
    parameters = {"training.lr": {"values": [0.002, 0.001, 0.01]}, "description": {"values": names}}
    results = run_sweep(make_quick_sweep(method="grid", parameters=parameters), 6)
    ticks = {axis.name: [text for _, text in axis.ticks] for axis in axes_of(results)}
    assert ticks["training.lr"] == ["0.001", "0.002", "0.01"]
    assert ticks["description"] == names


def test_a_sweep_by_target_labels_says_oracle_on_every_output(make_quick_sweep, run_sweep, tmp_path):
    parameters = {"training.lr": {"min": 0.1, "max": 0.2}, "oracle": {"value": True}}
    metric = {"name": "adapted/target_map", "goal": "maximize"}
    results = run_sweep(make_quick_sweep(metric=metric, parameters=parameters), 2)
    assert "oracle" in text_of(trials_table(results))
    assert any("Oracle" in note for note in results.notes)
    assert '<span class="stamp strong">oracle</span>' in write_page(results, tmp_path / "sweep.html").read_text()
    best = write_best(results, tmp_path / "best.yaml")
    assert "oracle" in best.read_text().splitlines()[0]
    # Whoever runs the best configuration later is told as well.
    assert uses_target_labels(load_config(str(best)))


def test_without_a_metric_or_a_complete_trial_there_is_no_best(make_quick_sweep, run_sweep, tmp_path):
    results = run_sweep(make_quick_sweep(metric=None), 2)
    assert write_best(results, tmp_path / "best.yaml") is None
    assert "at least two complete trials" in write_page(results, tmp_path / "sweep.html").read_text()
    assert len(results.complete) == 2


def test_one_trial_alone_makes_a_page(make_quick_sweep, run_sweep, tmp_path):
    results = run_sweep(make_quick_sweep(), 1)
    assert write_page(results, tmp_path / "sweep.html").stat().st_size < 100_000
