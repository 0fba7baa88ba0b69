"""The table, the page and the best experiment."""

import io
import re

import pytest
from rich.console import Console

from microg_da.config import load_config
from microg_da.sweeps.file import read_sweep
from microg_da.sweeps.results import read_results, readable_study, results_table, write_best, write_page
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
    lines = [line for line in text_of(results_table(results)).splitlines() if re.match(r"\s+\d", line)]
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
    shown = readable_study(results)
    assert [t.params["training.lr"] for t in shown.trials] == [
        t.user_attrs["values"]["training.lr"] for t in results.complete
    ]
    assert shown.best_value == results.best.value


def test_a_sweep_by_target_labels_says_oracle_on_every_output(make_quick_sweep, run_sweep, tmp_path):
    parameters = {"training.lr": {"min": 0.1, "max": 0.2}, "oracle": {"value": True}}
    metric = {"name": "adapted/target_map", "goal": "maximize"}
    results = run_sweep(make_quick_sweep(metric=metric, parameters=parameters), 2)
    assert "oracle" in text_of(results_table(results))
    assert any("Oracle" in note for note in results.notes)
    assert '<span class="stamp strong">oracle</span>' in write_page(results, tmp_path / "sweep.html").read_text()
    best = write_best(results, tmp_path / "best.yaml")
    assert "oracle" in best.read_text().splitlines()[0]
    # Whoever runs the best configuration later is told as well.
    assert load_config(str(best)).uses_target_labels


def test_without_a_metric_or_a_complete_trial_there_is_no_best(make_quick_sweep, run_sweep, tmp_path):
    results = run_sweep(make_quick_sweep(metric=None), 2)
    assert write_best(results, tmp_path / "best.yaml") is None
    assert "Nothing to draw" in write_page(results, tmp_path / "sweep.html").read_text()
    assert len(results.complete) == 2


def test_one_trial_alone_makes_a_page(make_quick_sweep, run_sweep, tmp_path):
    results = run_sweep(make_quick_sweep(), 1)
    assert write_page(results, tmp_path / "sweep.html").stat().st_size < 100_000
