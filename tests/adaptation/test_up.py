"""What an estimator of up learns from, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stick_figures import clips

from microg_da.adaptation import up
from microg_da.adaptation.up import UpLearning, collect_estimated, learn_up
from microg_da.adaptation.up_patches import PIECES, PeoplePatches, _longer_half, collect_patches, compose
from microg_da.errors import InputError
from microg_da.models.person_patches import MARGIN, PATCH
from microg_da.models.roll_estimator import PolarLens, RollEstimator
from microg_da.models.up_estimator import angular_distance


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_patches_of_people_and_pieces_of_target_frames():
    source, target = clips([0] * 3, domain="source"), clips([10, 20], seed=1)
    patches = collect_patches([source], [target], generator(), frames_per_clip=2)
    assert patches.people.shape == (6, 3, PATCH, PATCH)
    assert patches.people.dtype == torch.uint8
    assert patches.backgrounds.shape == (2 * 2 * PIECES, 3, PATCH, PATCH)
    widths = (source.boxes[:, 2:] - source.boxes[:, :2]).double().numpy()
    expected = widths / widths.max(axis=1, keepdims=True) / MARGIN
    assert np.allclose(patches.half[:3].numpy(), expected, atol=1e-5)


def test_only_so_many_clips_are_looked_at():
    many = [clips([0] * 4, domain="source", name=f"v{n}") for n in range(5)]
    patches = collect_patches(many, many, generator(), frames_per_clip=1, max_clips=6)
    assert len(patches.people) == 8  # whole batches


def test_without_people_or_without_target_clips_there_is_nothing_to_learn_from():
    with pytest.raises(InputError, match="contain none"):
        collect_patches([], [clips([0])], generator(), frames_per_clip=4)
    with pytest.raises(InputError, match="needs target clips"):
        collect_patches([clips([0], domain="source")], [], generator(), frames_per_clip=4)


def test_the_longer_half_of_a_turned_ellipse():
    half = torch.tensor([[0.3, 0.6]]).repeat(4, 1)
    turned = _longer_half(half, torch.tensor([0.0, 90, 45, 30]))
    angle = np.linspace(0, 2 * np.pi, 100_000)
    for degrees, value in zip([0, 90, 45, 30], turned.tolist(), strict=True):
        t = np.deg2rad(degrees)
        x = 0.3 * np.cos(angle) * np.cos(t) - 0.6 * np.sin(angle) * np.sin(t)
        y = 0.3 * np.cos(angle) * np.sin(t) + 0.6 * np.sin(angle) * np.cos(t)
        assert value == pytest.approx(max(x.max(), y.max()), abs=1e-4)


def test_the_angle_is_where_the_head_is():
    """A patch with one white spot at the top: in the composed crop it is where the angle says."""
    people = torch.zeros(1, 3, PATCH, PATCH, dtype=torch.uint8)
    top = round(PATCH / 2 - 0.8 * PATCH / 2 / MARGIN)
    people[:, :, top - 1 : top + 2, PATCH // 2 - 2 : PATCH // 2 + 2] = 255
    patches = PeoplePatches(
        people, torch.zeros(1), torch.tensor([[1 / MARGIN, 1 / MARGIN]]), torch.zeros(1, 3, PATCH, PATCH)
    )
    crops, degrees = compose(patches, 300, PolarLens(16, 72), generator())
    # Negatives, gains and hidden spots apart: whatever stands out most, in either direction.
    grey = crops.mean(dim=1)
    outlier = (grey - grey.flatten(1).median(dim=1).values[:, None, None]).abs().amax(dim=1)
    seen = outlier.argmax(dim=1) * 5.0
    assert float((angular_distance(seen, degrees) < 15).float().mean()) > 0.7
    assert float(degrees.min()) < -100  # mirrored ones have the other sign


def test_drawing_is_decided_by_the_generator():
    patches = collect_patches([clips([0] * 3, domain="source")], [clips([9])], generator(), frames_per_clip=1)
    one, other = (compose(patches, 5, PolarLens(16, 72), generator(3)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 14])
def test_any_number_of_steps_trains(steps):
    source, target = clips([0] * 3, domain="source"), clips([10, 20], seed=1)
    estimator = RollEstimator(bins=8, width=4)
    before = [parameter.clone() for parameter in estimator.parameters()]
    settings = UpLearning(steps=steps, target_steps=steps, batch_size=4, frames_per_clip=1)
    learn_up(estimator, [source], [target], settings, generator())
    assert all(bool(parameter.isfinite().all()) for parameter in estimator.parameters())
    assert any(not torch.equal(*pair) for pair in zip(before, estimator.parameters(), strict=True))


def test_up_is_learnt_from_upright_people_alone():
    angles = np.random.default_rng(5).uniform(0, 360, 60)
    source, target = clips([0] * 40, domain="source"), clips(angles, seed=7)
    torch.manual_seed(1)  # an untrained network has an opinion too: this one's is wrong
    estimator = RollEstimator(bins=24, width=8)
    before = _errors(estimator, target, angles)
    learn_up(
        estimator,
        [source],
        [target],
        UpLearning(steps=160, target_steps=0, batch_size=32, frames_per_clip=1),
        generator(),
    )
    after = _errors(estimator, target, angles)
    assert float(before.median()) > 45
    assert float(after.median()) < 20
    assert float((after > 90).float().mean()) < 0.15
    assert not estimator.training
    assert not any(parameter.requires_grad for parameter in estimator.parameters())


def test_each_round_looks_at_the_target_once_more_with_the_estimator_of_the_round_before(monkeypatch):
    seen = []

    def estimated(estimator, target, settings):
        seen.append(next(estimator.parameters()).clone())
        return collect_estimated(estimator, target, settings)

    monkeypatch.setattr(up, "collect_estimated", estimated)
    monkeypatch.setattr(up, "SURE", 0.0)  # hardly trained, it is sure of nobody
    source, target = clips([0] * 3, domain="source"), clips([10, 20], seed=1)
    settings = UpLearning(steps=2, target_steps=2, target_rounds=3, batch_size=4, frames_per_clip=1)
    learn_up(RollEstimator(bins=8, width=4), [source], [target], settings, generator())
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    learn_up(RollEstimator(bins=8, width=4), [source], [target], replace(settings, target_steps=0), generator())
    assert len(seen) == 3


def _errors(estimator, batch, angles):
    with torch.no_grad():
        density = estimator.log_density(batch.frames, batch.boxes, batch.clip_index)
    return angular_distance(density.argmax(dim=1) * (360 / density.shape[1]), torch.from_numpy(angles).float())
