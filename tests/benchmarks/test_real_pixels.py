"""The benchmark on real pixels: its rows are valid configurations, its parts are disjoint, its gap is that of its text."""

import argparse
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from microg_da.adaptation.base import create_adaptation
from microg_da.config import load_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        spec = importlib.util.spec_from_file_location("real_pixels_benchmark", BENCHMARKS / "real_pixels.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def jhmdb(tmp_path):
    lines = [f"clip{video}_{number},jump,video{video},40" for video in range(20) for number in range(2)]
    (tmp_path / "jhmdb").mkdir()
    (tmp_path / "jhmdb" / "clips.csv").write_text("\n".join(["video_id,action,source_video,frames", *lines]) + "\n")
    return tmp_path / "jhmdb"


@pytest.fixture
def args(jhmdb, tmp_path):
    (tmp_path / "runs").mkdir()
    return argparse.Namespace(jhmdb=jhmdb, runs=tmp_path / "runs", overrides=["training.epochs=1"])


def test_every_row_is_a_valid_experiment(benchmark, args):
    for target, experiment in benchmark.EXPERIMENTS.items():
        for row in (benchmark.BASE, *benchmark.ROWS):
            config = load_config(experiment, benchmark.settings(args, target, row, 3))
            assert config.seed == 3
            assert config.training.epochs == 1
            assert config.data.target.startswith("jhmdb:" if row == benchmark.FILMED else "ava:")
            create_adaptation(config.adaptation.name, config.adaptation.args, feature_dim=8, num_classes=21)
            stored = target == "floating" and row in benchmark.STORED
            assert (config.data.feature_store is not None) == stored
            if stored:
                assert config.model.freeze == "all"
                assert config.adaptation.extra_source is None


def test_the_default_of_floating_people_has_crops_and_extra_clips_and_its_controls_lack_one_each(benchmark, args):
    default, whole, alone = (
        load_config("earth2floating", benchmark.settings(args, "floating", row, 0)).adaptation
        for row in ("default", benchmark.WHOLE_CLIPS, benchmark.WITHOUT_EXTRA)
    )
    assert default.args["person_crop"] is not None
    assert default.extra_source is not None
    assert whole.args == {**default.args, "person_crop": None}
    assert whole.extra_source == default.extra_source
    assert alone.args == default.args
    assert alone.extra_source is None


def test_rows_start_from_the_source_model_of_their_own_target(benchmark, args):
    base = benchmark.run_folder(args, "floating", benchmark.BASE, 0) / "checkpoints" / "source"
    base.mkdir(parents=True)
    (base / "detector.pt").touch()
    assert f"checkpoint={base / 'detector.pt'}" in benchmark.settings(args, "floating", "default", 0)
    assert not any(word.startswith("checkpoint=") for word in benchmark.settings(args, "rolled", "default", 0))


def test_no_source_video_is_in_two_parts(benchmark, args):
    first, second = (benchmark.divide(args.jhmdb, seed, args.runs) for seed in (0, 1))
    parts = {domain: json.loads(path.read_text()) for domain, path in first.items()}
    assert parts["source"]["test"] == parts["target"]["test"]
    videos = [
        {clip.split("_")[0] for clip in clips}
        for clips in (
            parts["source"]["train"],
            parts["target"]["train"],
            parts["source"]["val"],
            parts["source"]["test"],
        )
    ]
    assert sum(map(len, videos)) == len(set().union(*videos)) == 20
    assert [len(part) for part in videos] == [10, 5, 2, 3]
    assert first["source"].read_text() != second["source"].read_text()


def test_the_gap_is_relative_to_the_clips_as_filmed(benchmark):
    scores = {0: (10.0, 50.0, 30.0), 1: (20.0, 40.0, 35.0)}
    names = (benchmark.BASE, benchmark.FILMED, "default")
    lines = [
        {"target": "floating", "seed": seed, "method": name, "mAP": value}
        for seed, values in scores.items()
        for name, value in zip(names, values, strict=True)
    ]
    table = benchmark.add_gap(pd.DataFrame(lines))
    default = table[table.method == "default"]["gap recovered"]
    assert default.tolist() == pytest.approx([50, 75])
    low, high = stats.t.interval(0.95, 1, loc=default.mean(), scale=stats.sem(default))
    assert benchmark.interval(default) == f"62.5 ± {(high - low) / 2:.1f}"
    assert (
        benchmark.add_gap(table[table.method == "default"].drop(columns="gap recovered"))["gap recovered"].isna().all()
    )
