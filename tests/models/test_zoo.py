"""The published detectors are the networks that their authors measured: parameters, multiply-adds, shapes."""

from __future__ import annotations

import json

import pytest
import torch
from pyslowfast_names import PYSLOWFAST

from microg_da.errors import InputError
from microg_da.models import MODELS, create_detector, model_window
from microg_da.models.cost import count_multiply_adds, count_parameters
from microg_da.zoo import ZOO


@pytest.fixture(scope="module")
def facts(test_data):
    return json.loads((test_data / "pyslowfast" / "models.json").read_text())


@pytest.mark.data
@pytest.mark.parametrize(("theirs", "ours"), PYSLOWFAST.items())
def test_same_network_as_pyslowfasts(facts, theirs, ours):
    published = facts[theirs]
    config = published["config"]
    with torch.device("meta"):
        detector = create_detector(ours, config["NUM_CLASSES"]).eval()
        frames = torch.empty(1, 3, config["NUM_FRAMES"], config["TEST_CROP_SIZE"], config["TEST_CROP_SIZE"])
        maps = detector.backbone(frames)

    assert count_parameters(detector) == published["params"]
    cost = count_multiply_adds(detector.backbone, config["NUM_FRAMES"], config["TEST_CROP_SIZE"])
    assert cost / 1e9 == pytest.approx(published["flops_G_test_crop"], rel=0.01)
    assert detector.backbone.stride == published["final_stride_true"]
    assert detector.head.projection.in_features == published["head"]["projection"]["Linear"][0]
    if "s5" in published["feature_shapes_test_crop_batch1"]:
        assert [list(x.shape) for x in maps] == published["feature_shapes_test_crop_batch1"]["s5"]
    else:
        tokens = published["feature_shapes_test_crop_batch1"]["norm"]
        assert [1, maps[0][0, 0].numel() + 1, maps[0].shape[1]] == tokens
    pooled = [published["head"][f"s{index}_tpool"]["AvgPool3d"][0] for index in range(len(maps))]
    assert [x.shape[2] for x in maps] == pooled


@pytest.mark.parametrize("name", ZOO)
def test_listing_tells_the_truth(name):
    with torch.device("meta"):
        detector = create_detector(name)
    assert count_parameters(detector) == ZOO[name].parameters
    assert detector.backbone.stride == ZOO[name].stride
    assert MODELS.entry(name).facts["parameters"] == f"{ZOO[name].parameters:,}"


# At the window of the architecture; the published ones are compared with PySlowFast's count above.
@pytest.mark.parametrize(
    "name", ["r2plus1d_micro", "r2plus1d_tiny", "slow_r50_4x16", "slowfast_r50_4x16", "x3d_s_13x6"]
)
def test_listing_tells_the_cost(name):
    model = ZOO[name]
    with torch.device("meta"):
        cost = count_multiply_adds(create_detector(name).backbone, model.window.num_frames, model.crop)
    assert cost / 1e9 == pytest.approx(model.gflops, rel=1e-3)


@pytest.mark.parametrize("name", ["r2plus1d_micro", "r2plus1d_tiny"])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 8, 9])
def test_small_networks_take_any_window(name, num_frames):
    with torch.device("meta"):
        backbone = create_detector(name).backbone
        (features,) = backbone(torch.empty(2, 3, num_frames, 96, 64))
    assert features.shape == (2, *backbone.channels, -(-num_frames // 4), 96 // 16, 64 // 16)


def test_convolutions_have_the_published_geometry():
    with torch.device("meta"):
        blocks = create_detector("slowfast_r101_32x2", 80).backbone.blocks
    res4 = blocks[3].multipathway_blocks
    for stage in res4:
        kernels = [block.branch2.conv_a.kernel_size[0] for block in stage.res_blocks]
        assert kernels == [3] * 6 + [1] * 17
    assert list(res4[0].nonlocal_blocks) == ["6", "13", "20"]
    assert {block.instantiation for block in res4[0].nonlocal_blocks.values()} == {"dot_product"}
    for stage in blocks[4].multipathway_blocks:
        assert {block.branch2.conv_b.dilation for block in stage.res_blocks} == {(1, 2, 2)}


def test_windows_of_slowfast_count_the_fast_frames():
    assert model_window("slowfast_r50_8x8") == (32, 2)
    assert model_window("slowfast_r50_4x16") == (16, 4)
    assert model_window("slowfast_r50_8x8", "published") == (8, 8)
    assert model_window("mvit_v2_s_16x4", "published") == model_window("mvit_v2_s_16x4") == (16, 4)
    assert model_window("timm:resnet18") is None
    assert MODELS.entry("slowfast_r50_8x8").facts["window"] == "32×2 (published 8×8)"
    with pytest.raises(InputError, match="architecture"):
        model_window("slow_r50_8x8", "newest")
