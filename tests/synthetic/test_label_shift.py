"""Sets of clips with other class rates hold the same clips in other proportions."""

import math
from dataclasses import replace

import numpy as np
import pytest

from microg_da.data.sources import open_source
from microg_da.errors import InputError
from microg_da.synthetic import SyntheticSpec, render_clip
from microg_da.synthetic.label_shift import POSITIONS, shifted
from microg_da.synthetic.render import draw_people
from microg_da.taxonomy import get_taxonomy

SPEC = SyntheticSpec("microgravity", num_clips=600, num_frames=2, size=32)


def people_of(spec):
    """The labels of each clip's people."""
    names = map(spec.name, range(spec.num_clips))
    return [[actor.labels for actor in draw_people(spec.seed, name)[0].actors] for name in names]


def rates(clips, weights):
    """The fraction of people with each action; a clip counts with its weight."""
    total = sum(weight * len(people) for people, weight in zip(clips, weights, strict=True))
    actions = sorted(set().union(*(labels for people in clips for labels in people)))
    counts = [
        sum(weight * sum(action in labels for labels in people) for people, weight in zip(clips, weights, strict=True))
        for action in actions
    ]
    return dict(zip(actions, np.array(counts) / total, strict=True))


@pytest.mark.parametrize("shift", [1.5, -1.0])
def test_rates_are_those_of_reweighted_clips(shift):
    clips = people_of(replace(SPEC, num_clips=3000))
    factors = [
        np.mean([math.exp(shift * POSITIONS[min(labels & set(POSITIONS))]) for labels in people]) for people in clips
    ]
    expected = rates(clips, factors)
    found = people_of(shifted(SPEC, shift))
    measured = rates(found, [1] * len(found))
    for action, rate in expected.items():
        assert measured.get(action, 0) == pytest.approx(rate, abs=0.05)
    plain = rates(clips, [1] * len(clips))
    assert (measured[3] > 2 * plain[3]) == (shift > 0)  # crouch
    assert (measured[12] < plain[12] / 1.5) == (shift > 0)  # stand


def test_clips_are_the_same_under_the_same_name():
    spec = shifted(SPEC, 1.0)
    for index in (0, 7):
        there = render_clip(SPEC, spec.places[index])
        here = render_clip(spec, index)
        assert here.video_id == there.video_id
        assert np.array_equal(here.frames, there.frames)
        assert here.action_ids == there.action_ids


def test_a_larger_set_starts_with_the_smaller_one():
    small, large = shifted(SPEC, 1.0).places, shifted(replace(SPEC, num_clips=700), 1.0).places
    assert large[:600] == small
    assert sorted(set(large)) == list(large)


def test_no_shift_changes_nothing():
    assert shifted(SPEC, 0.0) is SPEC


@pytest.mark.parametrize("shift", [math.nan, math.inf, 6.0])
def test_an_invalid_shift_is_named(shift):
    with pytest.raises(InputError, match="label_shift="):
        shifted(SPEC, shift)


def test_it_is_an_option_of_the_data_source(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROG_DA_CACHE", str(tmp_path))
    taxonomy = get_taxonomy("microg50")
    settings = {
        "split": "test",
        "num_frames": 2,
        "sampling_rate": 1,
        "image_size": 32,
        "labelled": True,
        "train": False,
    }
    plain, other = (
        open_source(f"synthetic:microgravity?num_clips=40&workers=0{option}", taxonomy=taxonomy, **settings)
        for option in ("", "&label_shift=2")
    )
    assert len(plain) == len(other) == 40
    assert set(plain.keys) != set(other.keys)
    crouch = taxonomy.ids.index(3)
    share = [np.mean([float(data[index].labels[:, crouch].mean()) for index in range(40)]) for data in (plain, other)]
    assert share[1] > 2 * share[0]
