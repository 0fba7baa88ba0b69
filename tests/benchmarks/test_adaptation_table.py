"""What the comparison's table says of validators, from a table of which the answers are known."""

import importlib.util
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import create_adaptation
from microg_da.config import load_config

FILE = Path(__file__).parents[2] / "benchmarks" / "adaptation.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("adaptation_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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
    return [benchmark.Row(**line) for line in OmegaConf.to_container(OmegaConf.load(benchmark.ROWS))["pairs"][pair]]


def test_every_method_without_target_labels_has_a_row(benchmark):
    rows = described(benchmark, "ava2microg")
    methods = {name for name in ADAPTATIONS if not ADAPTATIONS.load(name).uses_target_labels} - {"source_only"}
    assert {row.method for row in rows} == methods


@pytest.mark.parametrize("pair", ["ava2microg", "sim2real"])
def test_rows_have_labels_of_their_own_and_configurations_that_can_be(benchmark, pair):
    rows = described(benchmark, pair)
    assert len({row.folder for row in rows}) == len({row.label for row in rows}) == len(rows)
    assert {row.after for row in rows if row.after} <= {row.label for row in rows}
    for row in rows:
        config = load_config(pair, row.overrides())
        create_adaptation(row.method, config.adaptation.args, feature_dim=8, num_classes=3)
        if row.test_time:
            create_adaptation(row.test_time, config.adaptation.test_time_args, feature_dim=8, num_classes=3)
