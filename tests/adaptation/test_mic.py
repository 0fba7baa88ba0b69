"""Hidden patches, and what the student is told about them."""

import copy
from dataclasses import replace

import pytest
import torch
from online_cases import batch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.mic import mask_patches, weighted_by_certainty
from microg_da.adaptation.pseudo_labels import PseudoLabels, trusted_bce
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.backbone import normalise

C = 3


def test_a_patch_is_hidden_through_the_whole_clip_or_not_at_all():
    clips = batch((1, 1), low=200)  # no pixel is as dark as grey
    torch.manual_seed(0)
    hidden = (mask_patches(clips, 0.5, 6).frames == 115).flatten(1, 2)
    patches = hidden.unflatten(3, (6, 8)).unflatten(2, (6, 8)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    assert torch.equal(patches.all(-1), patches.any(-1))
    shares = patches.all(-1).float().mean((1, 2))
    assert ((shares > 0.2) & (shares < 0.8)).all()
    assert not torch.equal(patches[0], patches[1])  # each clip by itself


def test_what_is_left_is_as_it_was_and_boxes_stay():
    clips = batch((2, 1), low=200)
    seen = mask_patches(clips, 0.5, 5)  # 48 pixels are no multiple of a fifth
    kept = seen.frames != 115
    assert torch.equal(seen.frames[kept], clips.frames[kept])
    assert torch.equal(seen.boxes, clips.boxes)


def test_a_hidden_patch_is_nearly_nothing_to_the_network():
    """Of bytes and of normalised frames alike."""
    clips = batch((1,), low=200)
    torch.manual_seed(1)
    of_bytes = normalise(mask_patches(clips, 0.5, 6).frames)
    torch.manual_seed(1)
    normalised = mask_patches(replace(clips, frames=normalise(clips.frames)), 0.5, 6).frames
    torch.testing.assert_close(of_bytes, normalised, atol=0.01, rtol=0)


def test_the_share_of_hidden_patches_is_what_was_asked_for():
    clips = replace(batch((0,)), frames=torch.full((1, 3, 1, 400, 400), 250, dtype=torch.uint8))
    torch.manual_seed(0)
    for share in (0.2, 0.7):
        hidden = mask_patches(clips, share, 100).frames == 115
        assert float(hidden.float().mean()) == pytest.approx(share, abs=0.02)


def test_an_entry_weighs_how_sure_the_teacher_is_of_it():
    pseudo = PseudoLabels(torch.tensor([[1.0, 0, 0]]), torch.tensor([[1.0, 1, 0]]))
    logits = torch.tensor([[0.3, -0.2, 4.0]], requires_grad=True)
    weighted = weighted_by_certainty(pseudo, torch.tensor([[0.7, 0.1, 0.5]]))
    loss = trusted_bce(logits, weighted)
    p = torch.sigmoid(logits.detach())[0]
    assert float(loss.detach()) == pytest.approx(float(-(0.7 * p[0].log() + 0.9 * (1 - p[1]).log()) / 3), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.7 * (p[0] - 1), 0.9 * p[1], 0.0]]) / 3)


def test_the_teacher_sees_whole_clips_and_the_student_hidden_ones(monkeypatch):
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, width=[4, 4, 4, 4])
    mic = create_adaptation("mic", feature_dim=detector.feature_dim, num_classes=C)
    mic.before_training(detector.eval(), [], [])
    frames = {"teacher": [], "student": []}
    for name, network in (("teacher", mic.teacher.network), ("student", detector)):
        network.register_forward_pre_hook(lambda _, inputs, name=name: frames[name].append(inputs[0]))
    source = batch((1,), seed=1).with_labels(torch.ones(1, C))
    target = batch((2,), low=200)
    mic.step_losses(detector, source, copy.deepcopy(target), 0.5)
    assert torch.equal(frames["teacher"][0], target.frames)
    assert torch.equal(frames["student"][0][:1], source.frames)
    assert float((frames["student"][0][1:] == 115).float().mean()) > 0.2


@pytest.mark.parametrize("wrong", [{"masked": 1.0}, {"patches": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        create_adaptation("mic", wrong, feature_dim=3, num_classes=C)
