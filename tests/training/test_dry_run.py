"""`fit --dry-run`: one batch of each domain, one step of each stage, a table, and nothing on the disk."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from microg_da.adaptation.gravity_frame import UpFinder, UpSettings
from microg_da.cli import main
from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.cost import count_parameters
from microg_da.synthetic import dataset as synthetic_dataset
from microg_da.training.cost import RunCost, StageCost
from microg_da.training.dry_run import dry_run

SMALL = [
    *("data.image_size=32", "model.num_frames=2", "trainer.accelerator=cpu", "training.batch_size=4"),
    *("evaluation.batch_size=3", "training.epochs=3", "adaptation.epochs=2", "synthetic.workers=0"),
    *("synthetic.train_clips=50", "synthetic.val_clips=7", "synthetic.test_clips=20"),
]


@pytest.fixture
def empty_folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with the cache inside it: whatever is written shows there."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MICROG_DA_CACHE", str(folder / "cache"))
    return folder


@pytest.fixture
def drawn(monkeypatch) -> list[int]:
    """How many clips each drawing makes."""
    counts: list[int] = []
    draw = synthetic_dataset.draw_clips

    def count(spec, **options):
        counts.append(spec.num_clips)
        return draw(spec, **options)

    monkeypatch.setattr(synthetic_dataset, "draw_clips", count)
    return counts


def test_it_draws_a_batch_and_prints_a_table_and_writes_nothing(empty_folder, drawn, capsys):
    assert main(["fit", "--dry-run", "--experiment", "ava2microg", "bounds=true", *SMALL]) == 0
    said = capsys.readouterr().out
    for part in ("source", "target_supervised", "adapt", "s/step", "MiB", "the whole run", "2 frames"):
        assert part in said
    assert f"{count_parameters(create_detector('r2plus1d_micro')):,}" in said
    assert not list(empty_folder.iterdir())
    # Training and test batches of both domains; the bound's target clips carry labels and are drawn once more.
    assert max(drawn) <= 4
    assert sum(drawn) <= 3 * 4 + 2 * 3


def test_the_counts_are_those_of_the_whole_run(empty_folder):
    cost = dry_run(load_config("ava2microg", [*SMALL, "bounds=true", "target_supervised.epochs=5"]))
    assert [(stage.name, stage.steps, stage.epochs) for stage in cost.stages] == [
        ("source", 50 // 4, 3),
        ("target_supervised", 50 // 4, 5),
        ("adapt", 50 // 4, 2),
    ]
    assert cost.clips["source/train"] == 50
    assert cost.clips["target/test"] == 20
    # Bytes of the frames of all clips of both domains.
    assert cost.held_mib == pytest.approx(2 * (50 + 7 + 20) * 3 * 2 * 32 * 32 / 2**20)
    assert all(stage.step_seconds > 0 and stage.test_seconds > 0 for stage in cost.stages)
    assert cost.drawing_seconds > 0


def test_clips_that_a_source_counts_itself(empty_folder, drawn):
    words = [*SMALL, "data.source=synthetic:earth?num_clips=90&look=real", "adaptation=source_only"]
    cost = dry_run(load_config("ava2microg", words))
    assert (cost.clips["source/train"], cost.clips["source/test"], cost.clips["target/train"]) == (90, 90, 50)
    assert [(stage.name, stage.steps) for stage in cost.stages] == [("source", 90 // 4)]
    assert max(drawn) <= 4


def test_a_source_model_that_is_given_is_not_trained(empty_folder, tmp_path):
    import torch

    torch.save(create_detector("r2plus1d_micro").state_dict(), tmp_path / "weights.pt")
    cost = dry_run(load_config("ava2microg", [*SMALL, f"checkpoint={tmp_path}/weights.pt"]))
    source, adapt = cost.stages
    assert (source.epochs, source.step_seconds, adapt.epochs) == (0, 0, 2)


@pytest.mark.parametrize(
    ("name", "trains", "looks"),
    [
        ("dann", True, False),
        ("self_training", True, False),
        ("mean_teacher", True, False),
        ("shot", True, True),
        ("adabn", False, True),
        ("sar", False, True),
        ("joint", True, False),
    ],
)
def test_methods_of_every_kind(name, trains, looks, empty_folder):
    cost = dry_run(load_config("ava2microg", [*SMALL, f"adaptation={name}"]))
    adapt = cost.stages[-1]
    assert (adapt.name, adapt.epochs > 0) == ("adapt", trains)
    if looks:
        assert adapt.once_seconds > 0
    assert not list(empty_folder.iterdir())


def test_a_preparation_of_many_steps_is_measured_on_few(empty_folder, monkeypatch):
    """The default trains an estimator first; its number of steps does not depend on the clips."""
    config = load_config("ava2microg", [*SMALL, "adaptation=gravity_self_training"])
    steps: list[int] = []
    learn = UpFinder.learn

    def count(finder, *clips):
        steps.append(finder.settings.steps)
        learn(finder, *clips)

    monkeypatch.setattr(UpFinder, "learn", count)
    adapt = dry_run(config).stages[-1]
    wanted = UpSettings().steps
    assert len(steps) == 1
    assert 0 < steps[0] < wanted / 10
    assert adapt.once_seconds > 0


def test_several_processes_share_an_epoch(empty_folder):
    cost = dry_run(load_config("ava2microg", [*SMALL, "trainer.devices=2", "trainer.strategy=ddp_spawn"]))
    assert cost.processes == 2
    assert {stage.steps for stage in cost.stages} == {25 // 4}


def test_frozen_parameters_are_not_trainable(empty_folder):
    cost = dry_run(load_config("ava2microg", [*SMALL, "model.freeze=all", "adaptation=source_only"]))
    detector = create_detector("r2plus1d_micro", freeze="all")
    assert cost.trainable_parameters == count_parameters(detector, trainable=True) < cost.parameters


def test_data_from_files(empty_folder, tmp_path):
    """Three clips train, one validates, two test; of each 6 frames."""
    root = tmp_path / "tree"
    (root / "annotations").mkdir(parents=True)
    for split, videos in {"train": ("a_1", "b_1", "c_1"), "val": ("d_1",), "test": ("e_1", "f_1")}.items():
        rows = "".join(f"{video},3,0.1,0.2,0.5,0.9,12,1\n" for video in videos)
        (root / "annotations" / f"ava_{split}.csv").write_text(rows)
        for video in videos:
            (root / "frames" / video).mkdir(parents=True)
            for number in range(1, 7):
                path = root / "frames" / video / f"{video}_{number:06d}.jpg"
                cv2.imwrite(str(path), np.full((48, 64, 3), 20 * number, np.uint8))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    cost = dry_run(load_config("ava2microg", [*SMALL, f"data.target=microg4m:{root}"]))
    assert (cost.clips["target/train"], cost.clips["target/val"], cost.clips["target/test"]) == (3, 1, 2)
    assert [stage.steps for stage in cost.stages] == [12, 12]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert not list(empty_folder.iterdir())


def test_a_wrong_request_costs_no_step(empty_folder, drawn):
    with pytest.raises(InputError, match=r"data\.target"):
        dry_run(load_config("ava2microg", [*SMALL, "data.target=synthetic:moon"]))
    assert main(["fit", "--dry-run", "--resume", str(empty_folder)]) == 2
    assert not drawn


def test_a_stage_is_the_sum_of_its_parts():
    stage = StageCost("source", 0.5, 10, 2.0, 3, 4.0, 6.0, 100.0)
    assert stage.epoch_seconds == 10 * 0.5 + 2
    assert stage.seconds == 4 + 3 * 7 + 6
    facts = {"clips": {}, "device": os.devnull, "processes": 1, "drawing_seconds": 9.0, "held_mib": 0.0}
    cost = RunCost(2, 1, num_frames=8, sampling_rate=2, stages=(stage, stage), **facts)
    assert cost.seconds == 9 + 2 * 31
