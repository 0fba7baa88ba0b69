"""The recipes against the benchmark's own configurations and logs: every number, and every weight that was not loaded."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

import pytest
import torch
from pyslowfast_names import PYSLOWFAST

from microg_da.config import Config, load_config
from microg_da.config.experiments import experiment_files
from microg_da.models.weight_names import convert
from microg_da.runs.detectors import build_detector
from microg_da.training.optimizer import clips_per_step
from microg_da.training.schedules import learning_rate
from microg_da.zoo import ZOO, weight_address

ROWS = {
    theirs: ours for theirs, ours in PYSLOWFAST.items() if theirs not in ("SLOW_8x8_R50", "SLOWFAST_32x2_R101_50_50")
}
EVERY = [name for name in experiment_files() if name.startswith(("microg4m/", "ava/", "ava2microg/"))]
FROZEN = [name for name in EVERY if "/frozen_" in name]
RECIPES = [name for name in EVERY if name not in FROZEN]


@pytest.fixture(scope="module")
def facts(test_data):
    return json.loads((test_data / "pyslowfast" / "models.json").read_text())


def published(name: str) -> Config:
    return load_config(f"microg4m/{name}", ["protocol=published"])


def lr_at_epoch(recipe: dict, epoch: float) -> float:
    """PySlowFast's policy, as its documentation has it: relative steps, and a linear warm-up to what they say."""

    def steps(at: float) -> float:
        number = max(index for index, start in enumerate(recipe["STEPS"]) if at >= start)
        return recipe["LRS"][number] * recipe["BASE_LR"]

    length, start = recipe["WARMUP_EPOCHS"], recipe["WARMUP_START_LR"]
    return start + epoch * (steps(length) - start) / length if epoch < length else steps(epoch)


def test_every_row_of_the_tables_has_a_recipe():
    assert len(ROWS) == 12
    for family in ("microg4m", "ava", "ava2microg"):
        assert {f"{family}/{name}" for name in ROWS.values()} <= set(RECIPES)
    assert {"microg4m/zeroshot_slow", "microg4m/zeroshot_slowfast_r101"} <= set(RECIPES)


@pytest.mark.data
@pytest.mark.parametrize(("theirs", "ours"), ROWS.items())
def test_the_published_recipe_is_the_benchmarks(facts, theirs, ours):
    config, network, recipe = published(ours), facts[theirs]["config"], facts[theirs]["train_recipe"]
    data, model, training = config.data, config.model, config.training
    assert (model.num_frames, model.sampling_rate) == (network["NUM_FRAMES"], network["SAMPLING_RATE"])
    assert (data.image_size, data.test_side) == (network["TRAIN_CROP_SIZE"], network["TEST_CROP_SIZE"])
    assert data.train_sides == network["TRAIN_JITTER_SCALES"]
    assert model.dropout == network["DROPOUT_RATE"]
    assert (training.optimizer, training.epochs) == (recipe["OPTIMIZING_METHOD"], recipe["MAX_EPOCH"])
    assert training.weight_decay == recipe["WEIGHT_DECAY"]
    assert training.decay_biases is not recipe["ZERO_WD_1D_PARAM"]
    assert training.momentum == recipe["MOMENTUM"]
    assert training.clip_gradient_norm == recipe["CLIP_GRAD_L2NORM"]
    assert training.batch_size == recipe["BATCH_PER_GPU"]
    assert training.lr_batch_size == clips_per_step(training, 1) == recipe["BATCH_TOTAL"]
    assert training.accumulate == recipe["GPUS"]
    assert config.trainer.precision == "16-mixed"
    assert recipe["MIXED_PRECISION"]
    for epoch in [*range(recipe["MAX_EPOCH"]), 0.5, 2.25, 4.999, 19.999]:
        assert learning_rate(training, epoch) == pytest.approx(lr_at_epoch(recipe, epoch), rel=1e-6)


@pytest.mark.data
@pytest.mark.parametrize(("theirs", "ours"), ROWS.items())
def test_the_published_recipe_starts_with_the_weights_that_were_loaded(facts, theirs, ours):
    config = published(ours)
    with torch.device("meta"):
        detector = build_detector(config)
    state = {name: torch.empty(shape, device="meta") for name, shape in facts[theirs]["state_dict"]}
    expected = {
        name
        for theirs_name in facts[theirs]["pretrained_not_loaded"]
        for name in convert({theirs_name: state[theirs_name]}, detector.backbone)
    }
    found = {
        name
        for pattern in config.model.skip_weights
        for name in fnmatch.filter(detector.state_dict(), pattern)
        if not name.endswith("num_batches_tracked")
    }
    assert found == expected
    assert config.model.checkpoint is not None
    # C2D non-local began with a file of the authors; it held the weights of C2D.
    file = {"C2D_NLN_8x8_R50": "C2D_NOPOOL_8x8_R50.pkl"}.get(theirs, facts[theirs]["train_recipe"]["PRETRAINED_FILE"])
    assert config.model.checkpoint == f"weights/{file}"


@pytest.mark.data
@pytest.mark.parametrize(
    ("theirs", "recipe"),
    [("SLOW_8x8_R50", "zeroshot_slow"), ("SLOWFAST_32x2_R101_50_50", "zeroshot_slowfast_r101")],
)
def test_the_published_zero_shot_is_the_benchmarks(facts, theirs, recipe):
    config, network = published(recipe), facts[theirs]["config"]
    assert config.model.name == PYSLOWFAST[theirs]
    assert (config.model.num_frames, config.model.sampling_rate) == (network["NUM_FRAMES"], network["SAMPLING_RATE"])
    assert config.data.test_side == network["TEST_CROP_SIZE"]
    assert config.checkpoint == f"weights/ava/{facts[theirs]['tests'][0]['checkpoint']}"
    assert config.adaptation.name == "source_only"


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("microg4m/")])
def test_what_the_protocols_of_a_recipe_mean(name):
    faulty, corrected = load_config(name, ["protocol=published"]), load_config(name)
    assert corrected == load_config(name, ["protocol=corrected"])
    assert (faulty.evaluation.protocol, corrected.evaluation.protocol) == ("published", "corrected")
    assert (faulty.model.roi_stride, corrected.model.roi_stride) == ("published", "true")
    options = {"scheme": "published", "window": "published", "outside": "keep", "val_view": "centre"}
    for domain in ("source", "target"):
        assert options.items() <= faulty.file_options(domain).items()
        said = corrected.file_options(domain)
        assert said["scheme"] == "by-source"
        assert not {"window", "outside", "val_view"} & set(said)
    # Nothing that a published file has is left out.
    assert corrected.model.skip_weights in ([], ["backbone.*.nonlocal_blocks.*"])
    assert corrected.model.allow_missing == faulty.model.allow_missing == []
    assert corrected.training == faulty.training


def test_slowfast_4x16_is_the_network_of_its_file():
    """Feichtenhofer et al., ICCV 2019, table 1 with α = 8: fusion kernels of 5×1×1, 4 slow and 32 fast frames."""
    for family in ("microg4m", "ava", "ava2microg"):
        config = load_config(f"{family}/slowfast_r50_4x16")
        with torch.device("meta"):
            backbone = build_detector(config).backbone
        kernels = [
            parameter.shape[2:]
            for name, parameter in backbone.named_parameters()
            if name.endswith("conv_fast_to_slow.weight")
        ]
        assert kernels == [(5, 1, 1)] * 4
        frames = torch.empty(1, 3, config.model.num_frames, 64, 64, device="meta")
        assert [pathway.shape[2] for pathway in backbone.pathways(frames)] == [4, 32]


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_that_a_recipe_reads_can_be_had(name):
    for words in ([], ["protocol=published"] if name.startswith("microg4m/") else []):
        config = load_config(name, words)
        assert config.experiment == name
        assert config.model.name in ZOO
        (path,) = filter(None, (config.checkpoint, config.model.checkpoint))
        if path.startswith("runs/"):
            family, model, run = path.split("/")[1:4]
            assert f"{family}/{model}" in RECIPES
            assert (model, run) == (config.model.name, "source")
        else:
            assert path.startswith("weights/")
            assert weight_address(path) is not None


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_encoder_has_a_probe_and_a_window_that_it_reads(name):
    config = load_config(name)
    assert (config.model.freeze, config.model.head, config.experiment) == ("all", "attentive", name)
    assert config.checkpoint is None  # its source stage trains the probe
    library, _, network = config.model.name.partition(":")
    if library == "hf":
        assert network.count("/") == 1  # a repository of the hub
    else:
        timm = pytest.importorskip("timm")
        assert network in timm.list_pretrained()
        assert config.model.options == {"pretrained": True, "temporal": "none"}


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith("ava2microg/")])
def test_the_ways_to_adapt(name):
    default = load_config(name)
    assert default.adaptation.name == "gravity_self_training"
    other = load_config(name, ["adaptation=self_training"])
    assert other.adaptation.rotation == 180
    assert set(other.adaptation.args) == {"rolls", "round_epochs"}
    assert load_config(name, ["adaptation=source_only"]).adaptation.args == {}
    assert default.training.lr_batch_size == clips_per_step(default.training, 1)


@pytest.mark.data
def test_the_page_has_the_published_scores(facts, test_data):
    """Each row of docs/reproduce.md, against the scores that the authors' code wrote; theirs have five decimals."""
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text()
    rows = re.findall(r"^\| `microg4m/(\w+)` \|" + r" ([\d.]+) \|" * 4 + "$", page, re.MULTILINE)
    written = {name: [float(number) for number in numbers] for name, *numbers in rows}
    scores = json.loads((test_data / "microg4m" / "published_scores.json").read_text())
    names = ("map", "f1_macro", "recall_macro", "auroc_macro")
    expected = {PYSLOWFAST[row["model"]]: [100 * row["test"][name] for name in names] for row in scores}
    for theirs, recipe in (("SLOW_8x8_R50", "zeroshot_slow"), ("SLOWFAST_32x2_R101_50_50", "zeroshot_slowfast_r101")):
        (tested,) = facts[theirs]["tests"]
        expected[recipe] = [100 * tested[name] for name in ("map", "f1", "recall", "auroc")]
    assert written.keys() == expected.keys()
    for name, numbers in expected.items():
        assert written[name] == pytest.approx(numbers, abs=0.0101), name
