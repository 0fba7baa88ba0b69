"""A run that is stopped, starved or damaged says so in one line, loses nothing, and ends as if nothing had been."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_run import TINY
from torch.utils.data import get_worker_info

from microg_da.inference.module import InferenceModule
from microg_da.synthetic.dataset import SyntheticDataset
from microg_da.training import interruption
from microg_da.training.experiment import Experiment
from microg_da.training.module import DetectorModule

STEPS = 2  # an epoch of the tiny run


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _own_cache):
    """The run that nothing happened to."""
    from microg_da.cli import main

    folder = tmp_path_factory.mktemp("whole")
    assert main(["fit", *TINY, "--runs", str(folder), "--name", "whole"]) == 0
    return folder / "ava2microg" / "whole"


@pytest.fixture
def tiny(tmp_path):
    return [*TINY, "--runs", tmp_path, "--name", "x"]


@pytest.fixture
def at_step(monkeypatch):
    """Do something before a training step, counted from 0 through all epochs."""

    def arrange(step, action):
        original, seen = DetectorModule.training_step, []

        def training_step(self, *arguments):
            if len(seen) == step:
                action()
            seen.append(step)
            return original(self, *arguments)

        monkeypatch.setattr(DetectorModule, "training_step", training_step)

    return arrange


def assert_same(run, whole):
    for domain in ("source", "target"):
        file = f"detections/source_only_{domain}.csv.gz"
        pd.testing.assert_frame_equal(pd.read_csv(run / file), pd.read_csv(whole / file))
    assert sorted(pd.read_csv(run / "metrics/source/metrics.csv")["epoch"].unique()) == [0, 1, 2]


def epochs_saved(run):
    return torch.load(run / "checkpoints/source/last.ckpt", weights_only=True)["epoch"] + 1


def last_line(said):
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_lets_a_short_epoch_be_finished_and_saved(fit, tiny, tmp_path, at_step, whole, number, status):
    at_step(STEPS, lambda: os.kill(os.getpid(), number))  # the first step of the second epoch
    before = signal.getsignal(number)
    stopped, said = fit(*tiny)
    run = tmp_path / "ava2microg" / "x"
    assert stopped == status
    assert number.name in last_line(said)
    assert f"fit --resume {run}" in last_line(said)
    assert epochs_saved(run) == 2
    assert signal.getsignal(number) is before
    assert fit("--resume", run)[0] == 0
    assert_same(run, whole)


def test_a_long_epoch_is_left_at_once_and_the_last_finished_one_stands(
    fit, tiny, tmp_path, at_step, whole, monkeypatch
):
    monkeypatch.setattr(interruption, "GRACE", 0.0)
    at_step(STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert fit(*tiny)[0] == 143
    run = tmp_path / "ava2microg" / "x"
    assert epochs_saved(run) == 1
    assert fit("--resume", run)[0] == 0
    assert_same(run, whole)


@pytest.mark.slow
def test_a_second_signal_is_obeyed_at_once(fit, tiny, tmp_path, at_step):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(STEPS, twice)
    assert fit(*tiny)[0] == 130
    assert epochs_saved(tmp_path / "ava2microg" / "x") == 1


@pytest.mark.slow
def test_a_signal_outside_training_stops_too(fit, tiny, tmp_path, monkeypatch, whole):
    original = InferenceModule.test_step

    def test_step(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(InferenceModule, "test_step", test_step)
    status, said = fit(*tiny)
    run = tmp_path / "ava2microg" / "x"
    assert status == 143
    assert "--resume" in last_line(said)
    monkeypatch.undo()
    assert fit("--resume", run)[0] == 0
    assert_same(run, whole)


# ------------------------------------------------------------------------------------------------------ damaged files


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1000])


def flip(file):
    """One byte of a weight: the file can be read, and would be wrong."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


@pytest.fixture
def stopped(fit, tiny, tmp_path, at_step, monkeypatch):
    """A run with two epochs saved, left in its third."""
    monkeypatch.setattr(interruption, "GRACE", 0.0)
    at_step(2 * STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert fit(*tiny)[0] == 143
    return tmp_path / "ava2microg" / "x"


@pytest.mark.parametrize("damage", [pytest.param(truncate, marks=pytest.mark.slow), flip])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(fit, stopped, whole, damage):
    checkpoints = stopped / "checkpoints" / "source"
    assert torch.load(checkpoints / "previous.ckpt", weights_only=True)["epoch"] + 1 == 1
    damage(checkpoints / "last.ckpt")
    status, said = fit("--resume", stopped)
    assert status == 0
    assert "last.ckpt is damaged" in said.replace("\n", " ")
    assert (checkpoints / "last.ckpt.damaged").exists()
    assert_same(stopped, whole)
    assert not (checkpoints / "previous.ckpt").exists()  # of use only while the stage trains


@pytest.mark.slow
def test_without_any_sound_checkpoint_the_stage_begins_anew(fit, stopped, whole):
    for name in ("last.ckpt", "previous.ckpt"):
        (stopped / "checkpoints" / "source" / name).write_bytes(b"")
    assert fit("--resume", stopped)[0] == 0
    assert_same(stopped, whole)


def test_a_damaged_detector_is_made_again_from_its_checkpoint(fit, tmp_path, whole):
    run = shutil.copytree(whole, tmp_path / "copy")
    flip(run / "checkpoints" / "source" / "detector.pt")
    shutil.rmtree(run / "detections")
    (run / "results.json").unlink()
    status, said = fit("--resume", run)
    assert status == 0
    assert "is damaged" in said
    assert_same(run, whole)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"variants": ["'])
@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_damaged_record_is_named(fit, tmp_path, whole, name, content):
    run = shutil.copytree(whole, tmp_path / "copy")
    (run / name).write_text(content)
    status, said = fit("--resume", run)
    assert status == 2
    assert name in last_line(said)


# ---------------------------------------------------------------------------------------------------------- the machine


@contextmanager
def small_disk(folder, size):
    """A file system of a few megabytes, where this user may mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.mark.parametrize("size", [pytest.param("300k", marks=pytest.mark.slow), "3m"])
def test_a_full_disk_loses_nothing(fit, tiny, tmp_path, whole, size):
    with small_disk(tmp_path / "disk", size) as disk:
        status, said = fit(*tiny, "--runs", disk)
        run = disk / "ava2microg" / "x"
        assert status == 2, said
        assert "cannot write" in last_line(said)
        assert not [file for file in run.rglob(".tmp-*") if file.stat().st_size]
        remount(disk, "size=100m")
        assert fit("--resume", run)[0] == 0
        assert_same(run, whole)


def test_a_run_folder_that_turns_read_only(fit, tiny, tmp_path, at_step, whole):
    with small_disk(tmp_path / "disk", "100m") as disk:
        at_step(2 * STEPS, lambda: remount(disk, "ro"))
        status, said = fit(*tiny, "--runs", disk)
        run = disk / "ava2microg" / "x"
        assert status == 2
        assert "Read-only file system" in last_line(said)
        assert fit("--resume", run)[0] == 2
        assert epochs_saved(run) == 2
        remount(disk, "rw")
        assert fit("--resume", run)[0] == 0
        assert_same(run, whole)


def test_a_process_that_loads_data_and_dies(fit, tiny, tmp_path, monkeypatch, whole):
    original = SyntheticDataset.__getitem__

    def lethal(self, index):
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, index)

    monkeypatch.setattr(SyntheticDataset, "__getitem__", lethal)
    status, said = fit(*tiny, "data.num_workers=1")
    assert status == 2
    assert "data-loading process died" in last_line(said)
    assert "num_workers" in last_line(said)
    monkeypatch.undo()
    run = tmp_path / "ava2microg" / "x"
    assert fit("--resume", run)[0] == 0
    assert_same(run, whole)


@pytest.fixture
def tree(tmp_path):
    """Four clips of eight frames."""
    root, rows = tmp_path / "data", {"train": "", "val": "", "test": ""}
    for number, side in enumerate(["train", "train", "val", "test"]):
        clip = f"film{number}_001"
        (root / "frames" / clip).mkdir(parents=True)
        for frame in range(1, 9):
            picture = np.full((48, 64, 3), 20 * number + 8 * frame, np.uint8)
            cv2.imwrite(str(root / "frames" / clip / f"{clip}_{frame:06d}.jpg"), picture)
        rows[side] += f"{clip},4,0.1,0.2,0.5,0.9,12,1\n"
    for side, text in rows.items():
        (root / f"{side}.csv").write_text(text)
    return root


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_data_that_is_gone_between_two_stages(fit, tmp_path, tree, monkeypatch, workers):
    original = Experiment._adapt

    def adapt(self, *arguments):
        (tree / "frames").rename(tmp_path / "away")
        return original(self, *arguments)

    monkeypatch.setattr(Experiment, "_adapt", adapt)
    data = [f"data.{domain}=microg4m:{tree}" for domain in ("source", "target")]
    words = [
        *TINY,
        *data,
        "adaptation=adabn",
        "training.epochs=1",
        "training.batch_size=2",
        f"data.num_workers={workers}",
    ]
    status, said = fit(*words, "--runs", tmp_path, "--name", "x")
    run = tmp_path / "ava2microg" / "x"
    assert status == 2
    assert "frames/film" in last_line(said)
    assert last_line(said).startswith("microg_da: ")
    (tmp_path / "away").rename(tree / "frames")
    monkeypatch.undo()
    assert (run / "checkpoints/source/detector.pt").exists()
    status, said = fit("--resume", run)
    assert status == 0
    assert "source: already complete" in said
