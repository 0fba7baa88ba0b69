"""Keys that make a run faster or smaller change what they say and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from microg_da.adaptation import predictor as predictor_module
from microg_da.config import load_config
from microg_da.data.datamodule import DomainDatasets
from microg_da.errors import InputError
from microg_da.inference.scoring import score_detector
from microg_da.runs.detectors import load_run_detector
from microg_da.training.runner import run_experiment as fit

TINY = [
    "adaptation=source_only", "training.epochs=1", "training.batch_size=4", "data.image_size=48", "synthetic.workers=0",
    "synthetic.train_clips=8", "synthetic.val_clips=4", "synthetic.test_clips=6",
]  # fmt: skip


def run_with(root, *words):
    run = fit(load_config("ava2microg", [*TINY, *words]), root=root, name="-".join(words) or "plain")
    last = torch.load(run.stage_folder("source") / "last.ckpt", weights_only=True)
    return run, last


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run_with(tmp_path_factory.mktemp("runs"))


def test_accumulated_batches_make_one_step(plain, tmp_path):
    assert plain[1]["global_step"] == 2
    assert run_with(tmp_path, "training.accumulate=2")[1]["global_step"] == 1


def test_accumulate_is_checked():
    with pytest.raises(InputError, match=r"training\.accumulate=0"):
        load_config("ava2microg", ["training.accumulate=0"])


def test_checkpointed_stages_train_to_the_same_weights(plain, tmp_path):
    weights = run_with(tmp_path, "training.activation_checkpointing=true")[1]["state_dict"]
    for name, value in plain[1]["state_dict"].items():
        torch.testing.assert_close(weights[name], value, msg=name)


def test_folded_detectors_are_tested_alike(plain, monkeypatch):
    run, _ = plain
    predictor = load_run_detector(run.path).predictor
    expected = score_detector(predictor, DomainDatasets(run.config), "target").detections()
    tested, original = [], predictor_module.fold_batch_norm
    monkeypatch.setattr(predictor_module, "fold_batch_norm", lambda *args: tested.append(original(*args)) or tested[-1])
    config = replace(run.config, evaluation=replace(run.config.evaluation, fold_batch_norm=True))
    folded = score_detector(predictor, DomainDatasets(config), "target").detections()
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in tested[0].modules())
    assert any(isinstance(layer, nn.BatchNorm3d) for layer in predictor.detector.modules())
    assert (folded["score"] - expected["score"]).abs().max() < 1e-4
    assert folded.drop(columns="score").equals(expected.drop(columns="score"))
