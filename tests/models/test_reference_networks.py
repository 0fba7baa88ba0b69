"""Our networks compute what the libraries that they are built from compute, and what the papers write."""

from __future__ import annotations

import warnings
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.video import mvit_v1_b as torchvision_v1
from torchvision.models.video import mvit_v2_s as torchvision_v2

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.checkpoints import load_checkpoint
from microg_da.models.mvit import AnySizeBlock, MViT, _distances, add_positions
from microg_da.models.slowfast import slowfast_r50

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorchvideo.models.resnet import create_resnet_with_roi_head
    from pytorchvideo.models.slowfast import create_slowfast_with_roi_head

BOXES = torch.tensor([[3.0, 5.0, 30.0, 61.0], [10.0, 0.0, 64.0, 64.0], [1.0, 2.0, 20.0, 30.0]])
INDEX = torch.tensor([0, 1, 1])


def shake(module, seed=0):
    """Random weights and statistics everywhere: a network at its initialisation hides half of what it does."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            spread = torch.rand(value.shape, generator=generator)
            value.copy_(0.5 + spread if "var" in name or "norm" in name else (spread - 0.5) * 0.2)
    return module.eval()


def frames(T, height=64, width=64):
    return torch.randn(2, 3, T, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["slow", "slowfast"])
def test_pytorchvideos_own_detectors(tmp_path, kind):
    if kind == "slow":
        theirs, name, T = (
            create_resnet_with_roi_head(head_activation=None, head_pool_kernel_size=(4, 1, 1)),
            "slow_r50_8x8",
            4,
        )
    else:
        theirs, name, T = (
            create_slowfast_with_roi_head(head_activation=None, head_pool_kernel_sizes=((2, 1, 1), (8, 1, 1))),
            "slowfast_r50_8x8",
            8,
        )
    shake(theirs)
    # Pytorchvideo builds the box pooling of 2017; the published detectors align it.
    theirs.detection_head.roi_layer.aligned = True
    torch.save({"model_state": theirs.state_dict()}, tmp_path / "hub.pyth")
    ours = create_detector(name, 80).eval()
    report = load_checkpoint(ours, tmp_path / "hub.pyth")
    assert report.fits
    assert not report.notes
    x = frames(T)
    inputs = x if kind == "slow" else ours.backbone.pathways(x)
    with torch.no_grad():
        expected = theirs(inputs, torch.cat([INDEX[:, None].float(), BOXES], dim=1))
        # Both are as far from float64 as this; a logit that happens to be small is no more exact than a large one.
        torch.testing.assert_close(ours(x, BOXES, INDEX).logits, expected, atol=1e-5 * expected.abs().max(), rtol=0)


@pytest.mark.parametrize("build", [torchvision_v1, torchvision_v2])
def test_torchvisions_own_transformers(build):
    theirs = build()
    # Torchvision's builder knows one size; a small one is told it by hand.
    positions = theirs.pos_encoding
    positions.spatial_size, positions.temporal_size = (16, 24), 2
    if positions.spatial_pos is not None:
        positions.spatial_pos = nn.Parameter(torch.empty(16 * 24, 96))
        positions.temporal_pos = nn.Parameter(torch.empty(2, 96))
    shake(theirs)
    network = build(block=AnySizeBlock)
    network.pos_encoding = positions
    ours = MViT(network).eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("head")})
    tokens = []
    theirs.norm.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    x = frames(4, 64, 96)
    with torch.no_grad():
        theirs(x)
        (features,) = ours(x)
    assert features.shape == (2, 768, 2, 2, 3)
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens[0][:, 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mvit_v1_b_16x4", "mvit_v2_s_16x4"])
def test_transformers_take_any_length_and_size(name):
    # 224 × 398 is what the benchmark showed them of its wide frames.
    with torch.device("meta"):
        backbone = create_detector(name).backbone.eval()
        assert backbone(torch.empty(1, 3, 16, 224, 398))[0].shape == (1, 768, 8, 7, 13)
        assert backbone(torch.empty(1, 3, 8, 160, 224))[0].shape == (1, 768, 4, 5, 7)
    detector = create_detector(name).eval()
    with torch.no_grad():
        small = detector(frames(3, 64, 90), BOXES, INDEX)
    assert small.logits.isfinite().all()


def test_absolute_positions_are_interpolated_as_one_volume():
    encoding = torchvision_v1().pos_encoding
    T, H, W = encoding.temporal_size, *encoding.spatial_size
    for grid in ((T, H, W), (4, 16, 25), (5, 11, 7)):
        volume = encoding.temporal_pos[:, None] + encoding.spatial_pos[None]
        volume = volume.reshape(1, T, H, W, -1).permute(0, 4, 1, 2, 3)
        if grid != (T, H, W):
            volume = F.interpolate(volume, size=grid, mode="trilinear")
        added = add_positions(encoding, torch.zeros(1, grid[0] * grid[1] * grid[2], 96), grid)
        torch.testing.assert_close(added[:, 1:], volume.flatten(2).transpose(1, 2))
        torch.testing.assert_close(added[0, 0], encoding.class_token + encoding.class_pos)


def test_relative_positions_one_pair_at_a_time():
    """Queries (2, 6, 3) against keys (2, 3, 3): every pair of tokens looked up by itself."""
    block = shake(torchvision_v2(block=AnySizeBlock).blocks[0])
    attention, q_grid, k_grid = block.attn, (2, 6, 3), (2, 3, 3)
    q = torch.randn(1, 1, 1 + 36, attention.head_dim)
    bias = attention._position_bias(q, q_grid, k_grid)
    assert not bias[:, :, 0].any()
    assert not bias[:, :, :, 0].any()

    def table(values, size):
        if len(values) == size:
            return values
        return F.interpolate(values.T[None], size=size, mode="linear")[0].T

    tables = [
        table(values, 2 * max(a, b) - 1)
        for values, a, b in zip(
            (attention.rel_pos_t, attention.rel_pos_h, attention.rel_pos_w), q_grid, k_grid, strict=True
        )
    ]
    queries, keys = (list(product(*map(range, grid))) for grid in (q_grid, k_grid))
    for i in range(0, 36, 5):
        for j in range(18):
            (t, h, w), (kt, kh, kw) = queries[i], keys[j]
            # Along the height a key is two queries wide.
            positions = (t - kt + 1, h - 2 * kh + 4, w - kw + 2)
            expected = sum(q[0, 0, 1 + i] @ values[p] for values, p in zip(tables, positions, strict=True))
            torch.testing.assert_close(bias[0, 0, 1 + i, 1 + j], expected, atol=1e-4, rtol=1e-4)


def test_distances_are_truncated_in_pyslowfasts_order_of_operations():
    # Three cells of 53 queries against 7 keys, worked out in float32 as (i·1 − j·53/7) + 6·53/7.
    step = 53 / 7
    i, j = torch.arange(53)[:, None], torch.arange(7)[None]
    expected = (i * 1.0 - j * step + 6 * step).long()
    assert torch.equal(_distances(53, 7), expected)
    assert _distances(28, 14).tolist() == [[a - 2 * b + 26 for b in range(14)] for a in range(28)]
    assert _distances(7, 7).tolist() == [[a - b + 6 for b in range(7)] for a in range(7)]


@pytest.mark.parametrize(("T", "expected"), [(32, [0, 4, 8, 13, 17, 22, 26, 31]), (8, [0, 7]), (4, [0])])
def test_slow_pathway_sees_linspace_truncated(T, expected):
    with torch.device("meta"):
        backbone = slowfast_r50()
    slow, fast = backbone.pathways(torch.arange(T).float()[None, None, :, None, None].expand(1, 3, T, 2, 2))
    assert slow[0, 0, :, 0, 0].tolist() == expected
    assert fast.shape[2] == T


@pytest.mark.parametrize(("name", "T"), [("slowfast_r50_8x8", 6), ("slowfast_r50_8x8", 2), ("c2d_r50_8x8", 1)])
def test_lengths_that_an_architecture_cannot_take(name, T):
    with torch.device("meta"):
        detector = create_detector(name)
        with pytest.raises(InputError, match="num_frames"):
            detector.backbone(torch.empty(1, 3, T, 64, 64))


@pytest.mark.parametrize("name", ["c2d_nln_r50_8x8", "i3d_r50_8x8", "x3d_s_13x6", "slow_r50_4x16"])
def test_other_lengths_and_sizes_run(name):
    detector = create_detector(name).eval()
    with torch.no_grad():
        assert detector(frames(5, 64, 80), BOXES, INDEX).logits.shape == (3, 50)
