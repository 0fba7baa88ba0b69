"""`fit` with a method, a backbone, data, a validator and a split of another package, and what follows a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from outside_package import write_package

from microg_da.cli import main
from microg_da.errors import InputError
from microg_da.models.checkpoints import load_detector
from microg_da.runs.detectors import load_run_detector
from microg_da.runs.folder import Run

SOURCES = Path(__file__).resolve().parents[2] / "src"
TINY = [
    *("training.epochs=1", "adaptation.epochs=1", "training.batch_size=4", "data.image_size=48", "model.num_frames=2"),
    *("synthetic.train_clips=8", "synthetic.val_clips=4", "synthetic.test_clips=4", "synthetic.workers=0"),
    *("trainer.accelerator=cpu", "model.sampling_rate=1"),
]
BY_PATH = [
    *("adaptation=outside_lab.methods:MeanDifference", "adaptation.args.weight=0.5"),
    *("model=outside_lab.networks:small", "model.options.width=5"),
    "selection=validator:outside_lab.scores:spread",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return write_package(tmp_path_factory.mktemp("site"), installed=True)


@pytest.fixture
def importable(site, monkeypatch):
    """The package can be imported in this process."""
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "outside_lab"]:
        del sys.modules[name]


def command(site, *words, status=0):
    """A command in a process of its own, in which the package can be imported; returns what it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{site}"}
    done = subprocess.run(
        [sys.executable, "-m", "microg_da", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(site, tmp_path_factory, _own_cache):
    """A run of code that is named by its path, its target read by it too."""
    runs = tmp_path_factory.mktemp("runs")
    words = [*TINY, *BY_PATH, f"data.target=outside_lab.data:read_tables:{site}?scheme=outside_lab.data:thirds"]
    command(site, "fit", "--experiment", "ava2microg", "--runs", runs, *words)
    (folder,) = (runs / "ava2microg").iterdir()
    return folder


def test_the_run_is_named_after_the_method_and_holds_its_scores(run):
    assert run.name.startswith("MeanDifference-seed0-")
    results = Run.open(run).results
    assert results.adapted.method == "outside_lab.methods:MeanDifference"
    assert "outside_lab.scores:spread" in results.adapted.validators
    assert "spread" in results.adapted.validators  # that of the entry point
    assert results.adapted.target.num_keyframes == 5
    assert (run / "report.html").is_file()
    losses = "\n".join(file.read_text() for file in run.rglob("*.csv"))
    assert "train/mean_difference" in losses


def test_a_run_is_resumed_reported_and_loaded(run, importable, capsys):
    before = (run / "results.json").read_text()
    (file,) = run.rglob("adapt/detector.pt")
    file.unlink()
    assert main(["fit", "--resume", str(run)]) == 0
    assert (run / "results.json").read_text() == before
    assert main(["report", str(run)]) == 0
    assert main(["compare", str(run.parent)]) == 0
    assert "MeanDifference" in capsys.readouterr().out
    assert file.is_file()
    loaded = load_run_detector(run)
    assert loaded.detector.feature_dim == 5


def test_no_file_of_weights_decides_what_is_imported(run, importable):
    (file,) = run.rglob("adapt/detector.pt")
    with pytest.raises(InputError, match=r"outside_lab\.networks:small.*another package"):
        load_detector(file)
    assert "outside_lab" not in sys.modules
    detector, _ = load_detector(file, "outside_lab.networks:small")
    expected = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(value, expected[name]) for name, value in detector.state_dict().items())


def test_no_command_imports_what_a_file_names_unless_the_user_does(run, importable, tmp_path, capsys):
    (file,) = run.rglob("adapt/detector.pt")
    file = shutil.copy(file, tmp_path / "mine.pt")
    tests = ["test", "--checkpoint", file, "--data", "synthetic:microgravity", "--output", tmp_path / "out"]
    tests += [key for key in TINY if key.startswith(("synthetic", "trainer"))]
    for words in (["checkpoint", file], tests):
        assert main([str(word) for word in words]) == 2
        message = capsys.readouterr().err
        assert "outside_lab.networks:small" in message
        assert "another package" in message
        assert "outside_lab" not in sys.modules
        assert not (tmp_path / "out").exists()
        assert main([*map(str, words), "--model", "outside_lab.networks:small"]) == 0
        for name in [name for name in sys.modules if name.partition(".")[0] == "outside_lab"]:
            del sys.modules[name]
        capsys.readouterr()
    assert (tmp_path / "out" / "test.json").is_file()


def test_entry_points_are_names_of_the_command(importable, tmp_path, capsys):
    words = [
        *TINY,
        *("adaptation=mean_difference", "model=small", f"data.target=noise:{importable}?scheme=thirds"),
        *("data.taxonomy=microg50", "selection=validator:spread", "adaptation.test_time=outside_lab.methods:Twice"),
    ]
    assert main(["fit", "--experiment", "ava2microg", "--runs", str(tmp_path), "--name", "x", *words]) == 0
    method = Run.open(tmp_path / "ava2microg" / "x").results.adapted.method
    assert method == "mean_difference + outside_lab.methods:Twice"
    capsys.readouterr()
    assert main(["list", "adaptations", "mean_*"]) == 0
    assert "outside-lab 1.2" in capsys.readouterr().out


def test_a_method_that_reads_target_labels_is_stamped(importable):
    from microg_da.adaptation import uses_target_labels
    from microg_da.config import load_config

    assert uses_target_labels(load_config("ava2microg", ["adaptation=outside_lab.methods:Peeking"]))
    assert not uses_target_labels(load_config("ava2microg", ["adaptation=outside_lab.methods:MeanDifference"]))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("adaptation=outside_lab.methods:Nothing", "adaptation.name"),
        ("adaptation=nowhere.methods:A", "no module nowhere"),
        ("adaptation=outside_lab.methods:not_a_method", "expected a class"),
        ("adaptation.args.wait=1", "wait"),
        ("model=outside_lab.networks:not_annotated", "-> Backbone"),
        ("model.options.depth=1", "depth"),
        ("data.target=outside_lab.data:nothing:/tmp", "data.target"),
        ("data.target=outside_lab.data:read_tables:/nowhere", "/nowhere"),
        ("selection=validator:outside_lab.scores:nothing", "selection"),
        ("adaptation.test_time=outside_lab.methods:MeanDifference", "adaptation.test_time"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(importable, tmp_path, capsys, word, said):
    assert main(["fit", "--experiment", "ava2microg", "--runs", str(tmp_path / "r"), *TINY, *BY_PATH, word]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert not (tmp_path / "r").exists()
