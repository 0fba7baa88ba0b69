"""The optimiser of a stage: what is decayed, and how the learning rate follows the batch."""

import pytest
import torch
from torch import nn

from microg_da.config import TrainingConfig
from microg_da.models import create_detector
from microg_da.training.optimizer import build_optimizer, scaled_to_batch


def decayed(module: nn.Module, **options) -> set[str]:
    """The names of the parameters that the optimiser decays."""
    optimizer = build_optimizer(module, TrainingConfig(weight_decay=0.05, **options))
    groups = {id(item): group["weight_decay"] for group in optimizer.param_groups for item in group["params"]}
    assert set(groups) == {id(item) for item in module.parameters()}
    assert set(groups.values()) <= {0.0, 0.05}
    return {name for name, item in module.named_parameters() if groups[id(item)]}


@pytest.fixture
def network() -> nn.Module:
    """Every kind of parameter: kernels, biases, batch and layer normalisation, an embedding of positions."""
    module = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Linear(4, 4), nn.LayerNorm(4))
    module.register_parameter("position", nn.Parameter(torch.zeros(1, 4)))
    return module


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_decayed(network, optimizer):
    matrices = {"0.weight", "2.weight", "position"}
    assert decayed(network, optimizer=optimizer) == matrices
    # PySlowFast with ZERO_WD_1D_PARAM off: all but batch normalisation.
    everything = {"0.bias", "2.bias", "3.weight", "3.bias", *matrices}
    assert decayed(network, optimizer=optimizer, decay_biases=True) == everything


def test_batch_normalisation_is_never_decayed_in_a_detector():
    with torch.device("meta"):
        detector = create_detector("x3d_s_13x6")
    spared = {name for name, _ in detector.named_parameters()} - decayed(detector, decay_biases=True)
    layers = {name for name, layer in detector.named_modules() if isinstance(layer, nn.BatchNorm3d)}
    assert spared == {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}


def test_sgd_has_nesterov_momentum():
    (group,) = build_optimizer(nn.Linear(2, 2, bias=False), TrainingConfig(optimizer="sgd")).param_groups
    assert (group["momentum"], group["nesterov"]) == (0.9, True)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "processes", "expected"),
    [(21, 3, 1, 0.1), (21, 1, 3, 0.1), (21, 3, 3, 0.3), (7, 3, 1, 0.1 / 3)],
)
def test_the_learning_rate_follows_the_clips_of_a_step(batch_size, accumulate, processes, expected):
    config = TrainingConfig(lr=0.1, batch_size=batch_size, accumulate=accumulate)
    assert scaled_to_batch(config, processes) == config
    config.lr_batch_size = 63
    scaled = scaled_to_batch(config, processes)
    assert scaled.lr == pytest.approx(expected)
    assert config.lr == 0.1
