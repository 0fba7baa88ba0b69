"""The sample of people whose features a run keeps: which people, whose features, and what is in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from microg_da.inference.feature_sample import FeatureSample
from microg_da.reporting.domains import People
from microg_da.types import ClipBatch, ClipKey, Prediction

CLIPS, WIDTH = 30, 3


@pytest.fixture
def truth() -> pd.DataFrame:
    clips = [f"video_{number:04d}" for number in range(CLIPS)]
    return pd.DataFrame({"video_id": np.repeat(clips, 3), "frame_stamp": 45, "action_id": 12})


def features_of(number: int, person: int) -> list[float]:
    return [number, person, 0.5]


def seen(clips: list[int], people: int = 2) -> tuple[ClipBatch, Prediction]:
    """Batch and prediction of some clips; a person's features say who it is."""
    index = torch.arange(len(clips)).repeat_interleave(people)
    person = torch.arange(people).repeat(len(clips)).float()
    boxes = torch.stack([0.1 + 0.3 * person, 0 * person, 0.3 + 0.3 * person, 0 * person + 1], dim=1)
    batch = ClipBatch(
        frames=torch.zeros(len(clips), 3, 2, 4, 4, dtype=torch.uint8),
        boxes=boxes,
        clip_index=index,
        table_boxes=boxes,
        keys=tuple(ClipKey(f"video_{number:04d}", 45) for number in clips),
    )
    features = [features_of(clips[clip], int(who)) for clip, who in zip(index, person, strict=True)]
    return batch, Prediction(torch.zeros(len(boxes), 50), torch.tensor(features).reshape(-1, WIDTH))


def sampled(truth: pd.DataFrame, batches: list[list[int]], most: int, path: Path) -> People:
    sample = FeatureSample(truth, WIDTH, most)
    for clips in batches:
        sample.update(*seen(clips))
    sample.write(path)
    return People.read(path)


def test_everybody_is_kept_where_there_is_room(truth, tmp_path):
    people = sampled(truth, [list(range(7)), list(range(7, CLIPS))], 100, tmp_path / "features" / "a.npz")
    assert len(people) == 2 * CLIPS
    for video, stamp, box, features in zip(
        people.video_id, people.frame_stamp, people.boxes, people.features, strict=True
    ):
        person = round((box[0] - 0.1) / 0.3)
        assert features.tolist() == features_of(int(video[-4:]), person)
        assert stamp == 45
    assert {tuple(row) for row in people.features} == {(n, p, 0.5) for n in range(CLIPS) for p in (0, 1)}


def test_the_sample_does_not_depend_on_order_batches_or_repetitions(truth, tmp_path):
    first = sampled(truth, [list(range(CLIPS))], 10, tmp_path / "a.npz")
    order = np.random.default_rng(0).permutation(CLIPS).tolist()
    second = sampled(truth, [order[:3], order[3:], order[:9]], 10, tmp_path / "b.npz")
    assert len(first) == 10
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.video_id, second.video_id)


def test_the_sample_is_spread_over_all_clips(truth, tmp_path):
    people = sampled(truth, [list(range(CLIPS))], 20, tmp_path / "a.npz")
    assert people.features[:, 0].min() < CLIPS / 3
    assert people.features[:, 0].max() > 2 * CLIPS / 3
    assert set(people.features[:, 1]) == {0, 1}


@pytest.mark.parametrize("clips", [[], [3]])
def test_nobody_and_one_person(truth, tmp_path, clips):
    sample = FeatureSample(truth, WIDTH)
    sample.update(*seen(clips, people=1))
    sample.write(tmp_path / "a.npz")
    people = People.read(tmp_path / "a.npz")
    assert people.features.shape == (len(clips), WIDTH)
    assert people.boxes.shape == (len(clips), 4)
    assert people.video_id.tolist() == [f"video_{number:04d}" for number in clips]


def test_a_pass_that_saw_nothing(truth, tmp_path):
    with pytest.warns(UserWarning, match="``update``"):
        FeatureSample(truth, WIDTH).write(tmp_path / "a.npz")
    assert len(People.read(tmp_path / "a.npz")) == 0


def test_features_too_large_for_half_precision_are_kept_whole(truth, tmp_path):
    sample = FeatureSample(truth, WIDTH)
    batch, prediction = seen([0])
    sample.update(batch, Prediction(prediction.logits, prediction.features + 1e6))
    sample.write(tmp_path / "a.npz")
    assert People.read(tmp_path / "a.npz").features.max() == pytest.approx(1e6, rel=1e-3)
