"""The programs that measure speed, in tiny form: their tables are complete and their figures add up."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import quick
import torch

ROOT = Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_steps(tmp_path, threads, capsys):
    step = load("step")
    words = "--models r2plus1d_tiny --frames 8 --side 32 --repeats 1 --device cpu --threads 1"
    words += " --variants plain channels_last default bf16 checkpointing folded frames fused --optimizer adamw"
    words += " --loader synthetic:earth --loader-clips 4"
    rows = step.main([*words.split(), "--json", str(tmp_path / "rows.json")])
    assert "r2plus1d_tiny, inference" in capsys.readouterr().out
    named = {(row.mode, row.variant) for row in rows}
    assert {variant for mode, variant in named if mode == "train"} == {*step.VARIANTS} - {
        "folded",
        "fp16",
        "compile",
        "frozen",
        "attentive",
    }
    assert ("inference", "folded") in named
    assert ("inference", "fused") not in named
    for row in rows:
        assert row.clips_per_second == pytest.approx(2 / row.seconds)
        assert 0 < row.loader_share < 1
    kept = {row.variant: row.kept for row in rows if row.kept is not None}
    assert kept["checkpointing"] < 0.7 * kept["plain"]
    assert rows[0].speedup == 1
    # A training step costs three forward passes by the count, of the same clips.
    work = {row.mode: row.gflops * row.seconds for row in rows}
    assert work["train"] == pytest.approx(3 * work["inference"])
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == len(rows)


def test_steps_of_frozen_encoders(threads, capsys):
    step = load("step")
    words = "--models timm:test_vit --frames 2 --side 32 --repeats 1 --device cpu --threads 1 --modes train"
    rows = step.main([*words.split(), "--variants", "default", "attentive", "frozen+attentive", "frozen+bf16"])
    kept = {row.variant: row.kept for row in rows}
    assert kept["frozen+attentive"] < 0.5 * kept["attentive"]
    assert kept["frozen+bf16"] < 0.3 * kept["default"]  # frames meet in a part that is trained
    # Of a frozen backbone the forward pass alone is counted.
    work = {row.variant: row.gflops * row.seconds for row in rows}
    assert work["default"] == pytest.approx(3 * work["frozen+attentive"])
    with pytest.raises(SystemExit):
        step.main(["--models", "timm:test_vit", "--device", "cpu"])
    with pytest.raises(SystemExit):
        step.main(["--variants", "frozen+froze"])


def test_parts_of_a_run_add_up(tmp_path):
    end_to_end = load("end_to_end")
    start = time.perf_counter()
    tiny = [
        "training.epochs=1", "adaptation.epochs=1", "training.batch_size=4", "data.image_size=48",
        "synthetic.workers=0", "synthetic.train_clips=8", "synthetic.val_clips=4", "synthetic.test_clips=6", *quick.UP,
    ]  # fmt: skip
    content = end_to_end.main([*tiny, "--json", str(tmp_path / "parts.json")])
    elapsed = time.perf_counter() - start
    parts = content["parts"]
    stage = SimpleNamespace(name="source")
    expected = {name.format("", stage) for _, name in end_to_end.PARTS} | {"train: adapt"}
    assert expected <= parts.keys()
    assert all(part["seconds"] >= 0 for part in parts.values())
    assert 0.9 * elapsed < content["all"]["seconds"] <= elapsed
    assert json.loads((tmp_path / "parts.json").read_text()) == content


def test_time_inside_a_part_counts_once(monkeypatch):
    end_to_end = load("end_to_end")
    # The clock is read as each part begins and ends.
    clock = iter([(0.0, 0.0), (1.0, 0.0), (3.0, 1.0), (8.0, 2.0), (12.0, 4.0)])
    monkeypatch.setattr(end_to_end.Stopwatch, "_now", staticmethod(lambda: next(clock)))
    watch = end_to_end.Stopwatch()
    with watch.part("outer"), watch.part("inner"):
        pass
    assert (watch.seconds["outer"], watch.seconds["inner"]) == (2 + 4, 5)
    assert (watch.processor["outer"], watch.processor["inner"]) == (1 + 2, 1)
