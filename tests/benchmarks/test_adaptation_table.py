"""What the comparison's table says of validators, from a table of which the answers are known."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import create_adaptation
from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.runs.record import RunRecord, write_record

TEXTS = ("experiment", "description", "name", "source", "target", "selection", "protocol", "adaptation", "created")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        spec = importlib.util.spec_from_file_location("adaptation_benchmark", BENCHMARKS / "adaptation.py")
        module = importlib.util.module_from_spec(spec)

        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


def test_rows_that_differ_in_settings_alone_are_one_family(benchmark):
    plain = benchmark.Row("dann")
    tuned = [
        benchmark.Row("dann", args={"weight": 0.3}),
        benchmark.Row("dann", lr=1e-4),
        benchmark.Row("dann", epochs=3),
    ]
    assert {row.family for row in tuned} == {plain.family} == {"dann"}
    assert plain.is_default
    assert not any(row.is_default for row in tuned)
    assert benchmark.Row("dann", rotation=180).family != plain.family
    assert benchmark.Row("dann", test_time="roll_tta").family != plain.family


def lines():
    rows = [
        # method, family, default, score, target mAP
        ("dann", "dann", True, 0.1, 30.0),
        ("dann (weight=0.3)", "dann", False, 0.3, 36.0),
        ("dann (weight=1)", "dann", False, 0.2, 33.0),
        ("mcc", "mcc", True, 0.9, 28.0),
        ("source_only", None, None, 0.0, 29.0),
        ("target_supervised (oracle)", None, None, 5.0, 80.0),
    ]
    table = pd.DataFrame(rows, columns=["method", "family", "default", "validator/good", "target_map"])
    return table.assign(seed=0, collapsed=False)


def test_a_validator_is_measured_between_methods_and_within_settings(benchmark):
    (line,) = [line for line in benchmark.choices(lines()).itertuples() if line.validator == "good"]
    assert line.chosen == "mcc"  # the oracle is no candidate
    assert line.regret == pytest.approx(36 - 28)
    assert -1 < line.rank_correlation < 1
    assert (line.within, line.families) == (pytest.approx(1.0), 1)
    assert line.over_default == pytest.approx(6.0)
    assert "+6.0" in benchmark.markdown(pd.DataFrame(), benchmark.choices(lines()))


def test_without_settings_to_choose_among_nothing_is_said_of_them(benchmark):
    table = lines()[lines()["method"].isin(["dann", "mcc", "source_only"])]
    line = next(benchmark.choices(table).itertuples())
    assert math.isnan(line.within)
    assert math.isnan(line.over_default)
    assert "| – | – |" in benchmark.markdown(pd.DataFrame(), benchmark.choices(table))


def described(benchmark, pair):
    return benchmark.read_pairs()[pair].rows


def test_every_method_without_target_labels_has_a_row(benchmark):
    rows = described(benchmark, "ava2microg")
    methods = {name for name in ADAPTATIONS if not ADAPTATIONS.load(name).uses_target_labels} - {"source_only"}
    assert {row.method for row in rows} == methods


def seeds_of(**methods):
    """A table of target mAP by method and seed, each method with its control."""
    rows = [
        {"method": name, "seed": seed, "target_map": value, "control": control}
        for name, (control, values) in methods.items()
        for seed, value in enumerate(values)
    ]
    facts = {"source_map": 90.0, "gain": 0.0, "gap": 0.0, "seconds": 1.0, "memory": 1.0, "collapsed": 0, "knows": ""}
    return pd.DataFrame(rows).assign(**facts)


def test_methods_are_tested_against_their_controls_seed_by_seed(benchmark):
    generator = np.random.default_rng(0)
    base = generator.normal(50, 5, 5)
    better, worse = base + generator.normal(3, 0.1, 5), base + generator.normal(0, 1, 5)
    table = seeds_of(source_only=(None, base), better=("source_only", better), worse=("better", worse))
    found = benchmark.summarise(table)
    assert math.isnan(found.loc["source_only", "p"])
    expected = [stats.ttest_rel(better, base), stats.ttest_rel(worse, better)]
    for name, test in zip(("better", "worse"), expected, strict=True):
        line, interval = found.loc[name], test.confidence_interval(0.95)
        assert line["p"] == pytest.approx(test.pvalue)
        assert line["over_control"] - line["half_width"] == pytest.approx(interval.low)
        assert line["over_control"] + line["half_width"] == pytest.approx(interval.high)
    lower, higher = sorted(found["p"].dropna())
    assert found["p_holm"].min() == pytest.approx(2 * lower)
    assert found["p_holm"].max() == pytest.approx(max(2 * lower, higher))
    assert sys.modules["adaptation_tables"].verdict(next(found.loc[["better"]].itertuples())) == "gain, significant"
    assert "| better |" in benchmark.markdown(found, pd.DataFrame())


def test_of_one_seed_differences_are_given_and_nothing_is_tested(benchmark):
    found = benchmark.summarise(seeds_of(source_only=(None, [50.0]), dann=("source_only", [52.0])))
    assert found.loc["dann", "over_control"] == pytest.approx(2.0)
    assert math.isnan(found.loc["dann", "p_holm"])
    assert "+2.0" in benchmark.markdown(found, pd.DataFrame())


def test_methods_that_train_with_source_clips_have_the_same_training_as_their_control(benchmark):
    rows = described(benchmark, "ava2microg")
    expected = {
        "dann": "source_finetune",
        "dann + rotation 180°": "source_finetune + rotation 180°",
        "cdan + roll_tta (adabn=True)": "source_finetune + roll_tta (adabn=True)",
        **{"sada": "dann", "dru": "pets", "rotta": "adabn", "aad": "source_only", "tent": "source_only"},
    }
    found = {row.label: benchmark.control_of(row, rows) for row in rows}
    assert expected.items() <= found.items()
    with pytest.raises(InputError, match="source_finetune"):
        benchmark.control_of(benchmark.Row("dann"), [])


def test_chosen_rows_bring_their_controls_and_what_they_start_from(benchmark):
    rows = described(benchmark, "ava2microg")
    assert [row.label for row in benchmark.chosen_rows(rows, ["sada"])] == ["dann", "sada"]
    assert "cdan + roll_tta (adabn=True)" in {
        row.label for row in benchmark.chosen_rows(rows, ["adabn", "cdan, then*"])
    }
    with pytest.raises(InputError, match=r"'nothing\*'"):
        benchmark.chosen_rows(rows, ["dann", "nothing*"])


def test_a_table_is_written_into_its_place_of_a_page(benchmark, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: one -->\nold\n<!-- end of table -->\nb\n<!-- table: two -->\n")
    benchmark.write_into(page, "one", "new\n")
    benchmark.write_into(page, "one", "newer\n")
    assert page.read_text().startswith("a\n<!-- table: one -->\n\nnewer\n\n<!-- end of table -->\nb\n")
    with pytest.raises(InputError, match="two"):
        benchmark.write_into(page, "two", "new\n")


@pytest.mark.parametrize("storage", [None, "sqlite", "journal"])
def test_finished_runs_are_not_run_again_and_phases_wait_for_one_another(benchmark, tmp_path, monkeypatch, storage):
    rows = [benchmark.Row("dann"), benchmark.Row("source_finetune"), benchmark.Row("self_training", after="dann")]
    comparison = benchmark.Comparison(benchmark.Pair("one", "ava2microg", [], rows), rows, [0, 1], tmp_path, [])
    started = []

    def fit(_, folder, seed, overrides):
        started.append(folder.name)
        if folder.name == "source_finetune-seed1" and started.count(folder.name) == 1:
            return "out of memory"
        folder.mkdir(parents=True)
        texts = dict.fromkeys(TEXTS, "")
        record = RunRecord(**texts, seed=seed, embedded_data=True, notice=None, oracle=False, status="finished")
        write_record(record, folder / "run.json")
        return None

    monkeypatch.setattr(benchmark, "fit", fit)
    url = storage and f"{storage}:///{tmp_path}/study"
    assert benchmark.run_all(comparison, 2, url, Console(quiet=True)) == ["out of memory"]
    assert len(started) == len(set(started)) == 2 * 4
    assert set(started[:2]) == {"source-seed0", "source-seed1"}
    assert all(name.startswith("dann--then") for name in started[-2:])
    assert benchmark.run_all(comparison, 2, url, Console(quiet=True)) == []
    assert started[8:] == ["source_finetune-seed1"]


@pytest.mark.parametrize("pair", ["ava2microg", "label_shift", "sim2real", "weightless"])
def test_rows_have_labels_of_their_own_and_configurations_that_can_be(benchmark, pair):
    domains = benchmark.read_pairs()[pair]
    rows = domains.rows
    assert len({row.folder for row in rows}) == len({row.label for row in rows}) == len(rows)
    assert {row.after for row in rows if row.after} <= {row.label for row in rows}
    for row in rows:
        assert benchmark.control_of(row, rows) != row.label
        config = load_config(domains.experiment, [*domains.overrides, *row.overrides()])
        create_adaptation(row.method, config.adaptation.args, feature_dim=8, num_classes=3)
        if row.test_time:
            create_adaptation(row.test_time, config.adaptation.test_time_args, feature_dim=8, num_classes=3)
