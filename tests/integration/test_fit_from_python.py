"""`fit()` leaves the same folder as the command."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from rich.console import Console

from microg_da import fit, load_config
from microg_da.cli import main

WORDS = [
    *("training.epochs=1", "adaptation=adabn", "bounds=true", "target_supervised.epochs=1", "data.image_size=32"),
    *("training.batch_size=4", "model.num_frames=2", "synthetic.train_clips=8", "synthetic.val_clips=2"),
    *("synthetic.test_clips=4", "synthetic.workers=0", "trainer.accelerator=cpu"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, _own_cache):
    """The run that the command made, and the one of Python."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["fit", "--experiment", "ava2microg", *WORDS, "--runs", str(folder), "--name", "by-command"]) == 0
    quiet = Console(quiet=True)
    return folder / "ava2microg" / "by-command", fit(
        load_config("ava2microg", WORDS), root=folder, name="by-python", console=quiet
    )


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def page(folder):
    """The report without what differs between two runs of one configuration: names, times, memory."""
    text = (folder / "report.html").read_text()
    text = re.sub(r"\d+(\.\d)? s\b|[\d,]+ MiB|\d{4}-\d\d-\d\d \d\d:\d\d UTC|<pre>.*?</pre>", "", text, flags=re.S)
    return re.sub(r"<summary>Environment.*?</details>", "", text, flags=re.S).replace(folder.name, "")


def test_both_leave_the_same_files(runs):
    command, python = runs
    assert files(command) == files(python.path)
    assert {"report.html", "results.csv", "per_class.csv"} <= set(files(python.path))


def test_both_have_the_same_figures_and_the_same_page(runs):
    command, python = runs
    first, second = (pd.read_csv(folder / "results.csv").drop(columns="seconds") for folder in (command, python.path))
    pd.testing.assert_frame_equal(first, second)
    assert page(command) == page(python.path)


def test_a_resumed_run_writes_what_is_missing(runs):
    _, python = runs
    before = json.loads(python.results_file.read_text())
    python.report_file.unlink()
    python.results_csv.unlink()
    resumed = fit(resume=python.path, console=Console(quiet=True))
    assert resumed.report_file.is_file()
    assert resumed.results_csv.is_file()
    assert json.loads(resumed.results_file.read_text()) == before
