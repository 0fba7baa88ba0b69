"""Runs that read feature maps: scores as without the store, and methods that cannot read them are refused by name."""

import pandas as pd
import pytest
import torch
from torch import nn

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import Method
from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.inference import feature_maps
from microg_da.inference.feature_maps import FeatureMaps
from microg_da.models import create_detector
from microg_da.training.preflight import check
from microg_da.training.runner import run_experiment as fit
from microg_da.training.stored_features import check_store
from microg_da.types import VARIANTS

WORDS = [
    *("model.name=r2plus1d_micro", "model.freeze=all", "model.dropout=0", "model.num_frames=2", "data.image_size=32"),
    *("training.epochs=2", "training.batch_size=4", "training.lr=0.05", "adaptation.epochs=2", "adaptation.lr=0.05"),
    *("synthetic.train_clips=8", "synthetic.val_clips=6", "synthetic.test_clips=6", "synthetic.workers=0"),
    *("evaluation.batch_size=4", "augment.flip=0", "augment.scale=[1.0,1.0]", "augment.colour=0"),
    "trainer.accelerator=cpu",
]

REFUSED = [
    *("adabn", "gravity_frame", "tent", "sar", "vitta", "memo", "eata", "cotta", "bem", "temporal_static"),
    *("rotta", "dru"),
    *("mean_teacher", "mic", "gravity_self_training", "pets", "rotation_consistency", "rotation_pretext"),
    *("instance_mixing", "shot", "atcon", "prototype_calibration"),
    *("learned_canonicalization", "energy_canonicalization", "gravity_training"),
]
READ_MAPS = [
    *(
        "source_only",
        "roll_tta",
        "dann",
        "cdan",
        "sdat",
        "sada",
        "mmd",
        "coral",
        "mcd",
        "dda_mlic",
        "mcc",
        "self_training",
    ),
    *("aad", "source_finetune", "joint", "target_supervised"),
]


def new_config(*words, store="store"):
    return load_config("ava2microg", [*WORDS, f"data.feature_store={store}", *words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with and without the store, by its words; each made once."""
    root, made = tmp_path_factory.mktemp("runs"), {}

    def run(*words):
        if words not in made:
            made[words] = [
                fit(new_config(*words, store=store), root=root / kind)
                for kind, store in (("pixels", "null"), ("maps", root / "store"))
            ]
        return made[words]

    return run


def weights(run, stage):
    state = torch.load(run.detector_file(stage), weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("head.")}


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("method", ["cdan", "roll_tta", *map(slow, ("source_finetune", "mmd", "mcc", "self_training"))])
def test_scores_are_those_without_the_store(runs, method):
    pixels, maps = runs(f"adaptation={method}")
    for stage in ("source", "adapt"):
        before = weights(pixels, stage)
        for name, value in weights(maps, stage).items():
            torch.testing.assert_close(value, before[name], rtol=0.02, atol=2e-3)
    for variant in ("source_only", "adapted"):
        for domain in ("source", "target"):
            tables = [pd.read_csv(run.detections_file(variant, domain)) for run in (pixels, maps)]
            score = [name for name in tables[0] if "score" in name]
            torch.testing.assert_close(*(torch.tensor(table[score].to_numpy()) for table in tables), rtol=0, atol=5e-3)
        for one, other in zip(*(run.results.get(variant).validators.items() for run in (pixels, maps)), strict=True):
            if one[0] == "mixval":
                assert other[1] != other[1]  # there are no pixels to mix
            else:
                assert other == (one[0], pytest.approx(one[1], abs=0.05, nan_ok=True))


@pytest.mark.slow
def test_the_bound_reads_labelled_target_maps(runs):
    words = ("adaptation=source_only", "bounds=true", "target_supervised.epochs=2", "target_supervised.rotation=null")
    pixels, maps = runs(*words)
    before = weights(pixels, "target_supervised")
    for name, value in weights(maps, "target_supervised").items():
        torch.testing.assert_close(value, before[name], rtol=0.02, atol=2e-3)


def test_a_second_run_encodes_nothing_and_a_resumed_one_neither(tmp_path, monkeypatch):
    config = new_config("adaptation=mcc", "adaptation.match_rates=false", store=tmp_path / "store")
    first = fit(config, root=tmp_path / "first")
    assert not list((tmp_path / "store").glob("*/train-tested*"))  # mcc does not look at clips before an epoch
    monkeypatch.setattr(feature_maps.Encoder, "__call__", lambda *_: pytest.fail("a clip was encoded"))
    again = fit(config, root=tmp_path / "again")
    assert all(
        again.results.get(variant).target.map == first.results.get(variant).target.map
        for variant in VARIANTS
        if first.results.get(variant) is not None
    )
    again.detector_file("adapt").unlink()
    resumed = fit(resume=again.path)
    name = "head.projection.weight"
    assert torch.equal(weights(resumed, "adapt")[name], weights(first, "adapt")[name])


def test_every_method_says_whether_it_reads_maps():
    assert sorted([*REFUSED, *READ_MAPS]) == sorted(ADAPTATIONS)


@pytest.mark.parametrize("name", READ_MAPS)
def test_methods_that_read_maps_pass(name):
    check(new_config(f"adaptation={name}"))


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_need_the_encoder_are_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(FeatureMaps, "__init__", lambda *_: pytest.fail("the store was opened"))
    method = ADAPTATIONS.load(name)
    with pytest.raises(InputError) as refusal:
        fit(new_config(f"adaptation={name}"))
    assert name in str(refusal.value) or method.__name__ in str(refusal.value)
    assert issubclass(method, Method)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("model.freeze=0",), "model.freeze"),
        (("adaptation=roll_tta", "adaptation.args.adabn=true"), "roll_tta"),
        (("adaptation=mcc", "adaptation.test_time=tent"), "tent"),
        (("model.roll_pooling=c4",), "model.roll_pooling"),
        (("model.adapters=lora",), "model.adapters"),
        (("selection=validator:mixval",), "mixval"),
        (("data.feature_draws=0",), "data.feature_draws"),
        (("adaptation.extra_source=synthetic:earth",), "adaptation.extra_source"),
    ],
)
def test_settings_that_have_no_maps_are_refused(words, named):
    with pytest.raises(InputError, match=named):
        check(new_config("adaptation=mcc", *words))


def test_a_new_layer_that_is_trained_is_refused():
    detector = create_detector("r2plus1d_micro", freeze="all")
    detector.backbone.temporal = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"backbone\.temporal\.weight.*model\.options\.temporal"):
        check_store(new_config("adaptation=mcc"), detector)


def test_without_a_store_every_method_may_run():
    check(load_config("ava2microg", ["adaptation=mean_teacher"]))


def test_a_frozen_backbone_always_evaluates_and_is_not_trained(tmp_path):
    run = fit(new_config("adaptation=source_only", store="null"), root=tmp_path)
    state = torch.load(run.detector_file("source"), weights_only=True)["state_dict"]
    assert all(int(value) == 0 for name, value in state.items() if name.endswith("num_batches_tracked"))
