"""Data sets with feature maps in place of frames: what changes their fingerprint, and whose people and labels they have."""

import os

import cv2
import numpy as np
import pytest
import torch

from microg_da.data.feature_store import ClipRecord
from microg_da.data.sources import open_dataset
from microg_da.data.stored_clips import StorableClips, StoredClips, StoredViews, storable
from microg_da.errors import InputError
from microg_da.transforms.stored_frames import AS_FILMED, StoredView
from microg_da.types import LabelledClip


def open_tree(tree, **options):
    return open_dataset(f"ava:{tree}?stamp=frames", "train", num_frames=2, image_size=32, **options)


def test_the_fingerprint_is_that_of_the_clips_and_not_of_labels_or_seeds(tree):
    base = open_tree(tree).fingerprint()
    assert open_tree(tree).fingerprint() == base
    assert open_tree(tree, labelled=True, seed=3).fingerprint() == base


@pytest.mark.parametrize("change", ["pixels", "boxes", "window", "size", "shown in training"])
def test_the_fingerprint_changes_with_what_is_shown(tree, change):
    base = open_tree(tree).fingerprint()
    options = {"window": {"sampling_rate": 1}, "size": {"image_size": 48}, "shown in training": {"train": True}}
    if change == "pixels":
        path = tree / "frames" / "filmA_001" / "filmA_001_000004.jpg"
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    elif change == "boxes":
        table = tree / "annotations" / "ava_train.csv"
        table.write_text(table.read_text().replace("0.3,0.3,0.6,0.6,14", "0.3,0.3,0.6,0.7,14"))
    given = options.get(change, {})
    opened = open_dataset(f"ava:{tree}?stamp=frames", "train", **{"num_frames": 2, "image_size": 32, **given})
    assert opened.fingerprint() != base


def test_frames_that_are_never_read_do_not_matter(tree):
    base = open_tree(tree).fingerprint()
    os.utime(tree / "frames" / "filmA_001" / "filmA_001_000012.jpg", (1, 1))
    assert open_tree(tree).fingerprint() == base


def test_rolled_cameras_have_another_fingerprint_for_each_seed(tree):
    seen = {
        open_dataset(f"ava:{tree}?stamp=frames{rest}", "train", num_frames=2, image_size=32).fingerprint()
        for rest in ("", "&gravity=rolled", "&gravity=rolled&gravity_seed=1")
    }
    assert len(seen) == 3


def test_the_embedded_data_has_the_fingerprint_of_its_specification():
    source = "synthetic:earth?num_clips=2&workers=0"
    first, second, third = (
        open_dataset(text, image_size=size, labelled=labelled)
        for text, size, labelled in ((source, 32, False), (source, 32, True), (source, 48, False))
    )
    assert first.fingerprint() == second.fingerprint() != third.fingerprint()


def test_a_training_draw_depends_on_its_number_and_not_on_the_seed(tree):
    drawn = [
        open_tree(tree, train=True, seed=seed).training_draw(number)[0] for seed, number in ((0, 1), (5, 1), (0, 2))
    ]
    assert torch.equal(drawn[0].boxes, drawn[1].boxes)
    assert not torch.equal(drawn[0].boxes, drawn[2].boxes)


class MemoryEntry:
    """An entry whose every clip has lost its first person to a crop."""

    def __init__(self, clips, mark):
        self.clips = clips
        self.mark = mark

    def __len__(self):
        return len(self.clips)

    def maps(self, row):
        return (torch.full((1, 1, 1, 1), float(self.mark)).half(),)

    def record(self, row):
        clip = self.clips[row]
        kept = range(1, len(clip.boxes))
        return ClipRecord((3, 2, 32, 32), tuple(kept), clip.boxes[1:].numpy(), clip.table_boxes[1:].numpy())

    def frame_sizes(self):
        return np.array([[32, 32]] * len(self.clips))


def test_people_who_were_cropped_away_take_their_labels_with_them(tree):
    clips = open_tree(tree, labelled=True)
    stored = StoredClips(clips, [StoredViews({AS_FILMED: MemoryEntry(clips, 0)}, "source/train")])
    assert len(stored) == len(clips)
    for index in range(len(clips)):
        whole, rest = clips[index], stored[index]
        assert isinstance(rest, LabelledClip)
        assert rest.people == whole.people[1:]
        assert torch.equal(rest.labels, whole.labels[1:])
        assert torch.equal(rest.table_boxes, whole.table_boxes[1:])
    assert not isinstance(StoredClips(open_tree(tree), stored._draws)[0], LabelledClip)


def test_a_clip_comes_from_one_of_the_draws_by_seed_and_epoch(tree):
    clips = open_tree(tree)
    draws = [StoredViews({AS_FILMED: MemoryEntry(clips, mark)}, "source/train") for mark in range(3)]

    def marks(seed, epochs):
        stored, found = StoredClips(clips, draws, seed), []
        for epoch in epochs:
            stored.set_epoch(epoch)
            found += [float(stored[index].frames.maps()[0].flatten()[0]) for index in range(len(stored))]
        return found

    assert marks(0, range(20)) == marks(0, range(20)) != marks(1, range(20))
    assert set(marks(0, range(20))) == {0.0, 1.0, 2.0}


def test_a_view_that_is_not_stored_is_named(tree):
    clips = open_tree(tree)
    views = StoredViews({AS_FILMED: MemoryEntry(clips, 0)}, "target/test")
    with pytest.raises(InputError, match=r"target/test under roll 45°.*stored_views"):
        views.maps(0, StoredView(45.0))


def test_data_that_cannot_tell_when_it_changes_is_refused(tree):
    clips = open_tree(tree)
    assert isinstance(clips, StorableClips)

    class Outside:
        description = "package.module:open_clips"

    with pytest.raises(InputError, match="StorableClips"):
        storable(Outside())
    clips.frames = Outside()
    with pytest.raises(InputError, match="stamp"):
        clips.fingerprint()


def test_a_missing_frame_is_named(tree):
    clips = open_tree(tree)
    clips.frames.num_frames("filmA_001")
    (tree / "frames" / "filmA_001" / "filmA_001_000004.jpg").unlink()
    with pytest.raises(InputError, match="filmA_001_000004"):
        clips.fingerprint()
