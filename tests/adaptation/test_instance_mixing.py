"""Who is in a mixed clip, what is known of them, and what a detector learns from it."""

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.pseudo_labels import PseudoLabels
from microg_da.data.batches import concatenate_batches
from microg_da.errors import InputError
from microg_da.types import ClipBatch, ClipKey, Prediction

SIZE, C = 24, 2
LEFT, RIGHT = [1.0, 4, 9, 20], [15.0, 4, 23, 20]


class Colours(nn.Module):
    """Features of a person are the mean colour of their box and of the whole picture."""

    feature_dim = 6

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(6, C)
        self.passes = []

    def forward(self, frames, boxes, clip_index):
        self.passes.append(len(frames))
        picture = frames.float().mean(dim=2) / 255
        inside = roi_align(picture, torch.cat([clip_index[:, None].float(), boxes], dim=1), 1)
        features = torch.cat([inside.flatten(1), picture.mean(dim=(2, 3))[clip_index]], dim=1)
        return Prediction(self.projection(features), features)


def batch(count, box, *, scene, domain):
    """One person a clip: red ones do action 0, green ones action 1; the scene is grey of a given value."""
    labels = torch.eye(C)[torch.randint(0, C, (count,))]
    frames = torch.full((count, 3, 2, SIZE, SIZE), scene, dtype=torch.uint8)
    x1, y1, x2, y2 = (int(side) for side in box)
    frames[:, :2, :, y1:y2, x1:x2] = (40 + 200 * labels).to(torch.uint8)[:, :, None, None, None]
    boxes = torch.tensor([box]).repeat(count, 1)
    keys = tuple(ClipKey(f"{domain}_{index}", 1) for index in range(count))
    shown = labels if domain == "source" else None
    batch = ClipBatch(frames, boxes, torch.arange(count), boxes / SIZE, keys, domain)
    return (batch if shown is None else batch.with_labels(shown)), labels


def method_for(detector, **arguments):
    method = create_adaptation("instance_mixing", arguments, feature_dim=6, num_classes=C)
    method.before_training(detector, [], [])
    return method


@pytest.mark.parametrize("pasted", ["target", "source"])
def test_everyone_brings_their_own_labels_into_the_mixed_clip(pasted):
    method = method_for(Colours(), pasted=pasted, margin=0.0)
    source, labels = batch(3, LEFT, scene=0, domain="source")
    target, _ = batch(3, RIGHT, scene=90, domain="target")
    pseudo = PseudoLabels(torch.rand(3, C).round(), torch.rand(3, C).round())
    mixed, known = method.mix(source, target, pseudo)
    from_source = mixed.boxes[:, 0] == LEFT[0]
    assert from_source.sum() == 3
    assert torch.equal(known.labels[from_source], labels)
    assert torch.equal(known.trusted[from_source], torch.ones(3, C))
    assert torch.equal(known.labels[~from_source], pseudo.labels)
    assert torch.equal(known.trusted[~from_source], pseudo.trusted)
    # Everyone looks as before, in the other's scene.
    for original, scene, box in ((source, 0, LEFT), (target, 90, RIGHT)):
        x1, y1, x2, y2 = (int(side) for side in box)
        assert torch.equal(mixed.frames[..., y1:y2, x1:x2], original.frames[..., y1:y2, x1:x2])
        below = "source" if pasted == "target" else "target"
        assert (mixed.frames[..., 0, 0] == scene).all() == (original.domain == below)


def test_the_losses_are_those_of_a_pass_over_source_and_mixed_clips():
    torch.manual_seed(0)
    detector = Colours()
    nn.init.normal_(detector.projection.weight, std=3)
    source, _ = batch(20, LEFT, scene=0, domain="source")
    target, _ = batch(20, RIGHT, scene=90, domain="target")
    methods = [method_for(detector, weight=0.3, ramp_up=0.0, positive=0.9, negative=1.1) for _ in range(2)]
    losses = methods[0].step_losses(detector, source, target, 0.0)
    assert detector.passes[-1] == 40

    pseudo = methods[1].thresholds.label(methods[1].teacher(target).sigmoid(), source.labels)
    assert pseudo.labels.any()
    mixed, known = methods[1].mix(source, target, pseudo)
    both = concatenate_batches(source, mixed)
    p = detector(both.frames, both.boxes, both.clip_index).logits.sigmoid()[20:]
    entropy = -(known.trusted * (known.labels * p.log() + (1 - known.labels) * (1 - p).log()))
    assert torch.allclose(losses["mixed"], 0.3 * entropy.mean(), atol=1e-5)
    weight = detector.projection.weight
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (losses["mixed"], 0.3 * entropy.mean())]
    assert torch.allclose(*gradients, atol=1e-6)


def test_a_detector_that_reads_the_scene_learns_to_read_the_person():
    """In the source the scene gives the action away; in the target it does not."""
    torch.manual_seed(0)

    def source_batch():
        source, labels = batch(24, LEFT, scene=0, domain="source")
        x1, y1, x2, y2 = (int(side) for side in LEFT)
        person = source.frames[..., y1:y2, x1:x2].clone()
        source.frames[:, 2] = (200 * labels[:, 0]).to(torch.uint8)[:, None, None, None]
        source.frames[:, :2, :, y1:y2, x1:x2] = person[:, :2]
        return source

    def train(detector, method=None):
        optimizer = torch.optim.Adam(detector.parameters(), lr=0.03)
        for step in range(120):
            source, target = source_batch(), batch(24, RIGHT, scene=90, domain="target")[0]
            if method is None:
                logits = detector(source.frames, source.boxes, source.clip_index).logits
                losses = {"supervised": multilabel_bce(logits, source.labels)}
            else:
                losses = method.step_losses(detector, source, target, step / 120)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            if method is not None:
                method.after_step(detector)

    def reads_the_scene(detector):
        weight = detector.projection.weight.detach()
        return float(
            weight[:, 5].norm() / weight[:, :2].norm()
        )  # the scene's blue, and the red and green of the person

    detector = Colours()
    train(detector)
    source_alone = copy.deepcopy(detector)
    train(source_alone)
    method = method_for(detector)
    train(detector, method)
    method.after_training(detector)
    assert reads_the_scene(detector) < 0.85 * reads_the_scene(source_alone)
    target, labels = batch(200, RIGHT, scene=90, domain="target")
    answers = detector(target.frames, target.boxes, target.clip_index).logits
    assert ((answers[:, 0] > answers[:, 1]) == (labels[:, 0] == 1)).float().mean() > 0.95


@pytest.mark.parametrize(("of_source", "of_target"), [(0, 3), (3, 0), (0, 0), (1, 1), (2, 3)])
def test_every_weight_has_a_gradient_whoever_is_in_the_batch(of_source, of_target):
    detector = Colours()
    source, _ = batch(of_source, LEFT, scene=0, domain="source")
    target, _ = batch(of_target, RIGHT, scene=9, domain="target")
    losses = method_for(detector).step_losses(detector, source, target, 0.5)
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in detector.parameters())


@pytest.mark.parametrize(("argument", "value"), [("pasted", "both"), ("margin", -0.1)])
def test_values_out_of_range_are_refused(argument, value):
    with pytest.raises(InputError, match=argument):
        method_for(Colours(), **{argument: value})
