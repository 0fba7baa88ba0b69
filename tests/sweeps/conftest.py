"""Sweep files in a folder of their own, and a `fit` that takes no time."""

import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from score_cases import some_scores

from microg_da.runs.results import RunResults, VariantResult, write_results

STAND_IN = '''
"""Stands in for `python -m microg_da fit`: reads the same words, writes the files that a sweep reads."""
import json, os, pathlib, signal, sys, time

words = sys.argv[1:]
assert words.pop(0) == "fit"
given, keys = {}, {}
while words:
    word = words.pop(0)
    if word in ("--experiment", "--runs", "--name", "--overrides"):
        given[word] = words.pop(0)
    else:
        key, _, value = word.removeprefix("--").partition("=")
        keys[key] = value
if "--overrides" in given:
    keys |= json.loads(pathlib.Path(given["--overrides"]).read_text())
lr = float(keys.get("training.lr", 0.01))
run = pathlib.Path(given["--runs"]) / given["--experiment"] / given["--name"]
metrics = run / "metrics" / "adapt"
metrics.mkdir(parents=True)
if keys.get("data.image_size") == "16":
    print("microg_da: the images are too small", file=sys.stderr)
    sys.exit(2)
if keys.get("data.image_size") == "17":
    print("out of memory", file=sys.stderr)
    sys.exit(1)
if keys.get("data.image_size") == "18":
    os.kill(os.getppid(), signal.SIGKILL)
table = "epoch,val/map,train/loss\\n"
for epoch in range(int(keys.get("training.epochs", 1))):
    while (pathlib.Path(__file__).parent / "hold").exists():
        time.sleep(0.05)
    time.sleep(float(keys.get("training.warmup_epochs", 0)))
    table += f"{epoch},,{1 / (epoch + 1)}\\n{epoch},{lr * (epoch + 1)},\\n"
    (metrics / "metrics.csv").write_text(table)
results = json.loads((pathlib.Path(__file__).parent / "results.json").read_text())
adapted = results["variants"]["adapted"]
adapted["source"]["map"], adapted["target"]["map"], adapted["validators"] = lr, lr / 2, {"entropy": -lr}
(run / "results.json").write_text(json.dumps(results))
'''


@pytest.fixture
def stand_in(tmp_path) -> Path:
    """A program called microg_da that finishes at once, or when no file `hold` is beside it; its metric is lr."""
    path = tmp_path / "bin" / "microg_da"
    path.parent.mkdir()
    adapted = VariantResult("adapted", "dann", 1.0, some_scores(0.0), some_scores(0.0))
    write_results(RunResults(adapted=adapted), path.parent / "results.json")
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(STAND_IN)}")
    path.chmod(0o755)
    return path


@pytest.fixture
def make_sweep(tmp_path):
    """Write a sweep file that differs from a small valid one in the keys given; None leaves a key out."""

    def write(name="small", **changes):
        content = {
            "method": "random",
            "metric": {"name": "adapt-val/map", "goal": "maximize"},
            "parameters": {"training.lr": {"min": 0.001, "max": 0.1}},
            "program": "microg_da",
            "command": ["${env}", "${interpreter}", "-m", "${program}", "fit", "--experiment", "ava2microg", "${args}"],
        } | changes
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write


@pytest.fixture
def make_quick_sweep(make_sweep, stand_in):
    """A sweep file whose trials are started with the stand-in."""

    def write(name="quick", **changes):
        command = [str(stand_in), "fit", "--experiment", "ava2microg", "${args_no_hyphens}"]
        return make_sweep(name, **{"command": command, "program": None} | changes)

    return write
