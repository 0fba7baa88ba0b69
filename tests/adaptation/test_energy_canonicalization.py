"""The roll of least energy, and a gate that leaves alone what looks like the source."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import shrunk_covariance
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.energy_canonicalization import gaussian, half_squared_distance, joint_energy
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey, Prediction

SIZE = 32


class LikesBrightTops(nn.Module):
    """Sure of a class where the top of a clip is brighter than its bottom; counts the clips that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, frames, boxes, clip_index):
        self.seen += len(frames)
        picture = frames[:, :, 0].float().mean(dim=1)
        contrast = (picture[:, : SIZE // 2].mean(dim=(1, 2)) - picture[:, SIZE // 2 :].mean(dim=(1, 2))) / 20
        logits = torch.stack([contrast, contrast / 2 - 1], dim=1)[clip_index]
        return Prediction(logits, torch.cat([logits, logits.square()], dim=1))


def clips(turns, people=1):
    """Clips that are bright above, turned clockwise by so many quarter turns."""
    rng, made = np.random.default_rng(0), []
    for index, turn in enumerate(turns):
        frames = torch.from_numpy(rng.integers(0, 60, (3, 2, SIZE, SIZE), dtype=np.uint8))
        frames[:, :, : SIZE // 2] += 150
        boxes = torch.tensor([[8.0, 8, 24, 24]]).repeat(people, 1)
        clip = Clip(torch.rot90(frames, -turn, dims=(2, 3)).contiguous(), boxes, boxes / SIZE, ClipKey(f"v_{index}", 1))
        made.append(clip)
    return collate_clips(made, "target")


def method(**arguments):
    return create_adaptation("energy_canonicalization", arguments, feature_dim=4, num_classes=2)


def prepared(detector, **arguments):
    made = method(**arguments)
    made.prepare(detector, [clips([0] * 6)], [])
    detector.seen = 0
    return made


def test_the_energy_is_that_of_the_papers():
    logits = np.random.default_rng(0).normal(0, 3, (5, 7))
    expected = -np.log1p(np.exp(logits)).sum(axis=1)
    assert np.allclose(joint_energy(torch.from_numpy(logits)).numpy(), expected, atol=1e-5)


def test_the_distance_is_that_of_scipy_under_the_covariance_of_sklearn():
    rng = np.random.default_rng(0)
    source, new = rng.normal(2, 1, (40, 3)) @ rng.normal(0, 1, (3, 3)), rng.normal(0, 2, (5, 3))
    inverse = np.linalg.inv(shrunk_covariance(np.cov(source.T), shrinkage=0.1))
    expected = [0.5 * mahalanobis(row, source.mean(axis=0), inverse) ** 2 for row in new]
    mean, precision = gaussian(torch.from_numpy(source).float())
    assert half_squared_distance(torch.from_numpy(new), mean, precision).tolist() == pytest.approx(expected, rel=1e-3)


def test_one_person_and_equal_people_have_a_finite_distance():
    for features in (torch.ones(1, 4), torch.ones(5, 4)):
        mean, precision = gaussian(features)
        assert torch.isfinite(half_squared_distance(torch.zeros(2, 4), mean, precision)).all()


@pytest.mark.parametrize("score", ["energy", "distance"])
def test_clips_are_turned_by_the_roll_of_least_energy(score):
    detector = LikesBrightTops()
    made = prepared(detector, rolls=4, score=score, gate=0.0)
    batch = clips([0, 1, 2, 3])
    found = made.find(detector, batch)
    assert found.degrees.tolist() == [0, 90, 180, 270]
    upright = detector(*(lambda b: (b.frames, b.boxes, b.clip_index))(clips([0, 0, 0, 0])))
    assert (found.prediction.logits[:, 0] > upright.logits[:, 0].min() - 0.5).all()
    assert found.passes == 16


def test_the_decision_is_the_least_of_all_energies():
    detector = LikesBrightTops()
    made, batch = prepared(detector, rolls=8, gate=0.0), clips([0, 1, 3])
    energies = []
    for roll in range(8):
        view = roll_batch(batch, -45.0 * roll)
        logits = detector(view.frames, view.boxes, view.clip_index).logits
        energies.append(-np.log1p(np.exp(logits.double().numpy())).sum(axis=1))
    found = made.find(detector, batch)
    assert found.degrees.tolist() == [45.0 * roll for roll in np.argmin(energies, axis=0)]
    best = np.min(energies, axis=0)
    assert joint_energy(found.prediction.logits).tolist() == pytest.approx(best.tolist(), rel=1e-4)


def test_what_looks_like_the_source_is_left_as_filmed_and_costs_one_pass():
    detector = LikesBrightTops()
    made, batch = prepared(detector, rolls=4, gate=1.0), clips([0, 2, 0])
    as_filmed = detector(batch.frames, batch.boxes, batch.clip_index)
    made.threshold += 0.05  # other noise than in the source clips
    detector.seen = 0
    found = made.find(detector, batch)
    assert found.degrees.tolist() == [0, 180, 0]
    assert detector.seen == found.passes == 3 + 3
    assert torch.equal(found.prediction.logits[[0, 2]], as_filmed.logits[[0, 2]])


def test_the_threshold_is_the_quantile_of_source_clips():
    detector, source = LikesBrightTops(), clips([0, 0, 1, 2, 0])
    made = method(gate=0.4)
    made.prepare(detector, [source], [])
    energies = joint_energy(detector(source.frames, source.boxes, source.clip_index).logits).numpy()
    assert float(made.threshold) == pytest.approx(np.quantile(energies, 0.4), rel=1e-5)


def test_the_people_of_a_clip_share_a_roll_and_a_clip_without_people_stays():
    detector = LikesBrightTops()
    made, batch = prepared(detector, rolls=4, gate=0.0), clips([1, 2], people=3)
    batch = batch.take_people(batch.clip_index == 0)
    found = made.find(detector, batch)
    assert found.degrees.tolist() == [90, 90, 90]
    assert found.passes == 2 + 3
    assert torch.isfinite(found.log_density).all()


def test_its_state_is_what_it_needs():
    detector, batch = LikesBrightTops(), clips([0, 1])
    made, again = prepared(detector, rolls=4, score="distance"), method(rolls=4, score="distance")
    again.load_state_dict(made.state_dict())
    assert torch.equal(made.find(detector, batch).log_density, again.find(detector, batch).log_density)


@pytest.mark.parametrize("arguments", [{"rolls": 1}, {"score": "clip"}, {"gate": 1.5}])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        method(**arguments)


def test_source_clips_without_people_are_an_error():
    batch = clips([0])
    with pytest.raises(InputError, match="source clips"):
        method().prepare(LikesBrightTops(), [batch.take_people(batch.clip_index < 0)], [])
