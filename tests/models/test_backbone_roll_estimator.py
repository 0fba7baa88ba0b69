"""The estimator of up on a backbone: what it sees, what it learns, what stays."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.backbone_roll_estimator import CELLS, SIDE, BackboneRollEstimator, SquareLens
from microg_da.models.person_patches import MARGIN
from microg_da.models.roll_estimator import PolarLens

R = 24


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return create_detector("r2plus1d_micro", num_classes=3).backbone.eval()


@pytest.fixture
def estimator(backbone):
    torch.manual_seed(1)
    return BackboneRollEstimator(backbone, R).requires_grad_(False).eval()


def pictures(count, seed=0):
    small = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (count, 3, 12, 12))).float()
    return F.interpolate(small, (SIDE, SIDE), mode="bicubic").clamp(0, 255)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_quarter_turn_shifts_the_density(estimator, quarter):
    crops = pictures(3)
    turned = torch.rot90(crops, -quarter, (-2, -1))  # clockwise
    assert torch.allclose(estimator.symmetric(turned), estimator.symmetric(crops).roll(quarter * R // 4, 1), atol=1e-4)


def test_densities_sum_to_one(estimator):
    assert torch.allclose(estimator.symmetric(pictures(4)).exp().sum(dim=1), torch.ones(4), atol=1e-5)


def test_corners_are_not_seen(estimator):
    crops = pictures(2)
    painted = crops.clone()
    painted[..., :10, :10] = 255
    painted[..., -10:, -10:] = 0
    assert torch.equal(estimator.encode(crops), estimator.encode(painted))


def test_a_crop_is_the_middle_of_a_patch(estimator):
    side = estimator.patch
    assert side == MARGIN * SIDE
    patches = torch.zeros(1, 3, side, side)
    border = (side - SIDE) // 2
    middle = pictures(1)
    patches[..., border:-border, border:-border] = middle
    assert torch.allclose(estimator.crops(patches), middle, atol=0.02)


def test_the_square_lens_turns_as_the_polar_lens_does():
    """A picture with one bright spot: both lenses, turned alike, see the spot in the same direction."""
    picture = torch.zeros(1, 3, 129, 129)
    picture[..., 20:31, 60:69] = 1  # above the middle
    turn = torch.tensor([70.0])

    def sample(lens):
        return F.grid_sample(picture, lens.grid(-turn), align_corners=False)[0, 0]

    square, polar = sample(SquareLens(SIDE)), sample(PolarLens(16, 72))
    rows, columns = (square > 0.5).nonzero(as_tuple=True)
    x, y = columns.float().mean() - (SIDE - 1) / 2, rows.float().mean() - (SIDE - 1) / 2
    direction = float(torch.rad2deg(torch.atan2(x, -y)))
    assert direction == pytest.approx(70, abs=2)
    assert float(polar.sum(dim=0).argmax()) * 5 == pytest.approx(direction, abs=5)


def test_the_backbone_stays_as_it_is_and_only_the_head_is_trained(estimator, backbone):
    before = copy.deepcopy(estimator.backbone.state_dict())
    estimator.requires_grad_(True).train()
    assert not any(parameter.requires_grad for parameter in estimator.backbone.parameters())
    assert not any(module.training for module in estimator.backbone.modules())
    loss = -estimator(pictures(4))[:, 0].mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in estimator.head.parameters())
    assert all(torch.equal(value, before[name]) for name, value in estimator.backbone.state_dict().items())


def test_weights_are_taken_from_the_detector_as_trained(estimator, backbone):
    trained = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    before = estimator.encode(pictures(1))
    estimator.take_weights(trained)
    assert not torch.equal(before, estimator.encode(pictures(1)))
    assert all(
        torch.equal(value, estimator.backbone.state_dict()[name]) for name, value in trained.state_dict().items()
    )


@pytest.mark.parametrize("name", ["r2plus1d_tiny", "timm:test_efficientnet", "timm:test_vit"])
def test_any_kind_of_backbone_has_maps(name):
    estimator = BackboneRollEstimator(create_detector(name, num_classes=2).backbone.eval(), R)
    assert estimator.encode(pictures(2)).shape[2:] == (CELLS, CELLS)


def test_a_number_of_angles_without_quarters_is_refused(backbone):
    with pytest.raises(InputError, match="multiple of 4"):
        BackboneRollEstimator(backbone, 18)
