"""Alignment of feature statistics, against numpy; and where the maps of each network are found."""

import numpy as np
import pytest
import torch
from online_cases import C, batch, method, trained_detector
from scipy.spatial.distance import cityblock

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.vitta import alignment_loss, channel_statistics, disagreement, feature_maps, jitter_frames
from microg_da.errors import InputError
from microg_da.models import MODELS, create_detector
from microg_da.models.adapters import stage_channels


@pytest.fixture
def detector():
    return trained_detector()


def test_statistics_are_those_of_numpy():
    maps = [torch.randn(2, 3, 4, 5, 6) * 3 + 1, torch.randn(2, 7, 2, 3, 3)]
    found = channel_statistics(maps)
    flat = [x.transpose(0, 1).flatten(1).numpy() for x in maps]
    assert np.allclose(found[0], np.concatenate([x.mean(1) for x in flat]), atol=1e-5)
    assert np.allclose(found[1], np.concatenate([x.var(1) for x in flat]), atol=1e-4)


def test_the_loss_and_its_gradient_are_those_of_the_l1_distance():
    source, statistics = torch.randn(2, 6), torch.randn(2, 6, requires_grad=True)
    loss = alignment_loss(statistics, source)
    expected = sum(cityblock(a, b) for a, b in zip(statistics.detach().numpy(), source.numpy(), strict=True)) / 6
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.allclose(statistics.grad, (statistics.detach() - source).sign() / 6)
    assert float(alignment_loss(source, source)) == 0


def test_views_disagree_by_half_their_distance_each():
    first, second = torch.randn(3, C, requires_grad=True), torch.randn(3, C)
    p, q = torch.sigmoid(first), torch.sigmoid(second)
    loss = disagreement(first, second)
    assert float(loss.detach()) == pytest.approx(float((p - q).abs().sum() / 3), rel=1e-5)
    # The mean is held fixed, so that only the view's own distance is followed.
    (gradient,) = torch.autograd.grad(loss, first)
    assert torch.allclose(gradient, ((p - q).sign() * p * (1 - p) / 3).detach(), atol=1e-6)
    assert float(disagreement(first, first)) == 0


def test_jittered_frames_are_their_own_or_a_neighbour_in_order():
    frames = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(2, 3, 9, 2, 2)
    torch.manual_seed(0)
    order = torch.stack([jitter_frames(frames)[1, 2, :, 0, 0] for _ in range(50)])
    assert (order.diff(dim=1) >= 0).all()
    assert ((order - torch.arange(9)).abs() <= 1).all()
    assert len(order.unique(dim=0)) > 10


def test_source_statistics_count_every_clip_once_and_see_no_more_than_asked(detector):
    sizes = [(1, 1, 1), (0,), (1,)]
    vitta = create_adaptation("vitta", {"source_batches": 2}, feature_dim=detector.feature_dim, num_classes=C)
    vitta.prepare(detector, iter([batch(size, seed=index) for index, size in enumerate(sizes)]), [])
    frames = torch.cat([batch(size, seed=index).frames for index, size in enumerate(sizes[:2])])
    with torch.no_grad(), feature_maps(detector.backbone, ("res3", "res4")) as maps:
        detector(frames, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert torch.allclose(vitta.source_statistics, channel_statistics(maps), atol=1e-4, rtol=1e-4)


def test_no_source_clip_and_too_many_stages_are_said(detector):
    with pytest.raises(InputError, match=r"'vitta'.*source"):
        create_adaptation("vitta", feature_dim=1, num_classes=1).prepare(detector, [], [])
    with pytest.raises(InputError, match=r"stages=9.*stem, res2, res3, res4"):
        method("vitta", detector, stages=9)


def distance(detector, vitta, clips):
    with torch.no_grad(), feature_maps(detector.backbone, ("res3", "res4")) as maps:
        detector(clips.frames, clips.boxes, clips.clip_index)
    return float(alignment_loss(channel_statistics(maps), vitta.source_statistics))


def test_the_statistics_of_a_shifted_domain_come_nearer_to_the_source(detector):
    torch.manual_seed(0)
    vitta = method("vitta", detector, lr=3e-4, momentum=0.5)
    vitta.start_test(detector)
    shifted = [batch((1, 1, 1), seed=seed, low=240) for seed in range(3)]
    before = distance(detector, vitta, shifted[0])
    for _ in range(24):
        for clips in shifted:
            vitta.predict(detector, clips)
    assert distance(detector, vitta, shifted[0]) < 0.6 * before
    vitta.end_test(detector)
    assert distance(detector, vitta, shifted[0]) == pytest.approx(before, rel=1e-6)


def test_what_is_frozen_stays(detector):
    vitta = method("vitta", detector, lr=0.1)
    frozen = {name: p.clone() for name, p in detector.named_parameters() if not p.requires_grad}
    vitta.start_test(detector)
    vitta.predict(detector, batch())
    assert frozen
    assert all(torch.equal(dict(detector.named_parameters())[name], value) for name, value in frozen.items())
    vitta.end_test(detector)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_network_shows_the_maps_of_its_last_stages(name):
    """On the meta device, where nothing is computed: shapes alone."""
    with torch.device("meta"):
        backbone = create_detector(name, num_classes=2).backbone.eval()
        stages = backbone.stages[-2:]
        with feature_maps(backbone, stages) as maps:
            backbone(torch.empty(1, 3, MODELS_FRAMES.get(name, 16), 224, 224))
    channels = stage_channels(backbone)
    assert [x.shape[1] for x in maps] == [width for stage in stages for width in channels[stage]]
    assert all(x.ndim == 5 for x in maps)
    assert channel_statistics(maps).shape == (2, sum(x.shape[1] for x in maps))


MODELS_FRAMES = {"slowfast_r50_8x8": 32, "slowfast_r101_32x2": 32}
