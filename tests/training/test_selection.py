"""What chooses an epoch: never a collapsed one, and the run says when the last word is one."""

import math

import pandas as pd
import pytest
import torch

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import DomainAdaptation
from microg_da.config import load_config
from microg_da.training.runner import run_experiment as fit
from microg_da.validation import VALIDATORS

WORDS = [
    "training.epochs=1", "adaptation.epochs=3", "training.batch_size=8", "data.image_size=48", "synthetic.train_clips=8",
    "synthetic.val_clips=16", "synthetic.test_clips=6", "synthetic.workers=0", "adaptation=collapsing", "adaptation.match_rates=false",
]  # fmt: skip


class Collapsing(DomainAdaptation):
    """In its first epoch a classifier that tells people apart; then one that says no to everything, and is sure."""

    steps = 0

    def after_step(self, detector):
        head = detector.head.projection
        self.steps += 1
        torch.manual_seed(self.steps)
        with torch.no_grad():
            head.weight.normal_()
            head.weight.sub_(head.weight.mean(dim=1, keepdim=True)).mul_(10 if self.steps == 1 else 0)
            head.bias.fill_(0.0 if self.steps == 1 else -20.0)


@pytest.fixture
def collapsing(monkeypatch):
    monkeypatch.setitem(ADAPTATIONS._entries, "collapsing", ADAPTATIONS.entry("dann"))
    original = ADAPTATIONS.load
    monkeypatch.setattr(
        ADAPTATIONS, "load", lambda name, *a: Collapsing if name == "collapsing" else original(name, *a)
    )


def curves(run):
    table = pd.read_csv(run.path / "metrics" / "adapt" / "metrics.csv")
    return table.dropna(subset=["collapse"]).reset_index(drop=True)


def test_a_validator_chooses_the_epoch_before_the_collapse(tmp_path, collapsing):
    run = fit(load_config("ava2microg", [*WORDS, "selection=validator:entropy"]), root=tmp_path)
    table = curves(run)
    assert table["collapse"].tolist() == [0, 1, 1]
    for name in VALIDATORS:
        scores = table[f"validator/{name}"]
        if name == "mixval":  # an epoch mixes clips only where this validator selects
            assert math.isnan(scores[0])
        else:
            assert scores[0] > float("-inf")
        assert (scores[1:] == float("-inf")).all()
    chosen = torch.load(run.detector_file("adapt"), weights_only=True)["state_dict"]
    assert (chosen["head.projection.bias"] == 0).all()
    adapted = run.results.adapted
    assert adapted.collapse.verdict == "sound"
    assert set(adapted.validators) == set(VALIDATORS)
    assert adapted.validators["entropy"] == pytest.approx(table["validator/entropy"][0], rel=1e-4)
    assert run.record.warnings == ()


def test_a_run_that_ends_collapsed_says_so(tmp_path, collapsing):
    run = fit(load_config("ava2microg", [*WORDS, "selection=last"]), root=tmp_path)
    assert run.results.adapted.collapse.collapsed
    assert set(run.results.adapted.validators.values()) == {float("-inf")}
    assert run.results.source_only.collapse is not None
    (warning,) = run.record.warnings
    assert "collapsed" in warning
    assert "no class" in warning
