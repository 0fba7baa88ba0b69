"""Mixtures pixel by pixel, and the score against a loop."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from microg_da.data.batches import collate_clips
from microg_da.types import Clip, ClipKey, Prediction
from microg_da.validation.mixing import MixedPeople, mix_people, mixval, pairs
from microg_da.validation.observations import Observed

C = 4


def clips(counts, size=(40, 60)):
    made = []
    for number, count in enumerate(counts):
        frames = torch.full((3, 2, *size), 10 * (number + 1), dtype=torch.uint8)
        boxes = torch.tensor([[4.0, 4, 24, 34]]).repeat(count, 1) + torch.arange(count)[:, None]
        made.append(Clip(frames, boxes, boxes / 60, ClipKey(f"v{number}", 1)))
    return collate_clips(made, "target")


def observe(mixed, support=None):
    empty = torch.zeros(0, C)
    return Observed(None, empty, empty, empty, empty, support=support, mixed=mixed)


def test_the_first_person_of_a_clip_meets_that_of_the_clip_as_far_from_the_end():
    assert pairs(clips((2, 1, 0, 3))).tolist() == [[0, 3], [3, 0]]  # the clip in the middle has no partner
    assert pairs(clips((2, 0, 1))).tolist() == [[0, 2], [2, 0]]
    assert pairs(clips((1,))).shape == pairs(clips((0, 0))).shape == (0, 2)


def test_what_is_mixed_is_the_weighted_mean_of_both_clips():
    batch = clips((2, 1))
    mixed = mix_people(batch, pairs(batch))
    assert mixed.frames.dtype == torch.uint8
    assert mixed.frames[0].unique().tolist() == [round(0.55 * 10 + 0.45 * 20)]
    assert mixed.frames[1].unique().tolist() == [round(0.55 * 20 + 0.45 * 10)]
    assert mixed.clip_index.tolist() == [0, 1]
    assert mixed.people == (batch.people[0], batch.people[2])
    assert mixed.keys == batch.keys
    assert torch.equal(mixed.boxes, batch.boxes[[0, 2]])


def test_the_second_person_is_laid_upon_the_first():
    """Their box, painted white, lies where the first one's box is, and nowhere else."""
    batch = clips((1, 1))
    batch.frames.zero_()
    batch.boxes[1] = torch.tensor([30.0, 10, 40, 25])  # half as large
    batch.frames[1, :, :, 10:25, 30:40] = 200
    mixed = mix_people(batch, pairs(batch)).frames[0].float()
    inside = mixed[..., 4:34, 4:24]
    assert float(inside[..., 2:-2, 2:-2].mean()) == pytest.approx(0.45 * 200, abs=0.5)
    outside = mixed.clone()
    outside[..., 2:36, 2:26] = 0
    assert float(outside.max()) == 0


def loop(mixed):
    cases = {case: [] for case in ((0, 0), (0, 1), (1, 0), (1, 1))}
    for first, second, said in mixed.numpy():
        for c in range(len(first)):
            cases[int(first[c] > 0), int(second[c] > 0)].append((said[c] > 0) == (first[c] > 0))
    share = {case: np.mean(values) for case, values in cases.items()}
    return ((share[0, 0] + share[1, 1]) / 2 + (share[0, 1] + share[1, 0]) / 2) / 2


def test_the_score_is_that_of_a_loop():
    mixed = torch.randn(40, 3, C, generator=torch.Generator().manual_seed(0))
    assert mixval(observe(mixed)) == pytest.approx(loop(mixed))
    support = torch.tensor([True, False, True, False])
    assert mixval(observe(mixed, support)) == pytest.approx(loop(mixed[..., support]))


def test_a_detector_whose_borders_lie_in_the_middle_is_best_and_one_that_says_no_is_not():
    answers = torch.randn(60, 2, C, generator=torch.Generator().manual_seed(1))
    faithful = torch.cat([answers, answers[:, :1]], dim=1)
    silent = torch.cat([answers, torch.full((60, 1, C), -9.0)], dim=1)
    assert mixval(observe(faithful)) == 1
    assert mixval(observe(silent)) == 0.5


@pytest.mark.parametrize("mixed", [None, torch.zeros(0, 3, C), torch.full((5, 3, C), -3.0)])
def test_without_mixtures_of_different_answers_there_is_no_score(mixed):
    assert math.isnan(mixval(observe(mixed)))


def test_answers_are_kept_in_threes():
    batch = clips((2, 1))
    prediction = Prediction(torch.arange(3.0)[:, None].expand(-1, C), torch.zeros(3, 1))
    kept = MixedPeople(C)
    assert kept.compute().shape == (0, 3, C)

    def predict(probe):
        assert probe.num_boxes == 2
        return Prediction(torch.full((2, C), 9.0), torch.zeros(2, 1))

    kept.update(batch, prediction, predict)
    kept.update(clips((1,)), Prediction(torch.zeros(1, C), torch.zeros(1, 1)), predict)  # nobody to mix with
    assert kept.compute()[..., 0].tolist() == [[0, 2, 9], [2, 0, 9]]
    kept.reset()
    assert kept.compute().shape == (0, 3, C)


def test_normalised_frames_stay_so():
    batch = clips((1, 1))
    batch = replace(batch, frames=batch.frames.float() / 100 - 1)
    assert float(mix_people(batch, pairs(batch)).frames[0].mean()) == pytest.approx(0.55 * -0.9 + 0.45 * -0.8, abs=1e-5)
