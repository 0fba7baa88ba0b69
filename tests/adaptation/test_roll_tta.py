"""Averaging over camera rolls, against sums written out."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax
from scipy.stats import entropy
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.roll_tta import combine_views, confidence_weights
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Clip, ClipKey, Prediction


class Corner(nn.Module):
    """Says how bright each box's top left quarter is: a detector that knows people upright."""

    def forward(self, frames, boxes, clip_index):
        rows = []
        for box, clip in zip(boxes.round().long().tolist(), clip_index.tolist(), strict=True):
            x1, y1, x2, y2 = box
            person = frames[clip, :, 0, y1:y2, x1:x2].float()
            rows.append(person[:, : (y2 - y1) // 2, : (x2 - x1) // 2].mean() / 255)
        logits = torch.stack(rows)[:, None] * 8 - 4 if rows else torch.zeros(0, 1)
        return Prediction(logits, torch.cat([logits, -logits], dim=1))


def bernoulli_entropy(logits):
    p = expit(logits)
    return entropy(np.stack([p, 1 - p])).sum(axis=-1)


def method(**arguments):
    return create_adaptation("roll_tta", arguments, feature_dim=2, num_classes=1)


def clips(people=(1, 1), size=32):
    generator = torch.Generator().manual_seed(0)
    made = []
    for index, count in enumerate(people):
        frames = torch.randint(0, 60, (3, 2, size, size), dtype=torch.uint8, generator=generator)
        frames[:, :, 8:16, 8:16] = 255
        boxes = torch.tensor([[8.0, 8, 24, 24]]).repeat(count, 1)
        made.append(Clip(frames, boxes, boxes / size, ClipKey(f"v_{index}", 1)))
    return collate_clips(made, "target")


@pytest.mark.parametrize("combine", ["probabilities", "logits", "confident"])
def test_views_are_combined_as_written_out(combine):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, 5, generator=generator) * 3
    values = logits.numpy().astype("float64")
    weights = np.full((4, 3), 0.25)
    if combine == "confident":
        weights = softmax(-bernoulli_entropy(values) / 0.7, axis=0)
        assert np.allclose(confidence_weights(logits, 0.7).numpy(), weights, atol=1e-6)
    expected = (weights[..., None] * values).sum(0)
    if combine != "logits":
        expected = logit((weights[..., None] * expit(values)).sum(0))
    found = combine_views(logits, torch.from_numpy(weights).float(), combine)
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_sure_predictions_stay_in_order():
    logits = torch.tensor([[[40.0, 60.0, -200.0, -300.0]]]).repeat(2, 1, 1)
    combined = combine_views(logits, torch.full((2, 1), 0.5), "probabilities")
    assert torch.allclose(combined, logits[0])


def test_a_cold_temperature_takes_the_surest_view_and_a_hot_one_all_alike():
    logits = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(2))
    surest = torch.from_numpy(bernoulli_entropy(logits.numpy()).argmin(0))
    assert torch.equal(confidence_weights(logits, 1e-4).argmax(0), surest)
    assert torch.allclose(confidence_weights(logits, 1e-4).amax(0), torch.ones(6), atol=1e-3)
    assert torch.allclose(confidence_weights(logits, 1e6), torch.full((4, 6), 0.25), atol=1e-4)


@pytest.mark.parametrize("combine", ["probabilities", "logits", "confident"])
def test_a_rolled_clip_gets_the_same_answer(combine):
    tta = method(rolls=4, combine=combine)
    upright = tta.predict(Corner(), clips())
    for degrees in (90, 180, 270):
        rolled = tta.predict(Corner(), roll_batch(clips(), degrees))
        assert torch.allclose(rolled.logits, upright.logits, atol=1e-4)
        assert torch.allclose(rolled.features, upright.features, atol=1e-4)


def test_the_confident_mean_listens_to_the_roll_that_is_sure():
    """One roll knows the person, three are unsure of every class; a plain mean hardly tells, a confident one does."""
    logits = torch.cat([torch.tensor([[[6.0, -6, -6, 6]]]), torch.full((3, 1, 4), -0.5)])
    confident = combine_views(logits, confidence_weights(logits, 1.0), "confident")
    plain = combine_views(logits, torch.full((4, 1), 0.25), "probabilities")
    assert ((confident > 1.5) == torch.tensor([[True, False, False, True]])).all()
    assert (plain.abs() < 1.5).all()


def test_every_roll_is_one_pass_and_people_keep_their_places():
    batch = clips((2, 0, 1))
    seen = []

    class Counter(Corner):
        def forward(self, frames, boxes, clip_index):
            seen.append(clip_index.tolist())
            return super().forward(frames, boxes, clip_index)

    prediction = method(rolls=6).predict(Counter(), batch)
    assert seen == [[0, 0, 2]] * 6
    assert prediction.logits.shape == (3, 1)


def test_with_adabn_the_detector_takes_the_target_statistics_first():
    detector, alone = (create_detector("r2plus1d_tiny", num_classes=2) for _ in range(2))
    alone.load_state_dict(detector.state_dict())
    method(rolls=2, adabn=True).prepare(detector.eval(), [], [clips((1, 1), size=64)])
    create_adaptation("adabn", feature_dim=2, num_classes=1).before_training(alone.eval(), [], [clips((1, 1), size=64)])
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in detector.state_dict().items())


def test_one_roll_is_the_detector_itself():
    batch = clips()
    alone = Corner()(batch.frames, batch.boxes, batch.clip_index)
    for combine in ("probabilities", "logits", "confident"):
        assert torch.allclose(method(rolls=1, combine=combine).predict(Corner(), batch).logits, alone.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"rolls": 0}, "rolls=0"), ({"combine": "mean"}, "confident, logits"), ({"temperature": 0.0}, "temperature")],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        method(**arguments).predict(Corner(), clips())
