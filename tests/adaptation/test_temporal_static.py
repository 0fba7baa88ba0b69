"""The answer to a clip less that to its still picture."""

import pytest
import torch
from online_cases import C, batch, trained_detector

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.temporal_static import still
from microg_da.errors import InputError


@pytest.fixture(scope="module")
def detector():
    return trained_detector()


def prepared(detector, target=(), **arguments):
    made = create_adaptation("temporal_static", arguments, feature_dim=detector.feature_dim, num_classes=C)
    made.prepare(detector, [], list(target))
    return made


def say(detector, clips):
    with torch.no_grad():
        return detector(clips.frames, clips.boxes, clips.clip_index)


def test_all_frames_of_a_still_are_the_middle_one():
    clips = batch()
    assert torch.equal(still(clips).frames, clips.frames[:, :, 4:5].repeat(1, 1, 8, 1, 1))


@torch.no_grad()
def test_it_is_the_difference_by_its_own_words(detector):
    target = [batch((2, 1), seed=1), batch((0, 0), seed=2), batch((1,), seed=3)]
    clips = batch(seed=5)
    found = prepared(detector, target, weight=0.3).predict(detector, clips)
    for part in ("logits", "features"):
        usual = torch.cat([getattr(say(detector, still(other)), part) for other in target]).mean(0)
        expected = getattr(say(detector, clips), part) - 0.3 * (getattr(say(detector, still(clips)), part) - usual)
        torch.testing.assert_close(getattr(found, part), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_of_a_clip_without_motion_only_what_is_usual_is_left(detector):
    """With weight 1 all clips that stand still get the same answer."""
    method = prepared(detector, [batch(seed=1)], weight=1.0)
    answers = torch.cat([method.predict(detector, still(batch(seed=seed))).logits for seed in range(2)])
    torch.testing.assert_close(answers, method.usual_logits.expand_as(answers), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_weight_zero_and_nobody_change_nothing(detector):
    clips = batch()
    torch.testing.assert_close(
        prepared(detector, weight=0.0).predict(detector, clips).logits, say(detector, clips).logits
    )
    assert prepared(detector, [batch((0, 0))]).predict(detector, batch((0,))).logits.shape == (0, C)


def test_a_weight_out_of_range_is_refused(detector):
    with pytest.raises(InputError, match="weight"):
        prepared(detector, weight=1.5)
