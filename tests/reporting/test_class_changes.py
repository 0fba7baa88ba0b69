"""Differences of every class between settings, against plain arithmetic."""

from __future__ import annotations

import json
import math
import statistics

import pytest

from microg_da.cli import main
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.class_changes import OWN_SOURCE_ONLY, class_changes
from microg_da.reporting.run_comparison import compare_runs


@pytest.fixture
def make(make_run):
    """A run of a method whose results are random, by seed."""

    def run(method: str, seed: int, levels: dict | None = None) -> RunAnalysis:
        options = {} if levels is None else {"levels": levels}
        folder = make_run(f"{method}-{seed}", seed=seed + 100 * len(method), examples=0, **options)
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(record | {"adaptation": method, "seed": seed}))
        return RunAnalysis.read(folder)

    return run


def ap(run: RunAnalysis, variant: str = "adapted") -> dict[int, float]:
    return run.results.get(variant).target.per_class.set_index("action_id")["ap"].dropna().to_dict()


def test_differences_are_taken_seed_by_seed(make):
    runs = [make("adabn", 0), make("adabn", 1), make("dann", 1), make("dann", 0), make("dann", 7)]
    reference, (dann,) = class_changes(runs, ["adabn", "adabn", "dann", "dann", "dann"], "adabn")
    assert (reference, dann.name) == ("adabn", "dann")
    for action, change in dann.classes.items():
        wanted = {0: ap(runs[3])[action] - ap(runs[0])[action], 1: ap(runs[2])[action] - ap(runs[1])[action]}
        assert dict(change.seeds) == pytest.approx(wanted)
        assert change.mean == pytest.approx(statistics.mean(wanted.values()))
        assert change.deviation == pytest.approx(statistics.stdev(wanted.values()))
    assert set(dann.classes) == set(ap(runs[0]))  # and not the class without ground truth
    assert dann.largest == max(abs(value) for change in dann.classes.values() for _, value in change.seeds)
    assert [c.mean for _, c in dann.ordered] == sorted((c.mean for c in dann.classes.values()), reverse=True)


def test_groups_are_means_over_their_classes(make):
    _, (dann,) = class_changes([make("adabn", 0), make("dann", 0)], ["adabn", "dann"], "adabn")
    assert list(dann.groups) == ["PM", "OM", "PI"]
    for group, change in dann.groups.items():
        members = [c for c in dann.classes.values() if c.group == group]
        assert change.mean == pytest.approx(statistics.mean(c.mean for c in members))
        assert change.support == sum(c.support for c in members)
        assert math.isnan(change.deviation)


def test_one_setting_is_compared_with_its_own_source_only_models(make):
    runs = [make("dann", 0), make("dann", 1)]
    reference, (dann,) = class_changes(runs, ["dann", "dann"], "dann")
    assert reference == OWN_SOURCE_ONLY
    wanted = [ap(run)[12] - ap(run, "source_only")[12] for run in runs]
    assert [value for _, value in dann.classes[12].seeds] == pytest.approx(wanted)


def test_repeats_of_a_seed_count_once(make):
    baseline, first, second = make("adabn", 0), make("dann", 0), make("self_training", 0)
    _, (both,) = class_changes([baseline, first, second], ["adabn", "dann", "dann"], "adabn")
    wanted = (ap(first)[12] + ap(second)[12]) / 2 - ap(baseline)[12]
    assert both.classes[12].seeds == [(0, pytest.approx(wanted))]


def test_what_was_not_adapted_counts_as_it_is(make):
    bare = make("source_only", 0, {("source_only", "target"): 0.3})
    dann = make("dann", 0)
    _, (found,) = class_changes([bare, dann], ["source_only", "dann"], "source_only")
    assert found.classes[12].seeds[0][1] == pytest.approx(ap(dann)[12] - ap(bare, "source_only")[12])


def test_nothing_to_compare(make):
    bare = make("source_only", 0, {("source_only", "target"): 0.3})
    assert class_changes([bare], ["source_only"], "source_only") == (OWN_SOURCE_ONLY, [])
    assert class_changes([bare, make("dann", 5)], ["source_only", "dann"], "source_only")[1] == []


def test_the_command_prints_them_as_json(make, capsys):
    runs = [make("adabn", 0), make("dann", 0)]
    assert main(["compare", "--json", *(str(run.run.path) for run in runs)]) == 0
    output = json.loads(capsys.readouterr().out)
    found = compare_runs([run.run.path for run in runs])
    assert output["reference"] == "adabn"
    assert output["changes"][0]["classes"]["12"]["mean"] == pytest.approx(found.changes[0].classes[12].mean)
