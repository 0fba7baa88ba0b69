"""What an epoch of a stage is, and how often it is validated."""

from __future__ import annotations

import io

import pandas as pd
import torch
from rich.console import Console

from microg_da.config import load_config
from microg_da.training.dry_run import dry_run
from microg_da.training.runner import run_experiment

WORDS = [
    *("adaptation=source_only", "model.num_frames=2", "data.image_size=32", "trainer.accelerator=cpu"),
    *("synthetic.train_clips=24", "synthetic.val_clips=6", "synthetic.test_clips=4", "synthetic.workers=0"),
    *("training.batch_size=4", "evaluation.batch_size=8", "training.warmup_epochs=0", "training.schedule=constant"),
]


def test_validation_of_some_epochs_chooses_among_them(tmp_path):
    words = [*WORDS, "training.epochs=5", "training.validate_every=2", "training.max_batches_per_epoch=3"]
    said = io.StringIO()
    console = Console(file=said, width=200)
    run = run_experiment(load_config("ava2microg", [*words, "selection=source"]), root=tmp_path, console=console)
    table = pd.read_csv(run.metrics_file("source"))
    validated = table.dropna(subset=["val/map"])
    assert validated["epoch"].tolist() == [1, 3]
    # Three of the six batches of an epoch are read, so that five epochs are fifteen steps.
    best = torch.load(run.stage_folder("source") / "best.ckpt", weights_only=True)
    assert best["global_step"] in (6, 12)
    assert best["epoch"] == validated["epoch"][validated["val/map"].idxmax()]
    chosen = torch.load(run.detector_file("source"), weights_only=True)["state_dict"]
    name = "head.projection.weight"
    assert torch.equal(chosen[name], best["state_dict"][f"detector.{name}"])
    lines = [line for line in said.getvalue().splitlines() if "source epoch" in line]
    assert [("val mAP" in line) for line in lines] == [False, True, False, True, False]


def test_a_stage_that_is_shorter_than_the_interval_is_validated_at_its_end(tmp_path):
    words = [*WORDS, "training.epochs=2", "training.validate_every=5", "selection=source"]
    run = run_experiment(load_config("ava2microg", words), root=tmp_path, console=Console(quiet=True))
    assert pd.read_csv(run.metrics_file("source")).dropna(subset=["val/map"])["epoch"].tolist() == [1]


def test_a_dry_run_counts_shorter_epochs_and_fewer_validations():
    words = [*WORDS, "training.epochs=4"]
    (whole,) = dry_run(load_config("ava2microg", words)).stages
    (short,) = dry_run(
        load_config("ava2microg", [*words, "training.max_batches_per_epoch=2", "training.validate_every=4"])
    ).stages
    assert (whole.steps, short.steps) == (6, 2)
    assert 0 < short.validation_seconds < whole.validation_seconds
