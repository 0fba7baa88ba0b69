"""Parts of a network: what is frozen stays, what is added starts as nothing and learns."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.adapters import (
    DualPathAdapter,
    learning_rate_scales,
    parameter_depths,
    stage_channels,
)
from microg_da.models.checkpoints import load_checkpoint
from microg_da.models.cost import count_parameters

BOXES = torch.tensor([[4.0, 4.0, 30.0, 60.0], [10.0, 0.0, 64.0, 64.0]])
INDEX = torch.tensor([0, 1])
MODELS = ["r2plus1d_tiny", "slowfast_r50_8x8", "mvit_v2_s_16x4", "timm:resnet10t", "timm:test_vit"]


def frames(size=64):
    return torch.randn(2, 3, 4, size, size, generator=torch.Generator().manual_seed(0))


def step(detector, lr=0.1):
    """One step of gradient descent on what may be trained."""
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=lr)
    detector(frames(), BOXES, INDEX).logits.square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["lora", "dual_path"])
def test_adapters_start_as_nothing_and_everything_else_stays(tmp_path, name, kind):
    torch.manual_seed(0)
    plain = create_detector(name, 5)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    adapted = create_detector(name, 5, checkpoint=tmp_path / "plain.pth", adapters=kind, adapter_rank=4)
    expected = plain.eval()(frames(), BOXES, INDEX).logits
    torch.testing.assert_close(adapted.eval()(frames(), BOXES, INDEX).logits, expected)

    before = {k: v.clone() for k, v in adapted.state_dict().items()}
    step(adapted.train())
    changed = {k for k, v in adapted.state_dict().items() if not torch.equal(v, before[k])}
    trainable = {k for k, p in adapted.named_parameters() if p.requires_grad}
    assert changed <= trainable  # running statistics of frozen layers among what stays
    assert {"head.projection.weight", "head.projection.bias"} <= changed
    added = trainable - set(plain.state_dict())
    assert changed & added
    assert count_parameters(adapted, trainable=True) < count_parameters(adapted) / 2
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


def test_adapters_learn():
    torch.manual_seed(0)
    for kind in ("lora", "dual_path"):
        detector = create_detector("r2plus1d_tiny", 5, adapters=kind, dropout=0.0)
        detector.head.requires_grad_(False)
        nn.init.normal_(detector.head.projection.weight)
        target = torch.tensor([[1.0, 0, 1, 0, 0], [0.0, 1, 0, 0, 1]])
        optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=0.01)
        losses = []
        for _ in range(25):
            logits = detector(frames(), BOXES, INDEX).logits
            losses.append(nn.functional.binary_cross_entropy_with_logits(logits, target))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.7 * losses[0], kind


def test_adapted_weights_round_trip(tmp_path):
    for kind in ("lora", "dual_path"):
        torch.manual_seed(0)
        detector = create_detector("r2plus1d_tiny", 5, adapters=kind)
        step(detector)
        torch.save(detector.state_dict(), tmp_path / f"{kind}.pth")
        again = create_detector("r2plus1d_tiny", 5, checkpoint=tmp_path / f"{kind}.pth", adapters=kind)
        with torch.no_grad():
            for x in (detector.eval(), again.eval()):
                x(frames(), BOXES, INDEX)
        torch.testing.assert_close(again(frames(), BOXES, INDEX).logits, detector(frames(), BOXES, INDEX).logits)
        with pytest.raises(InputError, match=rf"{kind}\.pth.*(low_rank|adapters)"):
            create_detector("r2plus1d_tiny", 5, checkpoint=tmp_path / f"{kind}.pth")


def test_a_copy_uses_its_own_adapters():
    for kind in ("lora", "dual_path"):
        detector = create_detector("r2plus1d_tiny", 5, adapters=kind).eval()
        teacher = copy.deepcopy(detector)
        before = detector(frames(), BOXES, INDEX).logits
        with torch.no_grad():
            for name, parameter in teacher.named_parameters():
                if parameter.requires_grad and not name.startswith("head"):
                    parameter.add_(0.1)
        assert torch.equal(detector(frames(), BOXES, INDEX).logits, before)
        assert not torch.equal(teacher(frames(), BOXES, INDEX).logits, before)


def test_low_rank_update_is_the_product_of_its_factors():
    detector = create_detector("r2plus1d_tiny", adapters="lora", adapter_rank=2)
    layer = detector.backbone.res4.branch[0]
    layer.low_rank_up.data.normal_()
    update = layer.updated_weight() - layer.weight
    assert torch.linalg.matrix_rank(update.flatten(1), atol=1e-4) == 2
    plain = nn.functional.conv3d
    x = torch.randn(1, 128, 2, 4, 4)
    torch.testing.assert_close(layer(x), plain(x, layer.weight + update, None, padding=layer.padding))


def test_dual_paths_run_along_their_own_axes():
    torch.manual_seed(0)
    adapter = DualPathAdapter(4, 3)
    for path, others in ((adapter.time, (3, 4)), (adapter.space, (2,))):
        path[-1].weight.data.normal_()
        x = torch.zeros(1, 4, 5, 5, 5)
        resting = path(x)
        x[:, :, 2, 2, 2] = 1.0
        moved = (path(x) - resting).abs().sum(dim=(0, 1)) > 1e-7
        for axis in others:
            reach = moved.any(dim=tuple(a for a in range(3) if a != axis - 2))
            assert reach.nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize(
    ("name", "stage", "channels"),
    [
        ("slowfast_r50_8x8", "blocks.1", (320, 32)),
        ("slow_r50_8x8", "blocks.4", (2048,)),
        ("mvit_v1_b_16x4", "blocks.15", (768,)),
        ("timm:test_vit", "encoder.blocks.0", (64,)),
        ("timm:resnet10t", "encoder.layer4", (512,)),
    ],
)
def test_stages_know_their_channels(name, stage, channels):
    with torch.device("meta"):
        assert stage_channels(create_detector(name).backbone)[stage] == channels


def test_freezing():
    detector = create_detector("r2plus1d_tiny", freeze=2)
    frozen = {name.split(".")[1] for name, p in detector.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "res2"}
    detector.train()
    statistics = detector.backbone.res2.branch[1].running_mean.clone()
    detector(frames(), BOXES, INDEX)
    assert torch.equal(detector.backbone.res2.branch[1].running_mean, statistics)
    assert detector.backbone.res3.branch[1].num_batches_tracked == 1

    head_only = create_detector("r2plus1d_tiny", freeze="all")
    assert count_parameters(head_only, trainable=True) == 50 * 129
    for bad in (9, -1, "most", True):
        with pytest.raises(InputError, match="stem, res2, res3, res4"):
            create_detector("r2plus1d_tiny", freeze=bad)


@pytest.mark.parametrize("name", ["mvit_v1_b_16x4", "timm:test_vit", "timm:resnet10t"])
def test_depth_grows_from_the_input_to_the_head(name):
    with torch.device("meta"):
        detector = create_detector(name)
    depths = parameter_depths(detector.backbone)
    assert set(depths.values()) - {0} <= set(range(1, len(detector.backbone.stages) + 2))
    early = next(v for k, v in depths.items() if "pos" in k or "conv1" in k)
    assert early <= 1
    scales = learning_rate_scales(detector, 0.5)
    assert scales["head.projection.weight"] == 1.0
    assert scales.keys() == dict(detector.named_parameters()).keys()
    last = detector.backbone.stages[-1]
    assert {v for k, v in scales.items() if k.startswith(f"backbone.{last}.")} == {0.5}
    assert min(scales.values()) == 0.5 ** (len(detector.backbone.stages) + (0 in depths.values()))
    with pytest.raises(InputError, match="layer_decay"):
        learning_rate_scales(detector, 0)


def test_impossible_adapters():
    with pytest.raises(InputError, match="dual_path"):
        create_detector("r2plus1d_tiny", adapters="dual_paths")
    with pytest.raises(InputError, match="adapter_rank"):
        create_detector("r2plus1d_tiny", adapters="lora", adapter_rank=0)


def test_plain_weights_fit_a_network_with_adapters_and_it_is_said(tmp_path):
    torch.save(create_detector("r2plus1d_tiny").state_dict(), tmp_path / "plain.pth")
    report = load_checkpoint(create_detector("r2plus1d_tiny", adapters="dual_path"), tmp_path / "plain.pth")
    assert report.fits
    assert any("new relative to the network" in note for note in report.notes)
