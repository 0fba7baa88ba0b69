"""Clips: repeatable in any order, functions of time, with boxes that enclose whoever was drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from microg_da.errors import InputError
from microg_da.synthetic import SyntheticSpec, render_clip
from microg_da.synthetic.render import key_masks, stage_clip
from microg_da.synthetic.spec import CLIP_FRAMES, KEYFRAME, SCENES

DOMAINS = ["earth", "microgravity"]


def equal(one, two):
    return (
        np.array_equal(one.frames, two.frames)
        and np.array_equal(one.boxes, two.boxes)
        and (one.action_ids, one.video_id, one.frame_stamp) == (two.action_ids, two.video_id, two.frame_stamp)
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_clip_does_not_depend_on_what_was_drawn_before(domain):
    spec = SyntheticSpec(domain, num_clips=30)
    forwards = [render_clip(spec, index) for index in range(6)]
    backwards = [render_clip(spec, index) for index in reversed(range(6))][::-1]
    assert all(equal(one, two) for one, two in zip(forwards, backwards, strict=True))
    assert not any(equal(forwards[0], other) for other in forwards[1:])


def test_global_random_state_is_neither_read_nor_changed():
    spec = SyntheticSpec("microgravity", num_clips=4)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = render_clip(spec, 3)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert equal(first, render_clip(spec, 3))


@pytest.mark.parametrize("domain", DOMAINS)
def test_another_seed_is_another_clip(domain):
    spec = SyntheticSpec(domain, num_clips=4)
    assert not equal(render_clip(spec, 0), render_clip(replace(spec, seed=1), 0))


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_frame_is_a_function_of_its_number(domain):
    spec = SyntheticSpec(domain, num_clips=10, num_frames=8, sampling_rate=4)
    for index in (3, 4):
        whole = render_clip(spec, index)
        backwards = render_clip(spec, index, spec.window[::-1])
        assert np.array_equal(whole.frames, backwards.frames[::-1])
        alone = render_clip(spec, index, [spec.window[5]])
        assert np.array_equal(alone.frames[0], whole.frames[5])
        assert np.array_equal(alone.boxes, whole.boxes)


@pytest.mark.parametrize("domain", DOMAINS)
def test_things_move(domain):
    spec = SyntheticSpec(domain, num_clips=20, look="simulated", num_frames=2, sampling_rate=15)
    for index in range(8):
        first, last = render_clip(spec, index).frames.astype(int)
        assert (np.abs(first - last).max(-1) > 25).mean() > 0.005


def test_windows_are_centred_on_the_keyframe_and_stay_in_the_clip():
    assert SyntheticSpec("earth", num_frames=8, sampling_rate=2).window == (38, 40, 42, 44, 46, 48, 50, 52)
    assert SyntheticSpec("earth", num_frames=1, sampling_rate=1).window == (KEYFRAME,)
    for num_frames, rate in ((32, 2), (4, 16), (64, 2), (16, 9)):
        window = SyntheticSpec("earth", num_frames=num_frames, sampling_rate=rate).window
        assert len(window) == num_frames
        assert KEYFRAME in window
        assert min(window) >= 1
        assert max(window) <= CLIP_FRAMES
        assert list(window) == sorted(window)


@pytest.mark.parametrize("domain", DOMAINS)
def test_boxes_enclose_whoever_was_drawn_and_nothing_more(domain):
    spec = SyntheticSpec(domain, num_clips=80)
    size = 192
    for index in range(80):
        boxes = render_clip(spec, index, [KEYFRAME]).boxes
        masks = key_masks(stage_clip(spec, index), size)
        assert len(boxes) == len(masks)
        assert (boxes >= 0).all()
        assert (boxes <= 1).all()
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / size
            assert np.abs(box - drawn).max() < 0.02
            assert ((box[2:] - box[:2]) > 0.05).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_people_are_in_view(domain):
    """Most of everybody is inside the image and not hidden behind somebody else."""
    spec = SyntheticSpec(domain, num_clips=80)
    hidden = []
    for index in range(80):
        masks = key_masks(stage_clip(spec, index), 96)
        for person, mask in enumerate(masks):
            others = np.delete(masks, person, axis=0).any(0) if len(masks) > 1 else np.zeros_like(mask)
            hidden.append((mask & others).sum() / mask.sum())
    assert np.mean(np.array(hidden) > 0.6) < 0.05


def test_splits_share_no_source_video():
    scenes = {split: set(numbers) for split, numbers in SCENES.items()}
    assert not scenes["train"] & scenes["val"]
    assert not scenes["train"] & scenes["test"]
    assert not scenes["val"] & scenes["test"]
    names = {split: {SyntheticSpec("earth", split, 300).name(index) for index in range(300)} for split in SCENES}
    sources = {split: {name.source_video for name in group} for split, group in names.items()}
    assert all(len(group) == 300 for group in names.values())
    assert not sources["train"] & sources["test"]
    assert all(name.video_id.rsplit("_", 1)[0] == name.source_video for name in names["val"])


def test_a_clip_keeps_its_name_and_content_in_a_larger_set_and_another_selection():
    small, large = SyntheticSpec("earth", num_clips=5), SyntheticSpec("earth", num_clips=500)
    assert [small.name(index) for index in range(5)] == [large.name(index) for index in range(5)]
    alone = SyntheticSpec("earth", num_clips=10, look="real")
    assert alone.name(2) == large.name(4)
    assert equal(render_clip(alone, 2), render_clip(large, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "mars"}, "domain 'mars'.*earth"),
        ({"domain": "earth", "look": "reel"}, "'reel'.*'real'"),
        ({"domain": "earth", "split": "dev"}, "'dev'.*test, train, val"),
        ({"domain": "earth", "size": 8}, r"\bsize\b.*\b32\b"),
        ({"domain": "earth", "num_frames": 0}, r"num_frames\b.*\b1\b"),
        ({"domain": "earth", "num_clips": -1}, r"num_clips\b.*\b0\b"),
    ],
)
def test_impossible_specifications_say_what_is_wrong(arguments, message):
    with pytest.raises(InputError, match=message):
        SyntheticSpec(**arguments)


def test_clips_beyond_the_end_do_not_exist():
    with pytest.raises(IndexError):
        render_clip(SyntheticSpec("earth", num_clips=3), 3)
