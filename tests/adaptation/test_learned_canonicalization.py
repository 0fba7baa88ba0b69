"""One rotation for a whole clip, by a network that is equivariant by construction and learns from source clips alone."""

import math

import cv2
import numpy as np
import pytest
import torch
from stick_figures import SIZE, clips
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.learned_canonicalization import Canonicalizer
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models.up_estimator import angular_distance
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey, Prediction


def method(**arguments):
    return create_adaptation("learned_canonicalization", arguments, feature_dim=4, num_classes=2)


class Recorder(nn.Module):
    """Keeps the frames that it sees."""

    def forward(self, frames, boxes, clip_index):
        self.frames = frames
        return Prediction(torch.zeros(len(boxes), 2), torch.zeros(len(boxes), 4))


def scenes(count, seed=0):
    """Upright source clips: a floor below, a sky above, and somebody in between."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        frame = np.empty((SIZE, SIZE, 3), np.uint8)
        frame[: SIZE // 2], frame[SIZE // 2 :] = rng.integers(150, 250, 3), rng.integers(0, 100, 3)
        frame = (frame + rng.normal(0, 8, frame.shape)).clip(0, 255).astype(np.uint8)
        frames = torch.from_numpy(frame).permute(2, 0, 1)[:, None].repeat(1, 2, 1, 1)
        box = torch.tensor([[20.0, 20, 44, 44]])
        made.append(Clip(frames, box, box / SIZE, ClipKey(f"s_{index}", 1)))
    return collate_clips(made, "source")


def test_views_are_rotations_as_opencv_does_them():
    network = Canonicalizer(rolls=6, size=SIZE, width=4)
    frame = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE)).astype(np.float32), (0, 0), 3)
    picture = torch.from_numpy(frame).expand(1, 3, SIZE, SIZE)
    views = network.views(picture, torch.tensor([75.0]))
    middle = ((SIZE - 1) / 2, (SIZE - 1) / 2)
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    inside = np.hypot(rows, columns) < SIZE / 2 - 2
    for roll in range(6):
        matrix = cv2.getRotationMatrix2D(middle, -(75 - 60 * roll), 1)  # OpenCV counts anticlockwise
        expected = cv2.warpAffine(frame, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)[inside]
        found = views[0, roll, 0].numpy()[inside]
        assert np.corrcoef(expected, found)[0, 1] > 0.999


def test_a_quarter_turn_of_the_picture_is_a_shift_of_the_density():
    torch.manual_seed(0)
    network = Canonicalizer(rolls=8, size=16, width=4).eval()
    pictures = torch.rand(3, 3, 16, 16) * 255
    with torch.no_grad():
        plain, turned = network(pictures), network(torch.rot90(pictures, -1, dims=(2, 3)))  # clockwise
    assert torch.allclose(plain.exp().sum(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(turned, plain.roll(2, dims=1), atol=1e-4)


def test_turning_before_is_the_same_as_a_turned_picture():
    torch.manual_seed(0)
    network = Canonicalizer(rolls=4, size=16, width=4).eval()
    pictures = torch.rand(2, 3, 16, 16) * 255
    with torch.no_grad():
        before = network(pictures, torch.tensor([90.0, 180.0]))
        after = network(
            torch.stack([torch.rot90(pictures[0], -1, dims=(1, 2)), torch.rot90(pictures[1], 2, dims=(1, 2))])
        )
    assert torch.allclose(before, after, atol=1e-4)


def test_it_learns_up_from_upright_clips_and_turns_new_ones():
    torch.manual_seed(0)
    learned = method(steps=60, batch_size=16, rolls=12, size=16, width=8, frames_per_clip=1)
    learned.prepare(Recorder(), [scenes(24)], [])
    upright, angles = scenes(6, seed=1), torch.tensor([0.0, 60, 120, 180, 240, 300])
    batch, detector = roll_batch(upright, angles), Recorder()
    found = learned.find(detector, batch)
    assert float(angular_distance(found.degrees, angles).max()) <= 30
    assert found.passes == len(batch)
    brightness = detector.frames.float().mean(dim=(1, 2, 4))
    assert (brightness[:, : SIZE // 3].mean(dim=1) > brightness[:, -SIZE // 3 :].mean(dim=1)).all()
    assert torch.equal(learned.predict(detector, batch).logits, found.prediction.logits)


def test_the_decision_is_the_mode_of_the_density_and_people_of_a_clip_share_it():
    made, detector = method(steps=1, rolls=8, size=8, width=1), Recorder()
    batch = clips([0, 90])
    batch = collate_clips([
        Clip(batch.frames[0], batch.boxes[[0, 0]], batch.boxes[[0, 0]] / SIZE, ClipKey("a", 1)),
        Clip(batch.frames[1], batch.boxes[[1]], batch.boxes[[1]] / SIZE, ClipKey("b", 1)),
    ], "target")  # fmt: skip
    found = made.find(detector, batch)
    assert torch.equal(found.degrees, found.log_density.argmax(dim=1) * 45.0)
    assert found.degrees[0] == found.degrees[1]
    assert torch.equal(detector.frames, roll_batch(batch, -found.degrees[[0, 2]]).frames)


def test_a_clip_that_is_upright_reaches_the_detector_as_filmed():
    made, detector, batch = method(steps=1, rolls=8, size=8), Recorder(), clips([0, 90])
    made.log_density = lambda batch: torch.eye(8)[[0, 0]].log_softmax(dim=1)
    made.find(detector, batch)
    assert torch.equal(detector.frames, batch.frames)


def test_wide_frames_and_normalised_ones_give_the_same_density():
    torch.manual_seed(0)
    made = method(steps=1, rolls=8, size=8)
    wide = torch.randint(0, 256, (3, 2, 40, 60), dtype=torch.uint8)
    box = torch.tensor([[5.0, 5, 30, 30]])
    batch = collate_clips([Clip(wide, box, box / 60, ClipKey("a", 1))], "target")
    square = collate_clips([Clip(wide[..., 10:50].contiguous(), box, box / 40, ClipKey("a", 1))], "target")
    assert torch.allclose(made.log_density(batch), made.log_density(square), atol=1e-4)


def test_no_source_clip_is_an_error():
    with pytest.raises(InputError, match="needs source clips"):
        method().prepare(Recorder(), [], [])


@pytest.mark.parametrize("arguments", [{"rolls": 1}, {"steps": 0}, {"size": 2}])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        method(**arguments)


def test_the_prior_of_a_sure_network_is_the_entropy_of_the_target():
    """The loss on upright clips is lowest where the density is the von Mises prior about the identity."""
    from scipy.special import softmax
    from scipy.stats import entropy

    from microg_da.models.up_estimator import circular_cross_entropy

    angles = np.arange(24) * 2 * math.pi / 24
    prior = softmax(30 * np.cos(angles))
    loss = circular_cross_entropy(torch.from_numpy(np.log(prior))[None].float(), torch.zeros(1), 30.0)
    assert float(loss) == pytest.approx(entropy(prior), abs=1e-4)
