"""Recipes are run for two batches: on made-up trees of tiny frames, from made-up weights in the published format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import quick
import torch
from pyslowfast_names import PYSLOWFAST
from rich.console import Console

from microg_da.cli import main
from microg_da.config import Config, load_config
from microg_da.config.experiments import experiment_files
from microg_da.models import create_detector
from microg_da.models.checkpoints import load_detector
from microg_da.models.cost import count_parameters
from microg_da.runs.detectors import build_detector
from microg_da.runs.folder import Run
from microg_da.taxonomy import get_taxonomy
from microg_da.training.runner import run_experiment

QUIET = Console(quiet=True)
SMALL = [
    *("data.image_size=64", "data.train_sides=[64, 72]", "data.test_side=64", "data.num_workers=0"),
    *("training.epochs=1", "training.batch_size=1", "training.accumulate=1", "training.max_batches_per_epoch=2"),
    *("adaptation.epochs=1", "evaluation.batch_size=2", "trainer.accelerator=cpu", "trainer.precision=32-true"),
]
FEW_FRAMES = ["model.num_frames=4"]
EVERY = [name for name in experiment_files() if name.startswith(("microg4m/", "ava/", "ava2microg/"))]
FROZEN = [name for name in EVERY if "/frozen_" in name]
RECIPES = [name for name in EVERY if name not in FROZEN]
TINY_ENCODERS = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "intermediate_size": 32,
    "pred_hidden_size": 12, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
}  # fmt: skip
"""What makes a network of any family of transformers tiny."""


def write_tree(root: Path, splits: dict[str, list[str]]) -> Path:
    """Clips of twelve frames of 48 × 64 pixels, each with one person who walks and one who stands at frame 6."""
    (root / "annotations").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for split, videos in splits.items():
        rows = ""
        for video in videos:
            rows += f"{video},6,0.1,0.2,0.5,0.9,12,1\n{video},6,0.6,0.1,0.9,0.8,14,2\n"
            (root / "frames" / video).mkdir(parents=True)
            for number in range(1, 13):
                picture = noise.integers(0, 255, (48, 64, 3), np.uint8)
                cv2.imwrite(str(root / "frames" / video / f"{video}_{number:06d}.jpg"), picture)
        (root / "annotations" / f"ava_{split}.csv").write_text(rows)
    return root


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> list[str]:
    """Overrides that name a tree of MicroG-4M of ten source videos and one of AVA, whose stamps are frames."""
    root = tmp_path_factory.mktemp("data")
    videos = [f"film{letter}_1" for letter in "ABCDEFGHIJ"]
    write_tree(root / "microg4m", {"train": videos[:6], "val": videos[6:8], "test": videos[8:]})
    write_tree(root / "ava", {"train": [f"earth{number}" for number in range(5)], "val": ["earth5", "earth6"]})
    return [f"microg4m:{root}/microg4m", f"ava:{root}/ava?stamp=frames"]


def data_words(recipe: str, trees: list[str]) -> list[str]:
    microg, ava = trees
    source, target = {"microg4m": (microg, microg), "ava": (ava, ava), "ava2microg": (ava, microg)}[
        recipe.split("/")[0]
    ]
    return [f"data.source={source}", f"data.target={target}"]


def kinetics_file(config: Config, path: Path, classes: int = 400) -> Path:
    """A checkpoint of the recipe's network as PySlowFast writes it, with random weights and a head of 400 classes."""
    torch.manual_seed(3)
    state = build_detector(config).state_dict()
    width = state["head.projection.weight"].shape[1]
    state |= {"head.projection.weight": torch.randn(classes, width), "head.projection.bias": torch.randn(classes)}
    torch.save({"epoch": 1, "model_state": state}, path)
    return path


def made_up(name: str, shape: list[int]) -> torch.Tensor:
    """Weights under which a hundred layers stay finite: kernels after He et al. (ICCV 2015), branches scaled down."""
    if len(shape) > 1:
        return torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
    if name.endswith(".weight"):
        return torch.full(shape, 0.1)
    return torch.ones(shape) if name.endswith("running_var") else torch.zeros(shape)


def run(recipe: str, words: list[str], root: Path) -> Run:
    return run_experiment(load_config(recipe, words), root=root, name="two-batches", console=QUIET)


def trained(run: Run, start: dict[str, torch.Tensor], stage: str = "source") -> bool:
    """Whether a stage changed the weights that it began with."""
    state = torch.load(run.detector_file(stage), weights_only=True)["state_dict"]
    names = [name for name in start if name.startswith("backbone.") and name.endswith("weight")]
    return any(not torch.equal(state[name], start[name]) for name in names)


@pytest.mark.parametrize("protocol", ["published", "corrected"])
def test_a_row_of_the_first_table(protocol, trees, tmp_path):
    recipe = "microg4m/x3d_s_13x6"
    words = [*SMALL, *FEW_FRAMES, *data_words(recipe, trees), f"protocol={protocol}"]
    weights = kinetics_file(load_config(recipe, words), tmp_path / "w.pyth")
    done = run(recipe, [*words, f"model.checkpoint={weights}"], tmp_path)
    assert done.path == tmp_path / recipe / "two-batches"
    (result,) = done.results.variants
    assert result.source.protocol == protocol
    assert trained(done, torch.load(weights)["model_state"])
    record = done.record
    assert all(
        f"scheme {'published' if protocol == 'published' else 'by-source'}" in text for text in record.data.values()
    )
    state = torch.load(done.detector_file("source"), weights_only=True)
    assert state["roi_stride"] == ("published" if protocol == "published" else "true")


def test_a_row_of_the_second_table_trains_nothing(trees, tmp_path):
    torch.manual_seed(0)
    ava = create_detector("slow_r50_4x16", 80)
    torch.save({"model_state": ava.state_dict()}, tmp_path / "ava.pyth")
    recipe = "microg4m/zeroshot_slow"
    done = run(recipe, [*SMALL, *data_words(recipe, trees), f"checkpoint={tmp_path}/ava.pyth"], tmp_path)
    (result,) = done.results.variants
    assert (result.variant, result.seconds) == ("source_only", 0)
    scored = torch.load(done.detector_file("source"), weights_only=True)["state_dict"]
    rows = torch.tensor(get_taxonomy("microg50").ids) - 1
    assert torch.equal(scored["head.projection.weight"], ava.head.projection.weight[rows])


def test_a_source_model_and_its_adaptation(trees, tmp_path):
    """The second recipe begins with what the first has made."""
    recipe = "ava/x3d_s_13x6"
    words = [*SMALL, *FEW_FRAMES, *data_words(recipe, trees)]
    weights = kinetics_file(load_config(recipe, words), tmp_path / "w.pyth")
    source = run(recipe, [*words, f"model.checkpoint={weights}"], tmp_path)
    detector = source.detector_file("source")
    state = torch.load(detector, weights_only=True)["state_dict"]
    assert state["head.projection.weight"].shape[0] == 80
    assert trained(source, torch.load(weights)["model_state"])
    recipe = "ava2microg/x3d_s_13x6"
    few = quick.UP
    words = [*SMALL, *FEW_FRAMES, *data_words(recipe, trees), f"checkpoint={detector}", *few]
    done = run(recipe, words, tmp_path)
    assert [result.variant for result in done.results.variants] == ["source_only", "adapted"]
    assert trained(done, state, "adapt")
    assert not trained(done, state)


def test_a_dry_run_says_what_the_row_costs(trees, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = "microg4m/slow_r50_8x8"
    words = [*SMALL, *data_words(recipe, trees), "training.epochs=60"]
    assert main(["fit", "--experiment", recipe, "--dry-run", *words]) == 2
    said = capsys.readouterr().err
    assert "weights/SLOWONLY_8x8_R50.pkl" in said
    assert "kinetics400/SLOWONLY_8x8_R50.pkl" in said
    weights = kinetics_file(load_config(recipe, words), tmp_path / "w.pyth")
    before = sorted(tmp_path.rglob("*"))
    assert main(["fit", "--experiment", recipe, "--dry-run", *words, f"model.checkpoint={weights}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    parameters = count_parameters(create_detector("slow_r50_8x8"))
    for part in (
        f"{parameters:,}",
        "8 frames, 8 apart",
        "source/train 7",
        "source/test 2",
        "MiB",
        " 60 ",
        "the whole run",
    ):
        assert part in said
    assert sorted(tmp_path.rglob("*")) == before


def tiny_encoder(recipe: str, folder: Path) -> list[str]:
    """Words that name a tiny network of the same family, with random weights, in place of a recipe's."""
    name = load_config(recipe).model.name
    if name.startswith("timm:"):
        return ["model.name=timm:test_vit", "model.options.temporal=none"]
    transformers = pytest.importorskip("transformers")
    kind = next(kind for kind in ("VideoMAE", "VJEPA2", "Timesformer") if kind.lower() in name)
    config_class = getattr(transformers, f"{kind}Config")
    known = config_class().to_dict()
    config = config_class(**{key: value for key, value in TINY_ENCODERS.items() if key in known})
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    return [f"model.name=hf:{folder}"]


@pytest.mark.parametrize("recipe", FROZEN if os.environ.get("EVERY_RECIPE") else ["ava2microg/frozen_vjepa2_l"])
def test_a_frozen_encoder_and_its_adaptation(recipe, trees, tmp_path):
    words = [*SMALL, *FEW_FRAMES, *data_words(recipe, trees), *tiny_encoder(recipe, tmp_path / "encoder")]
    few = [*quick.UP, "trainer.precision=bf16-mixed"]
    done = run(recipe, [*words, *few], tmp_path)
    assert [result.variant for result in done.results.variants] == ["source_only", "adapted"]
    source, adapted = (torch.load(done.detector_file(stage), weights_only=True) for stage in ("source", "adapt"))
    before, after = source["state_dict"], adapted["state_dict"]
    backbone = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    assert not torch.equal(before["head.poolers.0.queries"], after["head.poolers.0.queries"])
    assert done.record.model.trainable_parameters < done.record.model.parameters
    # The file alone is enough to predict, wherever the encoder came from.
    for file in (tmp_path / "encoder").glob("*"):
        file.unlink()
    detector, description = load_detector(done.detector_file("adapt"))
    assert (description.head, description.num_frames) == ("attentive", 4)
    for name, value in detector.state_dict().items():
        assert torch.equal(value, after[name])


# All recipes take a quarter of an hour: `make recipes`.
STEPPED = RECIPES if os.environ.get("EVERY_RECIPE") else ["microg4m/x3d_s_13x6", "ava/slow_r50_4x16"]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("recipe", STEPPED)
def test_every_recipe_makes_two_steps(recipe, trees, tmp_path, test_data):
    """Weights have PySlowFast's names, where there is a file of them."""
    words = [*SMALL, *data_words(recipe, trees)]
    config = load_config(recipe, words)
    facts = json.loads((test_data / "pyslowfast" / "models.json").read_text())
    key = "checkpoint" if config.checkpoint else "model.checkpoint"
    classes = 80 if config.checkpoint else 400
    weights = kinetics_file(config, tmp_path / "w.pyth", classes)
    if not config.model.options:
        theirs = next(name for name, ours in PYSLOWFAST.items() if ours == config.model.name)
        shapes = dict(facts[theirs]["state_dict"])
        shapes["head.projection.weight"] = [classes, shapes["head.projection.weight"][1]]
        shapes["head.projection.bias"] = [classes]
        state = {name: made_up(name, shape) for name, shape in shapes.items()}
        torch.save({"model_state": state}, weights)
    few = quick.UP if recipe.startswith("ava2microg/") else []
    done = run(recipe, [*words, f"{key}={weights}", *few], tmp_path)
    assert all(result.target.map >= 0 for result in done.results.variants)
