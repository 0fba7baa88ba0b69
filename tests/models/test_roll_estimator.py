"""The estimator of up: equivariance by construction, polar crops, its loss."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import vonmises

from microg_da.models.person_patches import MARGIN, PATCH, middle_frames, person_patches
from microg_da.models.roll_estimator import RollEstimator, mirror, polar_crops, standardise
from microg_da.models.up_estimator import angular_distance, circular_cross_entropy

R = 36


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    return RollEstimator(bins=R).eval().requires_grad_(False)


def picture(size=96, seed=0):
    """Smooth random colours, ``(1, 3, size, size)``."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (12, 12, 3)).astype(np.float32)
    return torch.from_numpy(cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)).permute(2, 0, 1)[None]


def turned(frames, degrees):
    """OpenCV's own turn about the middle, clockwise as seen."""
    image = frames[0].permute(1, 2, 0).numpy()
    middle = (image.shape[1] - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), -degrees, 1)
    image = cv2.warpAffine(image, matrix, image.shape[:2], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return torch.from_numpy(image).permute(2, 0, 1)[None]


BOX = torch.tensor([[38.0, 28.0, 58.0, 68.0]])
NOBODY_ELSE = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize("k", [1, 5, 9, 18, 27, 35])
def test_a_shifted_crop_has_a_shifted_density(estimator, k):
    crops = torch.rand(4, 3, 16, 2 * R)
    assert torch.allclose(estimator(crops.roll(2 * k, -1)), estimator(crops).roll(k, -1), atol=1e-4)


@pytest.mark.parametrize(("k", "tolerance"), [(9, 1e-3), (18, 1e-3), (4, 0.2), (13, 0.2)])
def test_turning_the_picture_shifts_the_density(estimator, k, tolerance):
    frames = picture()
    # The box of the turned person: a square one stays itself.
    square = torch.tensor([[28.0, 28.0, 68.0, 68.0]])
    before = estimator.log_density(frames[:, :, None], square, NOBODY_ELSE)
    after = estimator.log_density(turned(frames, 360 * k / R)[:, :, None], square, NOBODY_ELSE)
    spread = float(before.max() - before.min())
    assert float((after - before.roll(k, 1)).abs().max()) <= tolerance * spread


def test_a_mirrored_crop_has_a_mirrored_density(estimator):
    crops = torch.rand(3, 3, 16, 2 * R)
    assert torch.allclose(estimator.symmetric(mirror(crops)), mirror(estimator.symmetric(crops)), atol=1e-4)
    assert mirror(torch.arange(6)).tolist() == [0, 5, 4, 3, 2, 1]


def test_densities_sum_to_one_and_ignore_brightness_and_contrast(estimator):
    crops = 255 * torch.rand(3, 3, 16, 2 * R)
    density = estimator(crops).exp()
    assert torch.allclose(density.sum(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(estimator(0.5 * crops + 20).exp(), density, atol=1e-5)


def test_the_first_direction_is_the_top_and_angles_run_clockwise():
    patches = torch.zeros(1, 3, 41, 41)
    patches[:, 0, 4, 20], patches[:, 1, 20, 36], patches[:, 2, 36, 20] = 1, 1, 1  # top, right, bottom
    crops = polar_crops(patches, torch.zeros(1, 2), torch.ones(1), 16, 72)
    assert [int(crops[0, colour].amax(0).argmax()) for colour in range(3)] == [0, 18, 36]
    turned = polar_crops(patches, torch.zeros(1, 2), torch.ones(1), 16, 72, torch.tensor([90.0]))
    assert [int(turned[0, colour].amax(0).argmax()) for colour in range(3)] == [18, 36, 54]


def test_turning_on_sampling_is_turning_the_picture():
    frames = picture(97)
    crops = polar_crops(frames, torch.zeros(1, 2), torch.tensor([0.7]), 16, 72, torch.tensor([40.0]))
    expected = polar_crops(turned(frames, 40.0), torch.zeros(1, 2), torch.tensor([0.7]), 16, 72)
    assert float((crops - expected).abs().mean()) < 1.5


def test_patches_are_what_opencv_cuts():
    frames = picture()
    patch = person_patches(frames, BOX, NOBODY_ELSE)[0]
    half = MARGIN * 20
    matrix = np.array(
        [[2 * half / PATCH, 0, 48 - half + half / PATCH - 0.5], [0, 2 * half / PATCH, 48 - half + half / PATCH - 0.5]]
    )
    image = frames[0].permute(1, 2, 0).numpy()
    expected = cv2.warpAffine(
        image, matrix, (PATCH, PATCH), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    inner = slice(2, -2)
    difference = patch.permute(1, 2, 0).numpy()[inner, inner] - expected[inner, inner]
    assert np.abs(difference).max() < 2  # OpenCV rounds places to 1/32 of a pixel


def test_the_loss_is_a_cross_entropy_with_scipys_von_mises():
    torch.manual_seed(0)
    log_density = torch.randn(5, R).log_softmax(dim=1)
    degrees = torch.tensor([0.0, 13.0, 181.0, 359.0, 725.0])
    angles = np.deg2rad(np.arange(R) * 10.0)
    losses = []
    for row, angle in zip(log_density.double().numpy(), degrees.tolist(), strict=True):
        target = vonmises.pdf(angles, kappa=8, loc=np.deg2rad(angle))
        losses.append(-(target / target.sum() * row).sum())
    assert float(circular_cross_entropy(log_density, degrees, 8)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_loss_is_least_at_the_true_angle():
    angles = torch.deg2rad(torch.arange(R) * 10.0)
    loss = [
        float(circular_cross_entropy((30 * (angles - m).cos()).log_softmax(0)[None], torch.tensor([120.0])))
        for m in angles
    ]
    assert int(np.argmin(loss)) == 12


def test_distances_go_the_short_way():
    one, other = torch.tensor([350.0, 10, 0, 90]), torch.tensor([10.0, 350, 180, 450])
    assert angular_distance(one, other).tolist() == [20, 20, 180, 0]


def test_frames_that_are_looked_at():
    assert middle_frames(8, 1) == [4]
    assert middle_frames(8, 3) == [1, 4, 6]
    assert middle_frames(1, 3) == [0]


def test_nobody_boxes_without_area_and_boxes_at_the_border(estimator):
    frames = picture()[:, :, None]
    assert estimator.log_density(frames, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, R)
    boxes = torch.tensor([[5.0, 5, 5, 5], [95, 95, 96, 96], [-3, -3, 2, 2], [0, 0, 96, 96]])
    density = estimator.log_density(frames, boxes, torch.zeros(4, dtype=torch.int64))
    assert bool(density.isfinite().all())


def test_a_flat_crop_is_standardised_to_zero():
    assert bool((standardise(torch.full((2, 3, 4, 4), 7.0)) == 0).all())


def test_pixels_on_any_scale_give_the_same_density(estimator):
    frames = picture()[:, :, None]
    normalised = (frames / 255 - 0.45) / 0.225
    one, other = (estimator.log_density(kind, BOX, NOBODY_ELSE) for kind in (frames, normalised))
    assert torch.allclose(one, other, atol=1e-3)


def test_the_first_layer_is_a_convolution_with_torchs_own_borders(estimator):
    layer = estimator.rings[0]
    x = torch.randn(2, 3, 16, 48, generator=torch.Generator().manual_seed(0))
    padded = F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")
    expected = F.relu(layer.norm(layer.convolution(padded)))
    assert torch.allclose(layer(x), expected, atol=1e-5)
