"""Batch-norm statistics of the target, against statistics computed by hand."""

import pytest
import torch
from torch import nn

from microg_da.adaptation.adabn import reestimate_batch_norm
from microg_da.adaptation.base import create_adaptation
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey


class Tiny(nn.Module):
    """One batch-norm layer on raw frames."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm3d(3)
        self.dropout = nn.Dropout()

    def forward(self, frames, boxes, clip_index):
        return self.norm(frames)


def batches(sizes):
    generator = torch.Generator().manual_seed(3)
    for size in sizes:
        frames = torch.randn(size, 3, 2, 5, 5, generator=generator) * 2 + 1
        yield collate_clips([Clip(f, torch.zeros(0, 4), torch.zeros(0, 4), ClipKey("v_1", 1)) for f in frames])


def test_the_mean_counts_every_clip_once_whatever_the_batches():
    model = Tiny()
    reestimate_batch_norm(model, batches([4, 4, 1]))
    everything = torch.cat([batch.frames for batch in batches([4, 4, 1])])
    assert torch.allclose(model.norm.running_mean, everything.mean((0, 2, 3, 4)), atol=1e-5)


def test_one_batch_gives_its_own_variance():
    model = Tiny()
    reestimate_batch_norm(model, batches([6]))
    (batch,) = batches([6])
    assert torch.allclose(model.norm.running_var, batch.frames.transpose(0, 1).flatten(1).var(1), atol=1e-5)


def test_weights_modes_and_momentum_are_left_as_they_were():
    model = Tiny().train()
    model.norm.eval()
    weights = [p.clone() for p in model.parameters()]
    reestimate_batch_norm(model, batches([2, 2]))
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert model.training
    assert not model.norm.training
    assert model.norm.momentum == 0.1


def test_max_clips_bounds_what_is_looked_at():
    one, two = Tiny(), Tiny()
    reestimate_batch_norm(one, batches([2, 2, 2]), max_clips=2)
    reestimate_batch_norm(two, batches([2]))
    assert torch.equal(one.norm.running_mean, two.norm.running_mean)


def test_nothing_to_look_at_and_nothing_to_change_are_said():
    with pytest.raises(InputError, match=r"'adabn'.*target"):
        reestimate_batch_norm(Tiny(), [])
    with pytest.raises(InputError, match=r"'adabn'.*normalisation"):
        reestimate_batch_norm(nn.Linear(2, 2), batches([2]))


def test_a_real_detector_changes_its_statistics_and_nothing_else():
    detector = create_detector("r2plus1d_tiny", num_classes=5)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    method = create_adaptation("adabn", feature_dim=detector.feature_dim, num_classes=5)
    frames = torch.randint(0, 256, (2, 3, 8, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 32, 32]])
    method.before_training(
        detector, [], [collate_clips([Clip(f, boxes, boxes / 64, ClipKey("v_1", 1)) for f in frames])]
    )
    for name, value in detector.state_dict().items():
        moved = "running_" in name or "num_batches" in name
        assert moved or torch.equal(value, before[name]), name
    assert any(not torch.equal(v, before[n]) for n, v in detector.state_dict().items() if "running_mean" in n)


@pytest.mark.parametrize("options", [{"freeze": 2}, {"freeze": "all"}, {"adapters": "lora"}])
def test_frozen_layers_get_the_statistics_of_the_target_too(options):
    """A detector keeps the batch norm of frozen stages out of training; that must not keep it from being adapted."""
    torch.manual_seed(0)
    plain, frozen = (create_detector("r2plus1d_tiny", num_classes=5, **given) for given in ({}, options))
    frozen.load_state_dict(plain.state_dict(), strict=False)
    frames = torch.randint(0, 256, (2, 3, 8, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 32, 32]])
    clips = [collate_clips([Clip(f, boxes, boxes / 64, ClipKey("v_1", 1)) for f in frames], "target")]
    for detector in (plain, frozen.train()):
        create_adaptation("adabn", feature_dim=detector.feature_dim, num_classes=5).before_training(detector, [], clips)
    expected, found = plain.state_dict(), frozen.state_dict()
    statistics = [name for name in expected if "running_" in name]
    assert statistics
    assert all(torch.allclose(expected[name], found[name]) for name in statistics)
    assert not any(
        m.training
        for m in frozen.backbone.modules()
        if isinstance(m, nn.BatchNorm3d) and "freeze" in options and not m.weight.requires_grad
    )
