"""Clips and batches, with labels and without."""

from dataclasses import fields, replace

import pytest
import torch

from microg_da.data.batches import collate_clips, concatenate_batches
from microg_da.types import Clip, ClipBatch, ClipKey, LabelledClip, LabelledClipBatch, PersonKey


def clip(people: int, *, labelled: bool = True, size: int = 8, number: int = 0) -> Clip:
    boxes = torch.rand(people, 4)
    frames = torch.zeros(3, 2, size, size, dtype=torch.uint8)
    unlabelled = Clip(frames, boxes * size, boxes, ClipKey(f"v_{number}", 5))
    return unlabelled.with_labels(torch.ones(people, 3)) if labelled else unlabelled


def test_people_remember_their_clip():
    batch = collate_clips([clip(2), clip(0), clip(1)])
    assert batch.clip_index.tolist() == [0, 0, 2]
    assert batch.frames.shape == (3, 3, 2, 8, 8)
    assert batch.labels.shape == (3, 3)
    assert len(batch) == 3
    assert batch.num_boxes == 3


def test_a_batch_without_anybody():
    batch = collate_clips([clip(0), clip(0)])
    assert batch.boxes.shape == (0, 4)
    assert batch.labels.shape == (0, 3)
    assert batch.clip_index.dtype == torch.int64


def test_unlabelled_clips_make_an_unlabelled_batch_and_never_a_mixed_one():
    assert type(collate_clips([clip(1, labelled=False)])) is ClipBatch
    with pytest.raises(ValueError, match="mixes"):
        collate_clips([clip(1), clip(1, labelled=False)])


def test_clips_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        collate_clips([clip(1), clip(1, size=9)])


def test_two_batches_as_one():
    both = concatenate_batches(collate_clips([clip(1), clip(2)]), collate_clips([clip(0), clip(1, number=7)], "target"))
    assert both.clip_index.tolist() == [0, 1, 1, 3]
    assert type(both) is ClipBatch
    assert both.keys[3].video_id == "v_7"
    assert [(key.keyframe.video_id, key.place) for key in both.people] == [
        ("v_0", 0), ("v_0", 0), ("v_0", 1), ("v_7", 0),
    ]  # fmt: skip


def test_people_are_taken_with_all_that_belongs_to_them():
    batch = collate_clips([clip(2), clip(3, number=1)])
    batch.labels = torch.arange(15.0).reshape(5, 3)
    some = batch.take_people(torch.tensor([False, True, True, False, True]))
    assert some.people == tuple(PersonKey(ClipKey(f"v_{clip}", 5), index) for clip, index in [(0, 1), (1, 0), (1, 2)])
    assert some.clip_index.tolist() == [0, 1, 1]
    for field in ("boxes", "table_boxes", "labels"):
        assert torch.equal(getattr(some, field), getattr(batch, field)[[1, 2, 4]])
    again = some.take_people(torch.tensor([2, 0]))
    assert [key.place for key in again.people] == [2, 1]
    assert again.to("meta").people == again.people
    assert len(again.keys) == 2


def test_boxes_cannot_be_dropped_without_their_people():
    batch = collate_clips([clip(3)])
    with pytest.raises(ValueError, match="take_people"):
        replace(batch, boxes=batch.boxes[:2], clip_index=batch.clip_index[:2])


def test_clips_that_are_zoomed_and_clips_that_are_not_do_not_mix():
    with pytest.raises(ValueError, match="zoomed"):
        collate_clips([clip(1), replace(clip(1), zoomed=True)])


def test_moving_a_batch_moves_everything_in_it():
    batch = collate_clips([clip(2)]).to("meta")
    assert {
        batch.frames.device.type,
        batch.boxes.device.type,
        batch.labels.device.type,
        batch.clip_index.device.type,
    } == {"meta"}
    assert batch.people


def test_what_has_no_labels_has_no_place_for_them():
    bare = clip(2, labelled=False)
    for unlabelled in (bare, collate_clips([bare]), collate_clips([clip(2)]).without_labels()):
        assert "labels" not in {field.name for field in fields(unlabelled)}
        assert not hasattr(unlabelled, "labels")
        assert not isinstance(unlabelled, (LabelledClip, LabelledClipBatch))


def test_labels_stay_with_their_batch_through_copies():
    batch = collate_clips([clip(2), clip(1, number=1)])
    for same in (batch.to("meta"), batch.take_people(torch.tensor([1])), replace(batch, domain="target")):
        assert type(same) is LabelledClipBatch
        assert len(same.labels) == same.num_boxes
    again = batch.without_labels().with_labels(batch.labels)
    assert again.people == batch.people
    assert again.labels is batch.labels


@pytest.mark.parametrize("made", [clip(2, labelled=False), collate_clips([clip(2, labelled=False)])])
def test_each_person_has_one_row_of_labels(made):
    with pytest.raises(ValueError, match=r"\b3\b.*\b2\b"):
        made.with_labels(torch.ones(3, 4))
