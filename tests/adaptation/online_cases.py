"""A small detector with opinions, clips, and methods ready for a test: what tests of test-time methods share."""

import torch
from torch import nn

from microg_da.adaptation.base import create_adaptation
from microg_da.data.batches import collate_clips
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey

C = 5


def trained_detector():
    """With batch statistics of its own, part of it frozen, in evaluation mode."""
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, freeze=1, width=(4, 8, 8, 8))
    nn.init.normal_(detector.head.projection.weight, std=1.0)
    with torch.no_grad():
        for _ in range(5):
            detector.backbone(torch.randn(4, 3, 8, 48, 48))
    return detector.eval()


def batch(people=(2, 1), seed=0, low=0):
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for index, count in enumerate(people):
        frames = torch.randint(low, 256, (3, 8, 48, 48), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1) + torch.arange(count)[:, None]
        clips.append(Clip(frames, boxes, boxes / 48, ClipKey(f"v_{index}", 1)))
    return collate_clips(clips, "target")


def method(name, detector, **arguments):
    if name == "rotta":
        arguments = {"update_interval": 1, **arguments}  # a batch has three people
    made = create_adaptation(name, arguments, feature_dim=detector.feature_dim, num_classes=C).eval()
    made.prepare(detector, [batch((2, 2), seed=9)], [])
    if name == "sar":
        made.uninformed.fill_(1e3)  # everybody is reliable
        made.arguments.recovery = 0.0
    if name == "eata" and "margin" not in arguments:
        made.uninformed.fill_(10.0)  # everybody is sure: five classes have at most 3.5 nats
    if name == "cotta":
        made.source_entropy.fill_(-1.0)  # nobody is sure: the teacher averages views, and its answer is another
    return made
