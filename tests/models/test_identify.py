"""Which networks a file fits: told from PySlowFast's own names and shapes, and from files of ours without a description."""

from __future__ import annotations

import json

import pytest
import torch
from pyslowfast_names import PYSLOWFAST

from microg_da.cli import main
from microg_da.models.create import create_detector
from microg_da.models.identify import known_networks
from microg_da.zoo import ZOO, Window


def published_file(path, shapes, **beside):
    """A checkpoint with these names and shapes and no memory for values."""
    state = {name: torch.zeros(()).expand(tuple(shape)) for name, shape in shapes.items()}
    torch.save({"model_state": state, **beside}, path)
    return path


@pytest.mark.data
def test_published_checkpoints_are_told_by_their_names_and_shapes(test_data, tmp_path):
    facts = json.loads((test_data / "pyslowfast" / "models.json").read_text())
    for theirs, ours in PYSLOWFAST.items():
        shapes = dict(facts[theirs]["state_dict"])
        first, second, *_ = known_networks(published_file(tmp_path / "w.pyth", shapes))
        assert ours in first.models, theirs
        assert first.fits
        assert first.of_network == pytest.approx(1, abs=1e-6)
        assert {ZOO[name].builder for name in first.models} == {ZOO[ours].builder}
        assert not second.fits
        assert second.share < 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Weights of a small network, without a word about it."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(create_detector("r2plus1d_tiny").state_dict(), path)
    return path


def test_shares_are_those_of_parameters(tiny, tmp_path):
    best, *others = known_networks(tiny)
    assert best.models == ("r2plus1d_tiny",)
    assert (best.fits, best.of_network, best.of_file) == (True, 1, 1)
    assert best.fitting == ZOO["r2plus1d_tiny"].parameters
    assert [each.share for each in others] == sorted((each.share for each in others), reverse=True)
    state = torch.load(tiny, weights_only=True)
    lost = next(name for name in state if name.endswith("weight") and state[name].ndim == 5)
    without = {name: value for name, value in state.items() if name != lost}
    torch.save(without, tmp_path / "part.pth")
    part = known_networks(tmp_path / "part.pth")[0]
    parameters = ZOO["r2plus1d_tiny"].parameters
    assert (part.fits, part.of_file) == (False, 1)
    assert part.of_network == pytest.approx((parameters - state[lost].numel()) / parameters)


def test_a_head_of_another_size_is_not_missed(tiny, tmp_path):
    state = torch.load(tiny, weights_only=True)
    other = {"head.projection.weight": torch.zeros(7, 64), "head.projection.bias": torch.zeros(7)}
    state |= {name: value.new_zeros(7, *state[name].shape[1:]) for name, value in other.items()}
    torch.save(state, tmp_path / "head.pth")
    best = known_networks(tmp_path / "head.pth")[0]
    assert (best.models, best.fits, best.share) == (("r2plus1d_tiny",), True, 1)


def test_of_networks_with_the_same_weights_the_window_in_the_file_decides(tmp_path):
    with torch.device("meta"):
        shapes = {name: list(x.shape) for name, x in create_detector("slow_r50_8x8").state_dict().items()}
    for frames, rate, expected in ((8, 8, "slow_r50_8x8"), (4, 16, "slow_r50_4x16")):
        text = f"DATA:\n  NUM_FRAMES: {frames}\n  SAMPLING_RATE: {rate}\n"
        best = known_networks(published_file(tmp_path / "w.pyth", shapes, cfg=text))[0]
        assert best.models[0] == expected
        assert set(best.models) == {"slow_r50_8x8", "slow_r50_4x16"}
        assert best.window == Window(frames, rate)


def test_the_command_names_the_network(tiny, tmp_path, capsys):
    assert main(["checkpoint", str(tiny)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].startswith("r2plus1d_tiny")
    assert "--model r2plus1d_tiny" in printed
    assert main(["checkpoint", str(tiny), "--json"]) == 0
    networks = json.loads(capsys.readouterr().out)["networks"]
    assert networks[0]["models"] == ["r2plus1d_tiny"]
    assert sum(len(network["models"]) for network in networks) == len(ZOO)
    assert main(["checkpoint", str(tiny), "--model", "r2plus1d_tin"]) == 2
    assert "'r2plus1d_tiny'" in capsys.readouterr().err
    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    assert main(["checkpoint", str(tmp_path / "other.pth")]) == 1
    assert "fits no known network" in capsys.readouterr().out
