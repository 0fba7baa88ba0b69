"""`fit` in two gloo processes, as a user starts it: the same figures as in one, and one writer."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

TINY = [
    *("adaptation=source_only", "training.epochs=1", "training.batch_size=4", "evaluation.batch_size=4"),
    *("data.image_size=48", "model.num_frames=2", "synthetic.workers=0"),
    # Not a multiple of two: the sampler shows one clip twice.
    *("synthetic.train_clips=16", "synthetic.val_clips=5", "synthetic.test_clips=9"),
]
TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]


def fit(folder, name, *words):
    command = [sys.executable, "-m", "microg_da", "fit", "--experiment", "ava2microg", "--runs", str(folder)]
    command += ["--name", name] if name else []
    done = subprocess.run([*command, *TINY, *words], capture_output=True, text=True, timeout=280, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done


def scores(folder):
    row = json.loads((folder / "results.json").read_text())["variants"]["source_only"]
    names = ("map", "f1_macro", "recall_macro", "auroc_macro", "num_keyframes", "num_boxes")
    return {f"{d}/{name}": row[d][name] for d in ("source", "target") for name in names} | row["validators"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, _own_cache):
    """A run that two processes trained and tested, what they said, and a test of its detector by one process."""
    folder = tmp_path_factory.mktemp("runs")
    said = fit(folder, None, *TWO)
    made = list((folder / "ava2microg").iterdir())
    assert len(made) == 1
    fit(folder, "one", f"checkpoint={made[0] / 'checkpoints' / 'source' / 'detector.pt'}")
    return made[0], said, folder / "ava2microg" / "one"


@pytest.mark.slow
def test_a_detector_has_the_scores_that_one_process_gives_it(runs):
    together, _, alone = runs
    one, two = scores(alone), scores(together)
    assert one.keys() == two.keys()
    # mixval mixes people of one batch, and two processes divide the clips into other batches.
    assert 0 <= two.pop("mixval") <= 1
    assert 0 <= one.pop("mixval") <= 1
    for name in one:
        assert two[name] == pytest.approx(one[name], abs=1e-6, nan_ok=True), name
    for domain in ("source", "target"):
        file = f"detections/source_only_{domain}.csv.gz"
        pd.testing.assert_frame_equal(pd.read_csv(alone / file), pd.read_csv(together / file), atol=1e-6)


@pytest.mark.slow
def test_two_processes_make_one_run_and_one_of_them_speaks(runs):
    made, said, _ = runs
    record = json.loads((made / "run.json").read_text())
    assert record["status"] == "finished"
    assert (made / "report.html").is_file()
    assert not list(made.rglob(".tmp-*"))
    curve = pd.read_csv(made / "metrics" / "source" / "metrics.csv")
    assert curve["val/map"].notna().sum() == 1
    assert said.stderr.count("train on source") == 1
    assert said.stdout.count("source-only") == 1


def test_processes_that_were_started_from_outside_must_share_a_name(tmp_path):
    command = [sys.executable, "-m", "microg_da", "fit", "--runs", str(tmp_path), *TINY]
    environment = {**os.environ, "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "x"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 2
    assert "--name" in done.stderr
    assert not list(tmp_path.iterdir())
