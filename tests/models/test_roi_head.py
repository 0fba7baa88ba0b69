"""The RoI head: two ways to the same RoIAlign."""

import pytest
import torch
from torchvision.ops import roi_align

from microg_da.models.roi_head import RoIHead


@pytest.mark.parametrize("people", [0, 1, 9])
def test_pooling_that_learns_equals_torchvision(people: int) -> None:
    torch.manual_seed(people)
    head = RoIHead((40,), num_classes=3, stride=16).double()
    clip = torch.randn(4, 40, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    corner = torch.rand(people, 2) * 60 - 10  # some reach beyond the image
    boxes = torch.cat([corner, corner + torch.rand(people, 2) * 70], dim=1).double()
    clip_index = torch.randint(4, (people,))

    _, features = head([clip], boxes, clip_index)
    regions = torch.cat([clip_index[:, None].double(), boxes], dim=1)
    expected = roi_align(clip.mean(dim=2), regions, 7, 1 / 16, 0, True).amax(dim=(2, 3))
    torch.testing.assert_close(features, expected)

    upstream = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(features, clip, upstream)
    (its_gradient,) = torch.autograd.grad(expected, clip, upstream)
    torch.testing.assert_close(gradient, its_gradient)


def test_learning_and_testing_pool_alike() -> None:
    torch.manual_seed(0)
    head = RoIHead((64,), num_classes=3, stride=16).eval()
    clip = torch.randn(2, 64, 2, 6, 6)
    boxes, clip_index = torch.tensor([[3.0, 5, 60, 90], [40, 0, 96, 33]]), torch.tensor([1, 0])
    tested, _ = head([clip], boxes, clip_index)
    learned, _ = head([clip.requires_grad_()], boxes, clip_index)
    torch.testing.assert_close(learned, tested, rtol=0, atol=1e-6)


def test_maps_of_no_clips() -> None:
    logits, features = RoIHead((64,), num_classes=3, stride=16)(
        [torch.empty(0, 64, 2, 6, 6, requires_grad=True)], torch.empty(0, 4), torch.empty(0, dtype=torch.int64)
    )
    assert logits.shape == (0, 3)
    assert features.shape == (0, 64)
